"""What partners do with a record that is stored: revise, give up, credit, dispute.

Each runs inside a transaction that the caller owns; what is not the caller's is NOT_FOUND.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from clearinghouse.cdr_content import read_incoming, refusals
from clearinghouse.cdr_intake import Receipt
from clearinghouse.cdr_review import UNDECIDED, Review, take_reviews
from clearinghouse.cdr_state import (
    CdrKey,
    CdrState,
    CdrStep,
    StoredCdr,
    Submission,
    revise,
    take_step,
)
from clearinghouse.plausibility_cost import negated
from clearinghouse.refusals import invalid, not_found, not_in_this_state
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import CdrRow, StepTaken, find, locked, write_steps
from clearinghouse.storage_cdr_check import CheckedCdr, write_deliveries
from clearinghouse.storage_cdr_write import (
    DisputeRow,
    close_dispute,
    credit_of,
    insert_credit,
    locked_dispute,
    open_dispute,
    write_revision,
)
from clearinghouse.token_hash import TokenHashing
from foundation.errors import MarketError
from foundation.identifiers import owner_key
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import cdr_clearing_pb2 as wire
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.dispute_pb2 import DisputeState

_RECORD = "charge detail record"


def key_of(operator_id: str, cdr_id: str) -> CdrKey:
    """Read what names a record; what names nothing is NOT_FOUND."""
    try:
        return CdrKey.of(owner_key(operator_id), cdr_id)
    except ValueError:
        raise not_found(_RECORD) from None


async def of_operator(connection: Connection, partner_id: str, key: CdrKey) -> CdrRow:
    """Give a record to the operator who sent it, locked."""
    row = await find(connection, partner_id, key, lock=True)
    if row is None or row.operator_partner_id != partner_id:
        raise not_found(_RECORD)
    return row


async def of_evsp(connection: Connection, partner_id: str, key: CdrKey) -> CdrRow:
    """Give a record to the EVSP that is to pay it, locked."""
    row = await find(connection, partner_id, key, lock=True)
    if row is None or row.evsp_partner_id != partner_id:
        raise not_found(_RECORD)
    return row


async def review_record(
    connection: Connection, partner_id: str, review: wire.CdrReview, now: datetime
) -> CdrState:
    """Approve or decline; gives the state after it."""
    if review.verdict == UNDECIDED:
        raise invalid("review.verdict", "approved or declined", "verdict")
    row = await of_evsp(connection, partner_id, key_of(review.operator_id, review.cdr_id))
    said = Review(row.cdr_ref, review.revision_number, review.verdict, review.text)
    states = await take_reviews(connection, [said], partner_id, now)
    return states[row.cdr_ref]


async def revise_record(
    connection: Connection,
    hashing: TokenHashing,
    partner_id: str,
    record: ChargeDetailRecord,
    revision_number: int,
) -> Receipt:
    """Take a record corrected, under its id; the session stays."""
    found = tuple(refusals(record))
    if found:
        return Receipt(record.cdr_id, None, findings=found)
    row = await of_operator(connection, partner_id, key_of(record.operator_id, record.cdr_id))
    incoming = read_incoming(record, hashing)
    same = (incoming.stored.session_id, incoming.stored.credited)
    if same != (row.stored.session_id, row.stored.credited):
        raise invalid("record", "its session and what it credits stay as they are", "revision")
    if len(row.stored.digests) >= _REVISIONS_MAX:
        raise not_in_this_state("The record was revised too often.")
    after = revise(row.stored, incoming.stored.digests[-1], revision_number)
    if after is row.stored:
        status = Submission.ALREADY_SUBMITTED
    else:
        await write_revision(connection, row, after, incoming, partner_id)
        status = Submission.STORED
    return Receipt(record.cdr_id, status, after.state, row.received_at)


#: The row of a record keeps a digest of each.
_REVISIONS_MAX = 1000


async def reject_record(
    connection: Connection, partner_id: str, key: CdrKey, revision_number: int, text: str
) -> CdrState:
    """Give a declined record up; gives the state after it."""
    row = await of_operator(connection, partner_id, key)
    after = take_step(row.stored, CdrStep.REJECT, revision_number)
    if after is not row.stored:
        step = StepTaken(row.cdr_ref, CdrStep.REJECT, after, partner_id, text)
        await write_steps(connection, [step])
    return after.state


async def credit_record(
    connection: Connection,
    hashing: TokenHashing,
    partner_id: str,
    row: CdrRow,
    credit_cdr_id: str,
    text: str,
) -> CdrRow:
    """Make the credit of an approved record of an operator; gives it.

    Raises:
        MarketError: STATE_NOT_ALLOWED, or ALREADY_EXISTS where another record has the id.
    """
    if "\0" in credit_cdr_id:
        raise invalid("credit_cdr_id", "a character that no id has", "text")
    key = CdrKey.of(row.stored.key.operator_key, credit_cdr_id)
    if row.stored.state is CdrState.CREDITED and await credit_of(connection, row) == key:
        return await of_operator(connection, partner_id, key)
    after = take_step(row.stored, CdrStep.CREDIT)
    credit = negated(ChargeDetailRecord.FromString(row.content), credit_cdr_id)
    if text:
        credit.remark = text
    digest = hashing.content(b"record", credit.SerializeToString(deterministic=True))
    received = StoredCdr(key, row.stored.session_id, (digest,), credited=row.stored.key)
    accepted = take_step(received, CdrStep.ACCEPT)
    cdr_ref = await insert_credit(connection, row, accepted, credit, partner_id)
    if cdr_ref is None:
        raise MarketError(
            ErrorReason.ERROR_REASON_ALREADY_EXISTS,
            "Another record has this id, or the record has a credit that is not accepted.",
        )
    step = StepTaken(row.cdr_ref, CdrStep.CREDIT, after, partner_id, text)
    await write_steps(connection, [step])
    made = (await locked(connection, [cdr_ref]))[cdr_ref]
    if made.evsp_partner_id is not None:
        taken = StepTaken(cdr_ref, CdrStep.ACCEPT, accepted)
        delivered = CheckedCdr(made, taken, (), b"", made.evsp_partner_id, made.contract_id)
        await write_deliveries(connection, [delivered])
    return made


async def dispute_record(
    connection: Connection, partner_id: str, key: CdrKey, claim_text: str
) -> tuple[DisputeRow, CdrRow]:
    """Open a dispute about an approved record."""
    row = await of_evsp(connection, partner_id, key)
    if row.stored.state is not CdrState.APPROVED or row.stored.credited is not None:
        raise not_in_this_state("Only an approved record that is no credit can be disputed.")
    opened = await open_dispute(connection, uuid4(), row, claim_text)
    if opened is None:
        raise not_in_this_state("A dispute about this record is open.")
    return opened, row


async def answer_dispute(
    connection: Connection,
    hashing: TokenHashing,
    partner_id: str,
    dispute_id: str,
    answer: DisputeState.ValueType,
    credit_cdr_id: str,
    text: str,
) -> tuple[DisputeRow, CdrRow]:
    """Close a dispute: the operator credits or refuses, the EVSP withdraws."""
    credits_ = answer == DisputeState.DISPUTE_STATE_CREDITED
    if credits_ != bool(credit_cdr_id):
        raise invalid("credit_cdr_id", "set if, and only if, the answer is CREDITED", "credit")
    seen = await locked_dispute(connection, _uuid(dispute_id))
    row = None
    if seen is not None:
        row = (await locked(connection, [seen.cdr_ref]))[seen.cdr_ref]
    if seen is None or row is None or partner_id not in _parties(row, answer):
        raise not_found("dispute")
    if seen.state != "OPEN":
        raise not_in_this_state("The dispute is closed.")
    if credits_:
        await credit_record(connection, hashing, partner_id, row, credit_cdr_id, text[:255])
    state = DisputeState.Name(answer).removeprefix("DISPUTE_STATE_")
    return await close_dispute(connection, seen.dispute_id, state, text), row


def _parties(row: CdrRow, answer: DisputeState.ValueType) -> tuple[str | None, ...]:
    """Give who may give this answer."""
    if answer == DisputeState.DISPUTE_STATE_WITHDRAWN:
        return (row.evsp_partner_id,)
    return (row.operator_partner_id,)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found("dispute") from None
