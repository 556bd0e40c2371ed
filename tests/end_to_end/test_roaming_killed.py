"""`kill -9` of the router, the clearing house and PostgreSQL while customers charge."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from clearinghouse.cdr_parts import utc_now
from clearinghouse.clearing_run import ClearingCommand, Netting, run_clearing
from gem.mesh.v1.provider_answer_pb2 import ANSWER_STATUS_OK as OK
from gem.roaming.v1.authorization_pb2 import AuthorizationDecision
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse.clearing import accounts
from tests.clearinghouse.contract_holder import Mode
from tests.clearinghouse.house import by_contract
from tests.clearinghouse_records import charged, price, record, set_cost, tariff
from tests.end_to_end.figures import report
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import until
from tests.end_to_end.roaming import OPERATOR_ID
from tests.end_to_end.roaming_under_fire import CUSTOMER, Fire, under_fire

pytestmark = [pytest.mark.fault, pytest.mark.usecase(1502, 1511, 1512)]
_SESSIONS = 12
_numbers = itertools.count(1)
_MODES = (Mode.APPROVE, Mode.ACKNOWLEDGE_THEN_DIE, Mode.DOWN)


@pytest.fixture(scope="module")
async def fire(short_tmp_dir: Path) -> AsyncIterator[Fire]:
    """Run what is killed; it comes back each time."""
    async with under_fire(short_tmp_dir / "fire") as running:
        yield running


def session_record(number: int, decision: AuthorizationDecision) -> ChargeDetailRecord:
    """Give the record of a minute's charging that began when it was authorized."""
    start = decision.decided_time.ToDatetime(UTC)
    made = record(tariff(price("FLAT", 1, 20)), [(1, charged("0.1"))], start)
    made.operator_id, made.cdr_id = OPERATOR_ID, f"CDR-{number}"
    made.operator_session_id, made.session_id = f"OP-{number}", decision.session_id
    made.authorization_reference = decision.authorization_reference
    made.authorization_method = 1  # type: ignore[assignment]  # REQUEST
    made.identification.CopyFrom(by_contract(CUSTOMER))
    made.location.evse_id = f"{OPERATOR_ID}*E{number}"
    made.charging_start_time.FromDatetime(start)
    made.charging_end_time.FromDatetime(start + timedelta(minutes=1))
    made.total_energy_milli_wh, made.total_time_ms = 100_000, 60_000
    set_cost(made.total_cost, 1_000_000, 1_200_000)
    set_cost(made.total_fixed_cost, 1_000_000, 1_200_000)
    return made


async def charge(fire: Fire, number: int, chance: random.Random) -> str:
    """Let a customer charge: authorized, charged, submitted, and submitted again."""
    await asyncio.sleep(chance.uniform(0.0, 0.5))
    decision = await fire.authorized(number)
    assert decision.status == 1, "the list says so"
    made = session_record(number, decision)
    if number % 6 == 0:
        made.total_energy_milli_wh = -1
    await asyncio.sleep(chance.uniform(0.0, 0.3))
    await fire.submitted(*[made] * chance.randint(1, 3))
    assert await fire.authorized(number) == decision, "the first answer is the answer"
    return made.cdr_id.lower()


async def killed(fire: Fire, seed: int, *victims: str) -> None:
    """Let customers charge while parties are killed at random instants; hold the identity."""
    await fire.everybody_is_there()
    chance, breaks = random.Random(seed), fire.breaks
    numbers = list(itertools.islice(_numbers, _SESSIONS))
    charging = [asyncio.create_task(charge(fire, number, chance)) for number in numbers]
    for victim in victims:
        fire.records.mode = chance.choice(_MODES)
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        await fire.kill(victim, chance)
    fire.records.mode = Mode.APPROVE
    names = await asyncio.gather(*charging)
    await fire.settled(names)
    await accounts(fire.pool, names)
    returned = {f"CDR-{number}" for number in numbers if number % 6 == 0}
    mine = {f"CDR-{number}" for number in numbers}
    assert {name[1] for name in fire.records.kept} & mine == mine - returned
    repeated = fire.breaks - breaks
    report("roaming killed", seed=seed, victims=victims, sessions=len(names), repeated=repeated)


async def settle(fire: Fire, approved: int) -> None:
    """Settle everything: each approved record once, and what all owe is zero."""
    now = utc_now() + timedelta(hours=2)
    ends = now - timedelta(days=1), now - timedelta(hours=1)
    command = ClearingCommand("house", f"run-{approved}", *ends, Netting.MULTILATERAL)
    await run_clearing(fire.pool, command, now)
    (found,) = await fire.pool.fetch(
        "SELECT count(DISTINCT cdr_id) AS ids, count(run_ref) AS settled, count(*) AS booked,"
        " (SELECT sum(net_micros) FROM clearinghouse.net_position) AS sum"
        " FROM clearinghouse.booking"
    )
    assert tuple(found) == (approved, approved, approved, 0)


async def recorded(fire: Fire, calls: int) -> bool:
    """Say whether the log has so many authorizations that were answered."""
    entries = await entries_of(fire.operator)
    answered = Counter(entry.method.rpartition("/")[2] for entry in entries if entry.status == OK)
    return answered["Authorize"] >= calls


async def test_whatever_is_killed_each_session_is_cleared_once(fire: Fire) -> None:
    await killed(fire, 1512, "worker", "postgres")
    approved = _SESSIONS - _SESSIONS // 6
    await settle(fire, approved)
    # What was recorded beside PostgreSQL while that was away comes into the log a little later.
    await until(lambda: recorded(fire, 2 * _SESSIONS), 60, "no answered call is unrecorded")


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("victim", ["worker", "postgres", "house"])
async def test_each_session_is_cleared_once_whoever_is_killed_again_and_again(
    fire: Fire, victim: str, seed: int
) -> None:
    await killed(fire, seed, victim, victim)
