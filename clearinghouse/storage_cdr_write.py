"""Revisions, credits and disputes of charge detail records in PostgreSQL: SQL and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from clearinghouse.cdr_content import IncomingCdr
from clearinghouse.cdr_state import CdrKey, CdrStep, StoredCdr
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import CdrRow, StepTaken, write_events
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

# The EVSP may be another one now: until it is known again, nobody but the operator sees it.
_REVISE = """
WITH before AS (SELECT content FROM clearinghouse.cdr WHERE cdr_ref = $1),
noted AS (
    INSERT INTO clearinghouse.cdr_event
        (cdr_ref, step, state, revision_number, partner_id, content)
    SELECT $1, 'REVISE', $2, cardinality($3::bytea[]) - 1, $10, content FROM before
)
UPDATE clearinghouse.cdr SET state = $2, state_at = now(), digests = $3, content = $4,
    given_session_id = $5, authorization_reference = $6, evse_key = $7, started_at = $8,
    ended_at = $9, evsp_partner_id = NULL, contract_id = NULL, decline_text = '', assessment = '',
    check_at = now(), check_failures = 0
WHERE cdr_ref = $1
"""

_CREDIT = """
INSERT INTO clearinghouse.cdr (operator_partner_id, operator_key, cdr_key, session_id, state,
    digests, credited_key, given_session_id, authorization_reference, evse_key, started_at,
    ended_at, evsp_partner_id, contract_id, content)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT DO NOTHING RETURNING cdr_ref
"""

_DISPUTE_COLUMNS = (
    "dispute_id, cdr_ref, state, claim_text, answer_text, opened_at, closed_at, revision_number"
)


@dataclass(frozen=True, slots=True)
class DisputeRow:
    """A dispute as it is stored."""

    dispute_id: UUID
    cdr_ref: int
    #: OPEN, CREDITED, REFUSED or WITHDRAWN.
    state: str
    claim_text: str
    answer_text: str
    opened_at: datetime
    closed_at: datetime | None
    #: Of the record when it was disputed.
    revision_number: int


async def write_revision(
    connection: Connection, row: CdrRow, after: StoredCdr, incoming: IncomingCdr, partner_id: str
) -> None:
    """Put the corrected record in the place of the one before, which the history keeps."""
    await connection.execute(
        _REVISE,
        row.cdr_ref,
        after.state.value,
        after.digests,
        incoming.content,
        incoming.given_session_id,
        incoming.authorization_reference,
        incoming.evse_key,
        incoming.started_at,
        incoming.ended_at,
        partner_id,
    )


async def insert_credit(
    connection: Connection,
    original: CdrRow,
    accepted: StoredCdr,
    credit: ChargeDetailRecord,
    partner_id: str,
) -> int | None:
    """Store a credit that the clearing house made; None where its id, or the credit, is taken."""
    assert accepted.credited is not None, "a credit gives something back"
    cdr_ref: int | None = await connection.fetchval(
        _CREDIT,
        original.operator_partner_id,
        accepted.key.operator_key,
        accepted.key.cdr_id,
        accepted.session_id,
        accepted.state.value,
        accepted.digests,
        accepted.credited.cdr_id,
        credit.session_id or None,
        original.authorization_reference,
        original.evse_key,
        original.started_at,
        original.ended_at,
        original.evsp_partner_id,
        original.contract_id,
        credit.SerializeToString(deterministic=True),
    )
    if cdr_ref is not None:
        await write_events(connection, [StepTaken(cdr_ref, CdrStep.ACCEPT, accepted, partner_id)])
    return cdr_ref


async def credit_of(connection: Connection, original: CdrRow) -> CdrKey | None:
    """Give the key of the credit of a record; None where it has none."""
    key = original.stored.key
    found = await connection.fetchval(
        "SELECT cdr_key FROM clearinghouse.cdr WHERE operator_partner_id = $1"
        " AND operator_key = $2 AND session_id = $3 AND credited_key = $4",
        original.operator_partner_id,
        key.operator_key,
        original.stored.session_id,
        key.cdr_id,
    )
    return None if found is None else CdrKey(key.operator_key, found)


async def open_dispute(
    connection: Connection, dispute_id: UUID, row: CdrRow, claim_text: str
) -> DisputeRow | None:
    """Open a dispute about a record; None where there is an open one."""
    found = await connection.fetchrow(
        "INSERT INTO clearinghouse.dispute (dispute_id, cdr_ref, revision_number, claim_text)"  # noqa: S608
        f" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING {_DISPUTE_COLUMNS}",
        dispute_id,
        row.cdr_ref,
        row.stored.revision_number,
        claim_text,
    )
    return None if found is None else _dispute(found)


async def locked_dispute(connection: Connection, dispute_id: UUID) -> DisputeRow | None:
    """Give a dispute, locked; None where there is none."""
    found = await connection.fetchrow(
        f"SELECT {_DISPUTE_COLUMNS} FROM clearinghouse.dispute"  # noqa: S608  # our columns
        " WHERE dispute_id = $1 FOR UPDATE",
        dispute_id,
    )
    return None if found is None else _dispute(found)


async def close_dispute(
    connection: Connection, dispute_id: UUID, state: str, answer_text: str
) -> DisputeRow:
    """Write what became of a dispute."""
    found = await connection.fetchrow(
        "UPDATE clearinghouse.dispute SET state = $2, answer_text = $3, closed_at = now()"  # noqa: S608
        f" WHERE dispute_id = $1 RETURNING {_DISPUTE_COLUMNS}",
        dispute_id,
        state,
        answer_text,
    )
    assert found is not None, "the caller locked it"
    return _dispute(found)


def _dispute(row: asyncpg.Record) -> DisputeRow:
    return DisputeRow(
        row["dispute_id"],
        row["cdr_ref"],
        row["state"],
        row["claim_text"],
        row["answer_text"],
        row["opened_at"],
        row["closed_at"],
        row["revision_number"],
    )
