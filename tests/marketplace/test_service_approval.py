"""Services where the operator approves, and what the wire's tests do not reach (1494, 1239)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.certificates import CertificateAuthority
from foundation.errors import MarketError
from gem.marketplace.v1.service_pb2 import ServiceState
from gem.marketplace.v1.service_search_pb2 import ServiceRelation
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.service_description import words_of
from tests.control_plane import (
    BUSINESS,
    EVSE_OPERATOR,
    EVSP,
    INTERFACE_BODY,
    TECHNICAL,
    ControlPlane,
    control_plane,
    fields_of,
)
from tests.interceptors.support import raises

NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
CONFLICT = raises(ErrorReason.ERROR_REASON_CONFLICT)


@pytest.fixture
async def strict(
    control_plane_url: str, authority: CertificateAuthority
) -> AsyncIterator[ControlPlane]:
    """Give a market that asks for the operator's approval, with a provider and a requester."""
    async with control_plane(
        control_plane_url, authority, publication_needs_operator=True
    ) as opened:
        await opened.market()
        await opened.partner("volt", EVSE_OPERATOR)
        yield opened


async def ask(plane: ControlPlane, who: str, method: str, service: Any, **fields: Any) -> Any:
    """Call a method of the registry about a service."""
    wanted = {"service_id": service.service_id, **fields}
    return await plane.ask(who, f"ServiceRegistryService/{method}", **wanted)


async def state(plane: ControlPlane, service: Any) -> str:
    """Give the state by name."""
    shown = (await ask(plane, TECHNICAL, "GetService", service)).service
    return ServiceState.Name(shown.state).removeprefix("SERVICE_STATE_")


async def count(plane: ControlPlane, table: str) -> int:
    """Count the rows of a table."""
    async with plane.engine.connect() as connection:
        return int(await connection.scalar(text(f"SELECT count(*) FROM marketplace.{table}")) or 0)


@pytest.mark.usecase(1494)
async def test_where_approval_is_asked_for_a_publication_waits_for_the_operator(
    strict: ControlPlane,
) -> None:
    service = await strict.register_service("volt")
    asked = (await ask(strict, "volt", "PublishService", service)).service
    assert asked.state == ServiceState.SERVICE_STATE_PUBLICATION_REQUESTED
    with pytest.raises(MarketError, match="asked for already", check=NOT_ALLOWED):
        await ask(strict, "volt", "PublishService", service)
    for step in ("StopService", "DisableService"):
        with pytest.raises(MarketError, match="is not published", check=NOT_ALLOWED):
            await ask(strict, "volt", step, service)
    with pytest.raises(MarketError, match="not disabled", check=NOT_ALLOWED):
        await ask(strict, "volt", "DeleteService", service)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await ask(strict, "evsp", "GetService", service)
    await ask(strict, TECHNICAL, "PublishService", service)
    assert await state(strict, service) == "PUBLISHED"


@pytest.mark.usecase(1494)
async def test_a_refused_publication_says_why_and_can_be_asked_for_again(
    strict: ControlPlane,
) -> None:
    service = await strict.register_service("volt")
    refuse = {"reason": "The description says nothing."}
    with pytest.raises(MarketError, match="not asked for", check=NOT_ALLOWED):
        await ask(strict, TECHNICAL, "RefusePublication", service, **refuse)
    await ask(strict, "volt", "PublishService", service)
    with pytest.raises(MarketError) as caught:
        await ask(strict, TECHNICAL, "RefusePublication", service, reason="")
    assert fields_of(caught.value) == ["reason"]
    await ask(strict, TECHNICAL, "RefusePublication", service, **refuse)
    assert await state(strict, service) == "REGISTERED"
    *_, last = (await ask(strict, "volt", "ListServiceEvents", service)).events
    assert (last.reason, last.actor) == (refuse["reason"], "operator/technical")
    inbox = await strict.ask("volt", "NotificationService/ListNotifications")
    assert "not published" in inbox.notifications[0].text
    assert refuse["reason"] not in inbox.notifications[0].text
    await ask(strict, "volt", "PublishService", service)
    assert await state(strict, service) == "PUBLICATION_REQUESTED"


