"""What an EVSP's say does: which steps it takes, what it books, and that it does so once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from clearinghouse.cdr_review import APPROVED, DECLINED, UNDECIDED, booking_of, steps_of
from clearinghouse.cdr_state import CdrKey, CdrState, CdrStep, StoredCdr
from clearinghouse.storage_cdr import CdrRow
from foundation.errors import MarketError, reason_name
from gem.roaming.v1.cdr_clearing_pb2 import CdrVerdict, ClearedCdr
from tests.clearinghouse.clearing import Clearing, accounts, numbered
from tests.clearinghouse.contract_holder import ContractHolder, Mode
from tests.clearinghouse_records import START

pytestmark = pytest.mark.usecase(1511)
KEY = CdrKey("DEABC", "cdr-1")
NOW = datetime(2026, 4, 1, tzinfo=UTC)


def stored(state: CdrState, **changes: object) -> StoredCdr:
    plain = StoredCdr(KEY, "S1", (b"one", b"two"), state)
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def row_of(**changes: object) -> CdrRow:
    """Give an approved record as it is stored."""
    record = numbered(1)
    plain = CdrRow(
        cdr_ref=7,
        operator_partner_id="op",
        stored=stored(CdrState.APPROVED),
        authorization_reference="AUTH-1",
        evse_key="DEABCE1",
        started_at=START,
        ended_at=START,
        received_at=NOW,
        state_at=NOW,
        evsp_partner_id="evsp",
        contract_id=None,
        decline_text="",
        content=record.SerializeToString(),
        assessment=b"",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("state", "verdict", "steps"),
    [
        (CdrState.ACCEPTED, UNDECIDED, [CdrStep.FORWARD]),
        (CdrState.ACCEPTED, APPROVED, [CdrStep.FORWARD, CdrStep.APPROVE]),
        (CdrState.ACCEPTED, DECLINED, [CdrStep.FORWARD, CdrStep.DECLINE]),
        (CdrState.FORWARDED, UNDECIDED, []),
        (CdrState.FORWARDED, APPROVED, [CdrStep.APPROVE]),
        (CdrState.FORWARDED, DECLINED, [CdrStep.DECLINE]),
        (CdrState.APPROVED, APPROVED, []),
        (CdrState.DECLINED, DECLINED, []),
        (CdrState.APPROVED, UNDECIDED, []),
        (CdrState.CREDITED, UNDECIDED, []),
    ],
)
def test_a_say_takes_the_steps_that_are_missing(
    state: CdrState, verdict: CdrVerdict.ValueType, steps: list[CdrStep]
) -> None:
    assert [step for step, _ in steps_of(stored(state), 1, verdict)] == steps


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (CdrState.RECEIVED, APPROVED),
        (CdrState.RETURNED, APPROVED),
        (CdrState.REVISED, DECLINED),
        (CdrState.APPROVED, DECLINED),
        (CdrState.DECLINED, APPROVED),
        (CdrState.REJECTED, APPROVED),
        (CdrState.CREDITED, DECLINED),
    ],
)
def test_a_say_that_the_state_forbids_is_refused(
    state: CdrState, verdict: CdrVerdict.ValueType
) -> None:
    with pytest.raises(MarketError) as refused:
        steps_of(stored(state), 1, verdict)
    assert reason_name(refused.value.reason) == "STATE_NOT_ALLOWED"


@pytest.mark.parametrize("verdict", [APPROVED, DECLINED])
def test_a_say_about_another_revision_is_refused(verdict: CdrVerdict.ValueType) -> None:
    with pytest.raises(MarketError) as refused:
        steps_of(stored(CdrState.ACCEPTED), 0, verdict)
    assert reason_name(refused.value.reason) == "CONFLICT"


def test_a_credit_is_not_declined() -> None:
    credit = stored(CdrState.FORWARDED, credited=CdrKey("DEABC", "cdr-0"))
    with pytest.raises(MarketError):
        steps_of(credit, 1, DECLINED)


def test_what_the_operator_asks_is_booked() -> None:
    booking = booking_of(row_of(), NOW)
    assert (booking.operator_id, booking.evsp_id) == ("op", "evsp")
    assert booking.amount_without_tax_micros == 6_000_000
    assert booking.amount_with_tax_micros == 7_200_000
    assert (booking.cdr_id, booking.record_operator_id) == ("CDR-1", "DE*ABC")


def test_where_the_operator_does_not_tell_the_tax_it_is_the_rated_one() -> None:
    record = numbered(1)
    record.total_cost.ClearField("with_tax_micros")
    assessment = ClearedCdr()
    rated = assessment.rating.rating
    rated.without_tax_micros, rated.with_tax_micros = 6_000_001, 7_200_002
    row = row_of(content=record.SerializeToString(), assessment=assessment.SerializeToString())
    booking = booking_of(row, NOW)
    assert booking.amount_without_tax_micros == 6_000_000
    assert booking.amount_with_tax_micros == 7_200_001


@pytest.mark.fault
@pytest.mark.parametrize("verdicts", [("APPROVED",) * 4, ("APPROVED", "DECLINED") * 2])
async def test_what_is_said_by_several_at_once_is_taken_once(
    clearing: Clearing, holder: ContractHolder, verdicts: tuple[str, ...]
) -> None:
    holder.mode = Mode.LATER
    records = [numbered(number) for number in range(5)]
    await clearing.authorize(*records)
    await clearing.submit(*records)
    await clearing.clear()
    said = [clearing.review(record.cdr_id, verdict) for record in records for verdict in verdicts]
    answers = await asyncio.gather(*said, return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, CdrState | MarketError), answer
    counts = await accounts(clearing.pool, [record.cdr_id for record in records])
    assert sum(counts.values()) == 5
    assert counts.keys() <= {"APPROVED", "DECLINED"}
    assert len(await clearing.bookings()) == counts.get("APPROVED", 0)


@pytest.mark.fault
async def test_a_delivery_whose_claim_ended_too_early_is_booked_once(
    clearing: Clearing, holder: ContractHolder
) -> None:
    """Four processes deliver the same records at once, as after leases that were too short."""
    records = [numbered(number) for number in range(20)]
    await clearing.authorize(*records)
    await clearing.submit(*records)
    await clearing.check()

    async def deliver() -> None:
        await clearing.pool.execute(
            "UPDATE clearinghouse.delivery SET next_at = now() WHERE state = 'WAITING'"
        )
        await clearing.delivery.deliver_batch()

    await asyncio.gather(*(deliver() for _ in range(4)))
    await clearing.deliver()
    assert len(holder.kept) == 20 <= holder.taken
    assert await accounts(clearing.pool, holder.order) == {"APPROVED": 20}


async def test_who_charges_at_his_own_points_owes_nobody(
    clearing: Clearing, holder: ContractHolder
) -> None:
    record = numbered(1)
    await clearing.authorize(record, evsp_id="evsp", operator_id="evsp")
    await clearing.submit(record, sender="evsp")
    await clearing.clear()
    assert await clearing.states() == {"cdr-1": "APPROVED"}
    assert await clearing.bookings() == {}
    assert len(holder.kept) == 1
