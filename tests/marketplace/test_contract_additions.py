"""Further services under a contract, and what routing makes of agreed instants (1682)."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.database import connect_raw
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract_housekeeping import ContractHousekeeping
from marketplace.storage_snapshot import SnapshotStorage
from tests.contracts import (
    DAY,
    START,
    Deal,
    amendment_state,
    deal,
    framework_terms,
    time,
)
from tests.control_plane import EVSE_OPERATOR, INTERFACE, ControlPlane, fields_of
from tests.interceptors.support import raises

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
MONTH = {"duration_days": 30}


def _proposed(micros: int = 9, **fields: Any) -> dict[str, Any]:
    made = framework_terms(micros=micros, **fields)
    return {"sections": made["sections"], "price": made["price"]}


def _micros(contract: Any) -> int:
    return int(contract.terms.price.per_call.price.amount_micros)


async def _sweep(plane: ControlPlane) -> int:
    return await ContractHousekeeping(plane.engine, lambda: plane.now or START).sweep()


async def _titles(plane: ControlPlane, who: str) -> list[str]:
    answer = await plane.ask(who, "NotificationService/ListNotifications")
    return [each.title for each in answer.notifications]


async def _added(made: Deal, service: Any, **fields: Any) -> Any:
    offering = service.offerings[0]
    names = [each.section_id for each in offering.terms.sections]
    addition = {"offering_id": offering.offering_id, "section_ids": names}
    return await made.request("Addition", addition=addition, **fields)


async def test_a_further_service_of_the_provider_comes_into_the_contract(
    plane: ControlPlane,
) -> None:
    made = await deal(plane)
    second = await plane.service("volt", title="Second")
    accepted = await made.decide("Accept", await _added(made, second))
    assert amendment_state(accepted) == "APPLIED"
    contract = await made.contract()
    (added,) = contract.terms.added_services
    assert (added.service_id, added.service_title) == (second.service_id, "Second")
    assert (await made.history())[-1] == "SERVICE_ADDED"
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)):
        await plane.contract("evsp", second)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)):
        await _added(made, second)
    search = {"criteria": {"service_id": second.service_id}}
    found = await plane.ask("evsp", "ContractService/SearchContracts", **search)
    assert [each.contract_id for each in found.contracts] == [made.contract_id]


async def test_nothing_but_a_started_service_of_the_same_provider_is_added(
    plane: ControlPlane,
) -> None:
    made = await deal(plane)
    await plane.partner("watt", EVSE_OPERATOR)
    with pytest.raises(MarketError, check=INVALID) as caught:
        await _added(made, await plane.service("watt"))
    assert fields_of(caught.value) == ["addition.offering_id"]
    hidden = await plane.register_service("volt")
    with pytest.raises(MarketError):
        await _added(made, hidden)
    second = await plane.service("volt")
    addition = {"offering_id": second.offerings[0].offering_id}
    with pytest.raises(MarketError, check=INVALID) as caught:
        await made.request("Addition", addition=addition)
    assert {each.rule for each in caught.value.violations} == {"section_required"}


async def test_routing_knows_the_windows_of_what_was_agreed(
    plane: ControlPlane, control_plane_url: str
) -> None:
    made = await deal(plane, framework_terms(term=MONTH), start_time=time(START + DAY))
    second = await plane.service("volt")
    at = START + 5 * DAY
    asked = await _added(made, second, effective_time=time(at))
    await made.decide("Accept", asked)
    connection = await connect_raw(control_plane_url)
    try:
        storage = SnapshotStorage(connection)
        windows = (await storage.windows([("evsp", INTERFACE)]))["evsp", INTERFACE]
        rows = await storage.everything((START + 2 * DAY).timestamp())
    finally:
        await connection.close()
    days = [
        (each.target.service_id, *((bound - START.timestamp()) / 86400 for bound in each[1:]))
        for each in windows
    ]
    first = made.service.service_id
    assert days == [(first, 1, 5), (first, 5, 31), (second.service_id, 5, 31)]
    assert [each[2].service_id for each in rows.routes] == [first]
    assert rows.timed == {("evsp", INTERFACE): windows}