@pytest.mark.usecase(1494)
async def test_a_new_version_waits_for_the_operator_as_well(strict: ControlPlane) -> None:
    service = await strict.service("volt")
    await ask(strict, "volt", "PrepareServiceVersion", service, service_version="2.0")
    answer = await ask(strict, "volt", "PublishServiceVersion", service)
    assert answer.service.service_version == "1.0"
    with pytest.raises(MarketError, match="asked for already", check=NOT_ALLOWED):
        await ask(strict, "volt", "PublishServiceVersion", service)
    await ask(strict, TECHNICAL, "RefusePublication", service, reason="Not yet.")
    assert await state(strict, service) == "PUBLISHED"
    await ask(strict, "volt", "PublishServiceVersion", service)
    answer = await ask(strict, TECHNICAL, "PublishServiceVersion", service)
    assert answer.service.service_version == "2.0"
    with pytest.raises(MarketError, match="no prepared version", check=NOT_ALLOWED):
        await ask(strict, TECHNICAL, "PublishServiceVersion", service)


@pytest.mark.usecase(1494)
async def test_an_approval_and_a_refusal_at_once_have_one_outcome(strict: ControlPlane) -> None:
    service = await strict.register_service("volt")
    await ask(strict, "volt", "PublishService", service)
    results = await asyncio.gather(
        ask(strict, TECHNICAL, "PublishService", service),
        ask(strict, TECHNICAL, "RefusePublication", service, reason="No."),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, MarketError)]
    # A refusal that comes first leaves a registered service, which an operator may publish.
    assert len(refused) <= 1
    assert await state(strict, service) == "PUBLISHED" or not refused


@pytest.mark.usecase(1477)
async def test_a_new_registration_contract_is_in_force_from_then_on_and_the_old_one_kept(
    plane: ControlPlane,
) -> None:
    await plane.market("volt")
    publish = "ServiceRegistryService/PublishRegistrationContract"
    fields = {"title": "New terms", "text": "Be good."}
    made = await plane.ask(BUSINESS, publish, **fields)
    assert made.registration_contract.version == 2
    for who in ("volt", TECHNICAL):
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
            await plane.ask(who, publish, **fields)
    with pytest.raises(MarketError) as caught:
        await plane.register_service("volt")
    assert caught.value.metadata == {"current_version": "2"}
    assert await count(plane, "service") == 1
    get = "ServiceRegistryService/GetRegistrationContract"
    shown = await plane.ask("volt", get)
    assert (shown.current_version, shown.registration_contract.text) == (2, "Be good.")
    first = await plane.ask("volt", get, version=1)
    assert first.registration_contract.title == "Service registration contract"
    assert not first.registration_contract.HasField("publish_time")
    service = await plane.register_service("volt", accepted_registration_contract_version=2)
    async with plane.engine.connect() as connection:
        query = text("SELECT * FROM marketplace.registration_acceptance ORDER BY accepted_at")
        *_, row = (await connection.execute(query)).all()
    assert (row.service_id, row.version, row.actor) == (service.service_id, 2, "volt")
    assert row.accepted_at is not None


@pytest.mark.usecase(1477)
async def test_of_contracts_published_at_once_each_has_a_version_of_its_own(
    plane: ControlPlane,
) -> None:
    publish = "ServiceRegistryService/PublishRegistrationContract"
    made = await asyncio.gather(
        *(plane.ask(BUSINESS, publish, title=f"T{n}", text="Terms.") for n in range(3))
    )
    assert sorted(each.registration_contract.version for each in made) == [2, 3, 4]


@pytest.mark.usecase(1477)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE marketplace.registration_acceptance SET version = 7",
        "DELETE FROM marketplace.registration_acceptance",
        "DELETE FROM marketplace.service",
        "UPDATE marketplace.service SET service_id = 'other'",
        "UPDATE marketplace.service SET provider_id = 'evsp'",
        "UPDATE marketplace.service SET state = 'PAUSED'",
        "UPDATE marketplace.service_event SET reason = 'another'",
    ],
)
async def test_the_database_refuses_to_forget_what_was_accepted_or_to_reuse_an_id(
    plane: ControlPlane, statement: str
) -> None:
    await plane.market("volt")
    async with plane.engine.connect() as connection:
        with pytest.raises(DBAPIError):
            await connection.execute(text(statement))


