"""What checking stores: every reason, late records, overlaps, tariffs, and defects of our own."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from clearinghouse.cdr_pipeline import CdrChecker
from clearinghouse.storage_cdr_context import StoredContexts
from gem.roaming.v1.authorization_pb2 import AuthorizationStatus, DecidingLayer
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.tariff_version_pb2 import TariffVersion
from tests.clearinghouse.clearing import HASHING, NOW, OPERATOR, Clearing, accounts, numbered
from tests.clearinghouse.contract_holder import ContractHolder
from tests.clearinghouse_records import START

pytestmark = pytest.mark.usecase(1511)


def number(name: str) -> int:
    return PlausibilityReason.Value(f"PLAUSIBILITY_REASON_{name}")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"operator_id": "another"}, "AUTHORIZATION_UNKNOWN"),
        ({"operator_key": "DEXYZ"}, "EVSE_OPERATOR"),
        ({"evse_key": "DEABCE9"}, "AUTHORIZATION_MISMATCH"),
        ({"contract_key": "", "identity_key": "NLTNMC00000000"}, "AUTHORIZATION_MISMATCH"),
        (
            {"status": AuthorizationStatus.AUTHORIZATION_STATUS_BLOCKED},
            "AUTHORIZATION_NOT_VALID",
        ),
        (
            {"layer": DecidingLayer.DECIDING_LAYER_CLEARING_HOUSE_LIST},
            "CONTRACT_NOT_ACTIVE",
        ),
        ({"valid_until": START - timedelta(hours=1)}, "AUTHORIZATION_NOT_VALID"),
    ],
)
async def test_a_record_that_does_not_fit_its_authorization_is_returned(
    clearing: Clearing, changes: dict[str, Any], reason: str
) -> None:
    record = numbered(1)
    await clearing.authorize(record, **changes)
    await clearing.submit(record)
    await clearing.clear()
    assert number(reason) in (await clearing.reasons())["cdr-1"]
    assert await clearing.states() == {"cdr-1": "RETURNED"}


@pytest.mark.fault
async def test_a_record_that_comes_ninety_days_late_and_before_older_ones_is_cleared(
    clearing: Clearing, holder: ContractHolder
) -> None:
    clearing.now = NOW + timedelta(days=90)
    records = [numbered(each, START + timedelta(days=each % 90)) for each in (89, 3, 45, 1)]
    await clearing.authorize(*records)
    for record in records:
        await clearing.submit(record)
        await clearing.clear()
    assert await accounts(clearing.pool, holder.order) == {"APPROVED": 4}


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
async def test_of_two_sessions_at_once_on_an_evse_the_first_stands(
    clearing: Clearing, together: bool
) -> None:
    first, second = numbered(1), numbered(2, START + timedelta(minutes=30))
    second.location.evse_id = first.location.evse_id
    await clearing.authorize(first, second)
    await clearing.submit(first)
    if not together:
        await clearing.check()
    await clearing.submit(second)
    await clearing.check()
    assert await clearing.reasons() == {"cdr-2": {number("SESSION_OVERLAP")}}


@pytest.mark.fault
async def test_of_two_sessions_that_two_processes_check_at_once_one_stands(
    clearing: Clearing,
) -> None:
    records = [numbered(each) for each in range(40)]
    for record in records[20:]:
        pair = int(record.cdr_id.removeprefix("CDR-")) - 20
        record.location.evse_id = records[pair].location.evse_id
    await clearing.authorize(*records)
    await clearing.submit(*records)
    checkers = [CdrChecker(clearing.pool, StoredContexts(HASHING), lambda: NOW) for _ in range(4)]
    for checker in checkers:
        checker._size = 10
    await asyncio.gather(*(checker.check_batch() for checker in checkers))
    await clearing.check()
    states = list((await clearing.states()).values())
    assert (states.count("ACCEPTED"), states.count("RETURNED")) == (20, 20)


async def test_the_tariff_that_the_operator_published_is_the_one_that_counts(
    clearing: Clearing,
) -> None:
    right, wrong = numbered(1), numbered(2)
    wrong.tariffs[0].components[0].price_micros += 1
    await clearing.authorize(right, wrong)
    version = TariffVersion(operator_id="DE*ABC", tariff=right.tariffs[0]).SerializeToString()
    await clearing.pool.execute(
        "INSERT INTO clearinghouse.tariff_version (owner_id, operator_key, tariff_id,"
        " version_number, valid_from, valid_until, published_at, request_id, digest, content)"
        " VALUES ($1, 'DEABC', 'T1', 1, '-infinity', 'infinity', now(), 'r', '', $2)",
        OPERATOR,
        version,
    )
    await clearing.submit(right, wrong)
    await clearing.check()
    assert await clearing.reasons() == {"cdr-2": {number("TARIFF_NOT_VALID")}}


class Defective(StoredContexts):
    """Fails for one record, as a defect of ours would."""

    async def load(self, connection: Any, unchecked: Any, now: Any) -> Any:
        if any(each.row.stored.key.cdr_id == "cdr-3" for each in unchecked):
            raise ZeroDivisionError
        return await super().load(connection, unchecked, now)


@pytest.mark.fault
async def test_a_record_that_no_check_survives_holds_up_no_other(clearing: Clearing) -> None:
    records = [numbered(each) for each in range(6)]
    await clearing.authorize(*records)
    await clearing.submit(*records)
    clearing.checker = CdrChecker(clearing.pool, Defective(HASHING), lambda: NOW)
    await clearing.check()
    states = await clearing.states()
    assert [name for name, state in states.items() if state != "ACCEPTED"] == ["cdr-3"]
    assert states["cdr-3"] == "RECEIVED"
    clearing.checker = CdrChecker(clearing.pool, StoredContexts(HASHING), lambda: NOW)
    await clearing.pool.execute("UPDATE clearinghouse.cdr SET check_at = now()")
    await clearing.check()
    assert set((await clearing.states()).values()) == {"ACCEPTED"}
