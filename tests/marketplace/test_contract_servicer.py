"""ContractService over a real database (use cases 1485, 1490, 1479)."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.errors import MarketError
from gem.marketplace.v1.contract_pb2 import ContractEventKind, ContractState
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import (
    BUSINESS,
    EVSE_OPERATOR,
    EVSP,
    REQUIRED,
    TECHNICAL,
    ControlPlane,
    fields_of,
)
from tests.interceptors.support import raises

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
ACTIVE = ContractState.CONTRACT_STATE_ACTIVE
SUSPENDED = ContractState.CONTRACT_STATE_SUSPENDED
TERMINATED = ContractState.CONTRACT_STATE_TERMINATED


async def _step(plane: ControlPlane, method: str, contract_id: str, who: str = "evsp") -> Any:
    answer = await plane.ask(who, f"ContractService/{method}Contract", contract_id=contract_id)
    return answer.contract


async def _contracts(plane: ControlPlane) -> list[Any]:
    return list((await plane.ask(BUSINESS, "ContractService/ListContracts")).contracts)


@pytest.mark.usecase(1485)
async def test_without_all_required_sections_no_contract_is_made(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    with pytest.raises(MarketError) as caught:
        await plane.contract("evsp", service, section_ids=["price", "support"])
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert [violation.rule for violation in caught.value.violations] == ["section_required"]
    assert "service-level" in caught.value.violations[0].description
    assert not await _contracts(plane)


@pytest.mark.usecase(1485)
async def test_an_offering_that_is_rejected_makes_no_contract(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    with pytest.raises(MarketError) as caught:
        await plane.contract("evsp", service, accepted=False)
    assert fields_of(caught.value) == ["accepted"]
    assert not await _contracts(plane)


@pytest.mark.usecase(1485)
async def test_what_is_not_offered_cannot_be_accepted(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    hidden = await plane.register_service("volt")
    for offering_id in ("no-such", service.service_id, hidden.offerings[0].offering_id):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await plane.contract("evsp", service, offering_id=offering_id)
    await plane.ask(TECHNICAL, "ServiceRegistryService/StopService", service_id=service.service_id)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await plane.contract("evsp", service)


@pytest.mark.usecase(1485)
async def test_roles_decide_who_may_contract(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    await plane.partner("watt", EVSE_OPERATOR)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await plane.contract("watt", service)
    for operator in (BUSINESS, TECHNICAL):
        with pytest.raises(MarketError, check=FORBIDDEN):
            await plane.contract(operator, service)


async def test_a_partner_has_no_contract_with_itself(plane: ControlPlane) -> None:
    await plane.market()
    await plane.partner("volt", EVSE_OPERATOR, EVSP)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await plane.contract("volt", await plane.service("volt"))


@pytest.mark.usecase(1485)
async def test_one_contract_for_a_service_is_in_force_at_a_time(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    first = await plane.contract("evsp", service)
    taken = raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)
    with pytest.raises(MarketError, check=taken):
        await plane.contract("evsp", service)
    await _step(plane, "Suspend", first.contract_id)
    with pytest.raises(MarketError, check=taken):
        await plane.contract("evsp", service)
    await _step(plane, "Terminate", first.contract_id)
    second = await plane.contract("evsp", service)
    assert second.contract_id != first.contract_id


async def test_of_two_contracts_at_once_one_is_made(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    results = await asyncio.gather(
        *(plane.contract("evsp", service) for _ in range(4)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, MarketError)]
    assert [error.reason for error in refused] == [ErrorReason.ERROR_REASON_ALREADY_EXISTS] * 3
    assert len(await _contracts(plane)) == 1


@pytest.mark.usecase(1490)
async def test_suspension_is_the_requesters(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    await plane.partner("other", EVSP)
    contract = await plane.contract("evsp", service)
    for method in ("Suspend", "Resume"):
        with pytest.raises(MarketError, check=FORBIDDEN):
            await _step(plane, method, contract.contract_id, "volt")
        with pytest.raises(MarketError, check=FORBIDDEN):
            await _step(plane, method, contract.contract_id, BUSINESS)
        with pytest.raises(MarketError, check=NOT_FOUND):
            await _step(plane, method, contract.contract_id, "other")


@pytest.mark.usecase(1479)
async def test_to_others_a_contract_does_not_exist(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    await plane.partner("other", EVSP)
    contract = await plane.contract("evsp", service)
    for method in ("GetContract", "TerminateContract", "ListContractEvents"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await plane.ask("other", f"ContractService/{method}", contract_id=contract.contract_id)
    listing = "ContractService/ListContracts"
    for condition in ({}, {"requester_id": "evsp"}, {"provider_id": "volt"}):
        assert not (await plane.ask("other", listing, **condition)).contracts
    for party in ("evsp", "volt", BUSINESS, TECHNICAL):
        assert len((await plane.ask(party, listing)).contracts) == 1


@pytest.mark.usecase(1485, 1479)
async def test_a_contract_is_what_was_accepted_whatever_changes_later(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    made = await plane.contract("evsp", service, section_ids=[*REQUIRED, "support"])
    assert (made.requester_id, made.provider_id, made.state) == ("evsp", "volt", ACTIVE)
    assert [section.section_id for section in made.terms.sections] == [*REQUIRED, "support"]
    assert made.terms.price.per_call.price.amount_micros == 20_000
    method = "ServiceRegistryService/ChangeServiceEndpoint"
    await plane.ask("volt", method, service_id=service.service_id, endpoint="new.example:1")
    get = "ContractService/GetContract"
    found = await plane.ask("volt", get, contract_id=made.contract_id)
    assert found.contract == made
    for change in ("terms = ''", "price_per_call_micros = 0", "requester_id = 'volt'"):
        async with plane.engine.connect() as connection:
            with pytest.raises(DBAPIError):
                await connection.execute(text(f"UPDATE marketplace.contract SET {change}"))


@pytest.mark.usecase(1490, 1479)
async def test_the_history_says_what_happened_and_who_did_it(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    for method in ("Suspend", "Resume", "Suspend"):
        await _step(plane, method, contract.contract_id)
    ended = await _step(plane, "Terminate", contract.contract_id, BUSINESS)
    assert ended.state == TERMINATED
    assert ended.HasField("terminate_time")
    events: list[Any] = []
    page: dict[str, Any] = {"page_size": 2}
    while "page_token" not in page or page["page_token"]:
        method, wanted = "ContractService/ListContractEvents", contract.contract_id
        answer = await plane.ask("volt", method, contract_id=wanted, page=page)
        events += answer.events
        page["page_token"] = answer.page.next_page_token
    kinds = [
        ContractEventKind.Name(event.kind).removeprefix("CONTRACT_EVENT_KIND_") for event in events
    ]
    assert kinds == ["CREATED", "SUSPENDED", "RESUMED", "SUSPENDED", "TERMINATED"]
    states = [event.state for event in events]
    assert states == [ACTIVE, SUSPENDED, ACTIVE, SUSPENDED, TERMINATED]
    assert [event.actor for event in events] == ["evsp"] * 4 + ["operator/business"]


async def test_contracts_are_listed_in_contract_order_without_their_terms(
    plane: ControlPlane,
) -> None:
    services = await plane.market("c-last", "a-first", "b-middle")
    made = [await plane.contract("evsp", service) for service in services]
    await _step(plane, "Suspend", made[1].contract_id)
    listing = "ContractService/ListContracts"
    first = await plane.ask("evsp", listing, page={"page_size": 2})
    token = first.page.next_page_token
    rest = await plane.ask("evsp", listing, page={"page_size": 2, "page_token": token})
    listed = [*first.contracts, *rest.contracts]
    assert [c.contract_id for c in listed] == [c.contract_id for c in made]
    assert not any(contract.HasField("terms") for contract in listed)
    suspended = await plane.ask("evsp", listing, state=SUSPENDED)
    assert [c.contract_id for c in suspended.contracts] == [made[1].contract_id]
    of_service = await plane.ask(BUSINESS, listing, service_id=services[2].service_id)
    assert [c.contract_id for c in of_service.contracts] == [made[2].contract_id]


@pytest.mark.usecase(1490)
async def test_conflicting_steps_at_once_leave_a_linear_history(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    rng = random.Random(7)
    steps = [rng.choice(["Suspend", "Resume"]) for _ in range(24)] + ["Terminate"]
    results = await asyncio.gather(
        *(_step(plane, step, contract.contract_id) for step in steps), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert {getattr(error, "reason", error) for error in refused} <= {
        ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED
    }
    method = "ContractService/ListContractEvents"
    events = (await plane.ask("evsp", method, contract_id=contract.contract_id)).events
    assert len(events) == 1 + len(steps) - len(refused)
    assert all(a.state != b.state for a, b in itertools.pairwise(events))
    assert events[-1].state == TERMINATED