@pytest.mark.usecase(1486)
async def test_a_deleted_service_never_changes_again(plane: ControlPlane) -> None:
    await plane.market("volt")
    service = await plane.register_service("volt")
    await ask(plane, "volt", "DeleteService", service)
    for method, fields in (
        ("ChangeServiceEndpoint", {"endpoint": "a.example:1"}),
        ("SetRelatedServices", {}),
        ("PrepareServiceVersion", {"service_version": "9"}),
    ):
        with pytest.raises(MarketError, match="deleted", check=NOT_ALLOWED):
            await ask(plane, "volt", method, service, **fields)
    statement = text("UPDATE marketplace.service SET title = 'x' WHERE state = 'DELETED'")
    async with plane.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="never changes"):
            await connection.execute(statement)


@pytest.mark.usecase(1250)
async def test_a_name_that_leads_inside_is_refused_and_tells_nothing_of_the_network(
    plane: ControlPlane,
) -> None:
    await plane.market("volt")
    plane.hosts = {"inside.example": ["11.22.33.44", "10.0.0.7"], "none.example": []}
    for host in plane.hosts:
        with pytest.raises(MarketError) as caught:
            await plane.register_service("volt", endpoint=f"{host}:443")
        assert fields_of(caught.value) == ["endpoint"]
        assert "10.0" not in str(caught.value.violations)
    assert await count(plane, "service") == 1


@pytest.mark.usecase(1250)
async def test_a_repeated_registration_does_not_depend_on_what_a_name_means_by_then(
    plane: ControlPlane,
) -> None:
    await plane.market("volt")
    fields = {"request_id": "first-1", "endpoint": "moves.example:443"}
    first = await plane.register_service("volt", **fields)
    plane.hosts = {"moves.example": ["127.0.0.1"]}
    assert await plane.register_service("volt", **fields) == first


@pytest.mark.usecase(1494)
async def test_an_interface_that_the_providers_role_may_no_longer_implement_is_no_version(
    plane: ControlPlane,
) -> None:
    (service,) = await plane.market("volt")
    other = INTERFACE_BODY.replace("PARTNER_ROLE_EVSE_OPERATOR", "PARTNER_ROLE_DSO")
    await plane.publish_interface(other)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        await ask(plane, "volt", "PrepareServiceVersion", service, service_version="2")


@pytest.mark.usecase(1494)
async def test_versions_at_once_are_prepared_once(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    results = await asyncio.gather(
        *(
            ask(plane, "volt", "PrepareServiceVersion", service, service_version=f"2.{n}")
            for n in range(3)
        ),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, MarketError)]
    assert len(refused) == 2
    assert {error.reason for error in refused} == {ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED}


@pytest.mark.usecase(1239)
async def test_only_what_a_partners_roles_may_call_is_available_to_it(plane: ControlPlane) -> None:
    await plane.market("volt")
    await plane.partner("watt", EVSE_OPERATOR)
    await plane.partner("both", EVSE_OPERATOR, EVSP)
    search = "ServiceRegistryService/SearchServices"
    available = ServiceRelation.SERVICE_RELATION_AVAILABLE
    found = {
        who: len((await plane.ask(who, search, relation=available)).found)
        for who in ("evsp", "watt", "both", "volt")
    }
    assert found == {"evsp": 1, "watt": 0, "both": 1, "volt": 0}


@pytest.mark.usecase(1239)
async def test_no_word_of_a_search_is_taken_for_a_pattern(plane: ControlPlane) -> None:
    await plane.market("volt")
    search = "ServiceRegistryService/SearchServices"
    for tried in ("%", "_", "100%", "a_b", "se%ch", "\\\\", "' OR 1=1 --"):
        if not words_of(tried):
            with pytest.raises(MarketError) as caught:
                await plane.ask("evsp", search, text=tried)
            assert fields_of(caught.value) == ["text"]
            continue
        assert not (await plane.ask("evsp", search, text=tried)).found
