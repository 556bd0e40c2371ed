"""What an EVSP says about records, written down with what follows: forwarded, decided, booked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from clearinghouse.cdr_state import CdrState, CdrStep, StoredCdr, take_step
from clearinghouse.ledger import Booking
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import CdrRow, StepTaken, locked, originals, write_steps
from clearinghouse.storage_delivery import mark_delivered
from clearinghouse.storage_ledger import book
from foundation.errors import MarketError
from gem.roaming.v1.cdr_clearing_pb2 import CdrVerdict, ClearedCdr
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

APPROVED = CdrVerdict.CDR_VERDICT_APPROVED
DECLINED = CdrVerdict.CDR_VERDICT_DECLINED
UNDECIDED = CdrVerdict.CDR_VERDICT_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Review:
    """What an EVSP says about one revision of a record; it has that revision then."""

    cdr_ref: int
    revision_number: int
    verdict: CdrVerdict.ValueType
    text: str = ""


def steps_of(
    stored: StoredCdr, revision_number: int, verdict: CdrVerdict.ValueType
) -> list[tuple[CdrStep, StoredCdr]]:
    """Give the steps that a review takes, each with the record after it; none changes nothing.

    Who says something about a record has it, whether its acknowledgement came through or not.

    Raises:
        MarketError: CONFLICT where it is about another revision, STATE_NOT_ALLOWED.
    """
    wanted = []
    if stored.state is CdrState.ACCEPTED:
        wanted.append(CdrStep.FORWARD)
    if verdict == DECLINED:
        wanted.append(CdrStep.DECLINE)
    elif verdict == APPROVED:
        wanted.append(CdrStep.APPROVE)
    found = []
    for step in wanted:
        after = take_step(stored, step, revision_number)
        if after is not stored:
            found.append((step, after))
        stored = after
    return found


async def take_reviews(
    connection: Connection, reviews: Sequence[Review], partner_id: str, now: datetime
) -> dict[int, CdrState]:
    """Take what an EVSP says; give the states of the records after it.

    Raises:
        MarketError: as `steps_of`; nothing is to be kept of the transaction then.
    """
    rows = await locked(connection, [each.cdr_ref for each in reviews])
    steps = [
        taken
        for each in reviews
        for taken in _steps(rows[each.cdr_ref], each, each.verdict, partner_id)
    ]
    await write_reviews(connection, rows, steps, now)
    revisions = [each.revision_number for each in reviews]
    await mark_delivered(connection, [each.cdr_ref for each in reviews], revisions)
    states = {ref: row.stored.state for ref, row in rows.items()}
    return states | {step.cdr_ref: step.after.state for step in steps}


async def take_answers(
    connection: Connection, answers: Sequence[Review], partner_id: str, now: datetime
) -> None:
    """Take the answers to deliveries: whatever they say, the records were delivered.

    What a record's state forbids, for instance since it was decided meanwhile, changes nothing.
    """
    rows = await locked(connection, [each.cdr_ref for each in answers])
    steps = []
    for each in answers:
        row = rows[each.cdr_ref]
        # A credit is approved by being taken.
        verdict = APPROVED if row.stored.credited is not None else each.verdict
        with suppress(MarketError):
            steps += _steps(row, each, verdict, partner_id)
    await write_reviews(connection, rows, steps, now)
    revisions = [each.revision_number for each in answers]
    await mark_delivered(connection, [each.cdr_ref for each in answers], revisions)


def _steps(
    row: CdrRow, review: Review, verdict: CdrVerdict.ValueType, partner_id: str
) -> list[StepTaken]:
    return [
        StepTaken(
            row.cdr_ref, step, after, partner_id, review.text if step is CdrStep.DECLINE else ""
        )
        for step, after in steps_of(row.stored, review.revision_number, verdict)
    ]


async def write_reviews(
    connection: Connection, rows: dict[int, CdrRow], steps: Sequence[StepTaken], now: datetime
) -> None:
    """Write steps, and book what they approve."""
    await write_steps(connection, steps)
    approved = [rows[step.cdr_ref] for step in steps if step.step is CdrStep.APPROVE]
    credits_ = [row for row in approved if row.stored.credited is not None]
    given_back = await originals(connection, credits_) if credits_ else {}
    bookings = []
    for row in approved:
        # Who charges at his own charging points owes nobody.
        if row.evsp_partner_id is None or row.evsp_partner_id == row.operator_partner_id:
            continue
        if row.stored.credited is None:
            bookings.append(booking_of(row, now))
        else:
            original = given_back[row.operator_partner_id, row.stored.credited]
            cdr_id = ChargeDetailRecord.FromString(row.content).cdr_id
            bookings.append(booking_of(original, now).credit(row.cdr_ref, cdr_id, now))
    if bookings:
        await book(connection, bookings)


def booking_of(row: CdrRow, now: datetime) -> Booking:
    """Give what an approved record, no credit, is booked as: what its operator asks.

    The check found that it is what rating gives, within the tolerance; where the operator does not
    say the amount with tax, it is the rated one.
    """
    record = ChargeDetailRecord.FromString(row.content)
    cost = record.total_cost
    with_tax = cost.with_tax_micros
    if not cost.HasField("with_tax_micros"):
        rated = ClearedCdr.FromString(row.assessment).rating.rating
        with_tax = cost.without_tax_micros + rated.with_tax_micros - rated.without_tax_micros
    assert row.evsp_partner_id is not None, "the caller looked"
    assert row.started_at is not None, "a record without times is not plausible"
    assert row.ended_at is not None, "a record without times is not plausible"
    return Booking(
        cdr_ref=row.cdr_ref,
        operator_id=row.operator_partner_id,
        evsp_id=row.evsp_partner_id,
        amount_without_tax_micros=cost.without_tax_micros,
        amount_with_tax_micros=with_tax,
        currency_code=record.currency_code,
        booked_at=now,
        started_at=row.started_at,
        ended_at=row.ended_at,
        record_operator_id=record.operator_id,
        cdr_id=record.cdr_id,
        energy_milli_wh=record.total_energy_milli_wh,
    )
