"""ServiceRegistryService over a real database (use cases 1250, 1494, 1255)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from gem.marketplace.v1.service_pb2 import ServiceState
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import (
    BUSINESS,
    EVSE_OPERATOR,
    EVSP,
    INTERFACE,
    TECHNICAL,
    TERMS,
    ControlPlane,
    fields_of,
)
from tests.interceptors.support import raises

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
STEPS = ["PublishService", "StopService", "StartService"]


@pytest.fixture
async def plane(plane: ControlPlane) -> ControlPlane:
    """Give a market with an interface, a provider and a requester."""
    await plane.market()
    await plane.partner("volt", EVSE_OPERATOR)
    return plane


async def _step(plane: ControlPlane, method: str, service_id: str, who: str = TECHNICAL) -> Any:
    answer = await plane.ask(who, f"ServiceRegistryService/{method}", service_id=service_id)
    return answer.service


@pytest.mark.usecase(1250)
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"accepted_registration_contract_version": 0}, "accepted_registration_contract_version"),
        ({"description": ""}, "description"),
        ({"title": ""}, "title"),
        ({"interface_name": ""}, "interface_name"),
        ({"service_version": "one two"}, "service_version"),
        ({"endpoint": "http://host:1"}, "endpoint"),
        ({"offering": None}, "offering"),
        ({"offering": {**TERMS, "sections": []}}, "offering.sections"),
        ({"offering": {**TERMS, "sections": [TERMS["sections"][0]] * 2}}, "offering"),
        ({"offering": {**TERMS, "price": None}}, "offering.price"),
        ({"offering": {**TERMS, "price": {}}}, "offering.price.model"),
        (
            {
                "offering": {
                    **TERMS,
                    "price": {"per_call": {"price": {"amount_micros": -1, "currency_code": "EUR"}}},
                }
            },
            "offering.price.per_call.price",
        ),
    ],
)
async def test_an_incomplete_registration_names_the_field_and_registers_nothing(
    plane: ControlPlane, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(MarketError) as caught:
        await plane.register_service("volt", **wrong)
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert fields_of(caught.value) == [field]
    assert not (await plane.ask(TECHNICAL, "ServiceRegistryService/ListServices")).services


@pytest.mark.usecase(1250)
async def test_an_interface_that_the_catalogue_lacks_cannot_be_implemented(
    plane: ControlPlane,
) -> None:
    for wrong in ({"interface_name": "no.Such"}, {"interface_version": 2}):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await plane.register_service("volt", **wrong)


@pytest.mark.usecase(1250)
async def test_a_role_that_the_interface_does_not_allow_cannot_implement_it(
    plane: ControlPlane,
) -> None:
    with pytest.raises(MarketError, check=FORBIDDEN):
        await plane.register_service("evsp")


async def test_a_partner_that_is_not_active_registers_nothing(plane: ControlPlane) -> None:
    await plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id="volt")
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE)):
        await plane.register_service("volt")


@pytest.mark.usecase(1494, 1255)
@pytest.mark.parametrize("method", STEPS)
@pytest.mark.parametrize(("who", "refusal"), [("evsp", NOT_FOUND), (BUSINESS, FORBIDDEN)])
async def test_publishing_stopping_and_starting_are_the_providers_and_the_technical_operators(
    plane: ControlPlane, method: str, who: str, refusal: Any
) -> None:
    service = await plane.register_service("volt")
    with pytest.raises(MarketError, check=refusal):
        await _step(plane, method, service.service_id, who)


@pytest.mark.usecase(1255)
async def test_stop_and_start_are_refused_where_they_do_not_fit(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    for method, refusal in (
        ("StopService", "The service is not published."),
        ("PublishService", None),
        ("StartService", "The service is not stopped."),
        ("StopService", None),
        ("StopService", "The service is not started."),
        ("StartService", None),
    ):
        if refusal is None:
            await _step(plane, method, service.service_id)
            continue
        with pytest.raises(MarketError, match=refusal, check=NOT_ALLOWED):
            await _step(plane, method, service.service_id)


@pytest.mark.usecase(1255)
async def test_of_two_stops_at_once_one_wins(plane: ControlPlane) -> None:
    service = await plane.service("volt")
    results = await asyncio.gather(
        *(_step(plane, "StopService", service.service_id) for _ in range(3)),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, MarketError)]
    assert len(refused) == 2
    assert {error.reason for error in refused} == {ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED}


async def test_only_its_provider_changes_a_services_endpoint(plane: ControlPlane) -> None:
    service = await plane.service("volt")
    method = "ServiceRegistryService/ChangeServiceEndpoint"
    for who in ("evsp", "nobody"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await plane.ask(who, method, service_id=service.service_id, endpoint="evil.example:1")
    with pytest.raises(MarketError, check=FORBIDDEN):
        await plane.ask(TECHNICAL, method, service_id=service.service_id, endpoint="e.example:1")
    with pytest.raises(MarketError) as caught:
        await plane.ask("volt", method, service_id=service.service_id, endpoint="0.0.0.0:1")
    assert fields_of(caught.value) == ["endpoint"]
    changed = await plane.ask(
        "volt", method, service_id=service.service_id, endpoint="New.Example:2"
    )
    assert changed.service.endpoint == "new.example:2"


@pytest.mark.usecase(1250, 1494)
async def test_a_service_is_disabled_and_hidden_until_it_is_published(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    assert service.state == ServiceState.SERVICE_STATE_REGISTERED
    assert (service.interface_name, service.interface_version) == (INTERFACE, 1)
    get, wanted = "ServiceRegistryService/GetService", {"service_id": service.service_id}
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.ask("evsp", get, **wanted)
    assert not (await plane.ask("evsp", "ServiceRegistryService/ListServices")).services
    assert (await plane.ask("volt", get, **wanted)).service == service
    published = await _step(plane, "PublishService", service.service_id)
    assert published.state == ServiceState.SERVICE_STATE_PUBLISHED
    assert (await plane.ask("evsp", get, **wanted)).service.offerings == service.offerings


async def test_where_a_service_is_called_is_its_providers_and_the_operators_business(
    plane: ControlPlane,
) -> None:
    service = await plane.service("volt")
    shown = {}
    for who in ("evsp", "volt", BUSINESS, TECHNICAL):
        answer = await plane.ask(
            who, "ServiceRegistryService/GetService", service_id=service.service_id
        )
        shown[who] = answer.service.endpoint
    assert shown.pop("evsp") == ""
    assert set(shown.values()) == {"volt.example:8443"}


async def test_services_are_listed_page_by_page_in_the_order_of_registration(
    plane: ControlPlane,
) -> None:
    await plane.partner("watt", EVSE_OPERATOR, EVSP)
    made = [await plane.service("volt" if number % 2 else "watt") for number in range(5)]
    hidden = await plane.register_service("watt")
    method, listed = "ServiceRegistryService/ListServices", []
    page: dict[str, Any] = {"page_size": 2}
    while "page_token" not in page or page["page_token"]:
        answer = await plane.ask("evsp", method, page=page)
        listed += [service.service_id for service in answer.services]
        page["page_token"] = answer.page.next_page_token
    assert listed == [service.service_id for service in made]
    mine = await plane.ask("watt", method, provider_id="watt")
    assert [service.service_id for service in mine.services][-1] == hidden.service_id
    registered = ServiceState.SERVICE_STATE_REGISTERED
    assert len((await plane.ask(TECHNICAL, method, state=registered)).services) == 1
    assert not (await plane.ask(TECHNICAL, method, interface_name="no.Such")).services


@pytest.mark.usecase(1250, 1255)
async def test_every_step_of_a_service_is_remembered_and_cannot_be_changed(
    plane: ControlPlane,
) -> None:
    service = await plane.service("volt")
    await _step(plane, "StopService", service.service_id)
    async with plane.engine.connect() as connection:
        query = "SELECT kind, state, actor FROM marketplace.service_event ORDER BY position"
        rows = [tuple(row) for row in await connection.execute(text(query))]
    assert rows == [
        ("REGISTERED", "REGISTERED", "volt"),
        ("PUBLISHED", "PUBLISHED", "operator/technical"),
        ("STOPPED", "STOPPED", "operator/technical"),
    ]
    for statement in ("UPDATE marketplace.service_event SET actor = 'x'", "DELETE FROM %s"):
        async with plane.engine.connect() as connection:
            with pytest.raises(Exception, match="never changes"):
                await connection.execute(text(statement.replace("%s", "marketplace.service_event")))
