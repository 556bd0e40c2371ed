"""Whatever partners do with services, nobody reads, changes or counts what is another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1.service_pb2 import ServiceState
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, TECHNICAL, ControlPlane
from tests.interceptors.support import raises

HIDDEN = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
REGISTRY = "ServiceRegistryService"
#: Every command on a service, with what it needs besides the id.
COMMANDS: dict[str, dict[str, Any]] = {
    "PublishService": {},
    "StopService": {},
    "StartService": {},
    "DisableService": {},
    "EnableService": {},
    "DeleteService": {},
    "ChangeServiceEndpoint": {"endpoint": "evil.example:1"},
    "ChangeServiceDescription": {"title": "Mine now"},
    "PrepareServiceVersion": {"service_version": "9"},
    "PublishServiceVersion": {},
    "WithdrawServiceVersion": {},
    "SetRelatedServices": {},
}
#: States, and the steps that lead there from a registration.
PATHS = {
    "REGISTERED": (),
    "PUBLISHED": ("PublishService",),
    "STOPPED": ("PublishService", "StopService"),
    "DISABLED": ("PublishService", "StopService", "DisableService"),
    "DELETED": ("DeleteService",),
}
VISIBLE = {"PUBLISHED", "STOPPED"}


@pytest.fixture
async def plane(plane: ControlPlane) -> ControlPlane:
    """Give a market with two providers and a requester."""
    await plane.market()
    for provider in ("volt", "watt"):
        await plane.partner(provider, EVSE_OPERATOR)
    return plane


async def brought_to(plane: ControlPlane, state: str, **fields: Any) -> Any:
    """Give a service of `volt` in a state."""
    service = await plane.register_service("volt", **fields)
    for step in PATHS[state]:
        await plane.ask("volt", f"{REGISTRY}/{step}", service_id=service.service_id)
    return service


async def events(plane: ControlPlane, service: Any) -> list[Any]:
    """Give the history of a service."""
    wanted = {"service_id": service.service_id}
    return list((await plane.ask(TECHNICAL, f"{REGISTRY}/ListServiceEvents", **wanted)).events)


@pytest.mark.usecase(1486, 1494, 1255)
@pytest.mark.parametrize("state", PATHS)
async def test_no_command_of_another_partner_reaches_a_service_in_any_state(
    plane: ControlPlane, state: str
) -> None:
    service = await brought_to(plane, state)
    before = await events(plane, service)
    for method, fields in COMMANDS.items():
        for stranger in ("watt", "evsp"):
            with pytest.raises(MarketError, check=HIDDEN):
                await plane.ask(
                    stranger, f"{REGISTRY}/{method}", service_id=service.service_id, **fields
                )
    assert await events(plane, service) == before


@pytest.mark.parametrize("method", COMMANDS)
async def test_a_command_on_what_never_was_tells_no_more_than_on_what_is_anothers(
    plane: ControlPlane, method: str
) -> None:
    service = await brought_to(plane, "REGISTERED")
    told = []
    for service_id in (service.service_id, "never-was"):
        with pytest.raises(MarketError, check=HIDDEN) as caught:
            await plane.ask(
                "watt", f"{REGISTRY}/{method}", service_id=service_id, **COMMANDS[method]
            )
        told.append((caught.value.message, caught.value.metadata))
    assert told[0] == told[1]


@pytest.mark.parametrize("method", COMMANDS)
async def test_the_business_operator_takes_no_step_of_a_service(
    plane: ControlPlane, method: str
) -> None:
    service = await brought_to(plane, "PUBLISHED")
    with pytest.raises(MarketError, check=FORBIDDEN):
        await plane.ask(
            BUSINESS, f"{REGISTRY}/{method}", service_id=service.service_id, **COMMANDS[method]
        )


@pytest.mark.usecase(1484, 1239)
@pytest.mark.parametrize("state", PATHS)
async def test_others_see_a_service_only_while_it_is_published(
    plane: ControlPlane, state: str
) -> None:
    service = await brought_to(plane, state, title="Smaragd")
    wanted = {"service_id": service.service_id}
    queries: dict[str, Callable[[Any], bool]] = {
        "SearchServices": lambda answer: bool(answer.found),
        "ListServices": lambda answer: bool(answer.services),
    }
    for method, seen in queries.items():
        fields = {"text": "smaragd"} if method == "SearchServices" else {}
        answer = await plane.ask("evsp", f"{REGISTRY}/{method}", **fields)
        assert seen(answer) is (state in VISIBLE)
        own = await plane.ask("volt", f"{REGISTRY}/{method}", **fields)
        assert seen(own) is (state != "DELETED")
    for method in ("GetService", "ListServiceVersions"):
        if state in VISIBLE:
            await plane.ask("evsp", f"{REGISTRY}/{method}", **wanted)
            continue
        with pytest.raises(MarketError, check=HIDDEN):
            await plane.ask("evsp", f"{REGISTRY}/{method}", **wanted)
    for who in ("volt", BUSINESS, TECHNICAL):
        shown = (await plane.ask(who, f"{REGISTRY}/GetService", **wanted)).service
        assert ServiceState.Name(shown.state) == f"SERVICE_STATE_{state}"


@pytest.mark.usecase(1239)
async def test_what_others_have_contracted_is_no_condition_of_ones_own_search(
    plane: ControlPlane,
) -> None:
    service = await brought_to(plane, "PUBLISHED")
    await plane.partner("second", EVSP)
    await plane.contract("second", service)
    method = f"{REGISTRY}/SearchServices"
    relations = {"CONTRACTED": 2, "AVAILABLE": 3}
    found = {
        (who, name): len((await plane.ask(who, method, relation=number)).found)
        for who in ("evsp", "second")
        for name, number in relations.items()
    }
    assert found == {
        ("evsp", "CONTRACTED"): 0,
        ("evsp", "AVAILABLE"): 1,
        ("second", "CONTRACTED"): 1,
        ("second", "AVAILABLE"): 0,
    }


async def test_an_endpoint_and_a_contact_are_shown_to_nobody_else(plane: ControlPlane) -> None:
    hosting = {"country_code": "DE", "operator_name": "Rack", "contact_email": "a@rack.example"}
    service = await brought_to(plane, "PUBLISHED", hosting=hosting, title="Granit")
    wanted = {"service_id": service.service_id}
    await plane.ask(
        "volt",
        f"{REGISTRY}/PrepareServiceVersion",
        service_version="2",
        endpoint="next.example:1",
        **wanted,
    )
    answers = [
        await plane.ask("evsp", f"{REGISTRY}/GetService", **wanted),
        await plane.ask("evsp", f"{REGISTRY}/ListServices"),
        await plane.ask("evsp", f"{REGISTRY}/SearchServices", text="granit"),
        await plane.ask("evsp", f"{REGISTRY}/ListServiceVersions", **wanted),
    ]
    for answer in answers:
        assert "Rack" in str(answer) or not answer.DESCRIPTOR.name.startswith("GetService")
        assert "rack.example" not in str(answer)
        assert ".example:" not in str(answer)
    own = await plane.ask("volt", f"{REGISTRY}/ListServiceVersions", **wanted)
    assert own.versions[0].endpoint == "next.example:1"


async def test_an_image_is_shown_with_its_service_and_listed_for_its_owner(
    plane: ControlPlane,
) -> None:
    reference = f"registry.example/volt@sha256:{'cd' * 32}"
    made = await plane.ask("volt", f"{REGISTRY}/RegisterServiceImage", reference=reference)
    service = await brought_to(plane, "PUBLISHED", image_id=made.image.image_id)
    listing = f"{REGISTRY}/ListServiceImages"
    assert [each.reference for each in (await plane.ask("volt", listing)).images] == [reference]
    assert not (await plane.ask("watt", listing)).images
    with pytest.raises(MarketError, check=HIDDEN):
        await plane.ask("watt", listing, provider_id="volt")
    with pytest.raises(MarketError, check=HIDDEN):
        await plane.ask(BUSINESS, listing)
    assert len((await plane.ask(BUSINESS, listing, provider_id="volt")).images) == 1
    get = f"{REGISTRY}/GetService"
    shown = await plane.ask("evsp", get, service_id=service.service_id)
    assert shown.service.image.reference == reference


async def test_opting_out_is_each_partners_own_choice(plane: ControlPlane) -> None:
    await plane.partner("second", EVSP)
    service = await brought_to(plane, "PUBLISHED")
    other = await brought_to(plane, "PUBLISHED")
    await plane.ask(
        "volt",
        f"{REGISTRY}/SetRelatedServices",
        service_id=service.service_id,
        related_service_ids=[other.service_id],
    )
    for _ in range(2):
        await plane.ask("evsp", f"{REGISTRY}/SetCrossSaleOptOut", opted_out=True)
    get = f"{REGISTRY}/GetService"
    shown = {
        who: len((await plane.ask(who, get, service_id=service.service_id)).related_services)
        for who in ("evsp", "second", BUSINESS)
    }
    assert shown == {"evsp": 0, "second": 1, BUSINESS: 1}
    # A related service that is stopped is not offered.
    await plane.ask("volt", f"{REGISTRY}/StopService", service_id=other.service_id)
    answer = await plane.ask("second", get, service_id=service.service_id)
    assert not answer.related_services


async def test_a_service_is_not_related_to_itself_nor_to_a_deleted_one(plane: ControlPlane) -> None:
    service = await brought_to(plane, "PUBLISHED")
    gone = await brought_to(plane, "DELETED")
    method, wanted = f"{REGISTRY}/SetRelatedServices", {"service_id": service.service_id}
    with pytest.raises(MarketError, check=HIDDEN):
        await plane.ask("volt", method, related_service_ids=[gone.service_id], **wanted)
    itself = await plane.ask("volt", method, related_service_ids=[service.service_id], **wanted)
    assert not itself.related_services


@pytest.mark.parametrize("kept", ["title", "description", "keywords", "hosting"])
async def test_what_a_change_leaves_out_stays_as_it_was(plane: ControlPlane, kept: str) -> None:
    fields: dict[str, Any] = {
        "title": "Old",
        "description": "Old text",
        "keywords": {"words": ["old"]},
        "hosting": {"country_code": "DE", "operator_name": "Old"},
    }
    changes: dict[str, Any] = {
        "title": "New",
        "description": "New text",
        "keywords": {"words": []},
        "hosting": {"country_code": "DK", "operator_name": "New"},
    }
    service = await brought_to(plane, "PUBLISHED", **fields)
    del changes[kept]
    method = f"{REGISTRY}/ChangeServiceDescription"
    changed = (await plane.ask("volt", method, service_id=service.service_id, **changes)).service
    assert getattr(changed, kept) == getattr(service, kept)
    for name in changes:
        assert getattr(changed, name) != getattr(service, name)
