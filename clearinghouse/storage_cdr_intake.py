"""Charge detail records that come in, many at once, in PostgreSQL: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from clearinghouse.cdr_content import IncomingCdr
from clearinghouse.cdr_state import CdrKey, CdrState, StoredCdr
from clearinghouse.storage import Connection

# Two batches that share sessions insert them in one order: they wait for each other and do not
# lock each other up. Within a session the order is that in which the records were sent.
_INSERT = """
WITH incoming AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::bytea[])
    WITH ORDINALITY
    AS t (operator_key, cdr_key, session_id, digest, credited_key, given_session_id,
        authorization_reference, evse_key, started_at, ended_at, content, ordinal)
), stored AS (
    INSERT INTO clearinghouse.cdr (operator_partner_id, operator_key, cdr_key, session_id, digests,
        credited_key, given_session_id, authorization_reference, evse_key, started_at, ended_at,
        content)
    SELECT $1, operator_key, cdr_key, session_id, ARRAY[digest], credited_key,
        given_session_id, authorization_reference, evse_key, started_at, ended_at, content
    FROM incoming ORDER BY operator_key, session_id, ordinal
    ON CONFLICT DO NOTHING
    RETURNING cdr_ref, operator_key, cdr_key, received_at
), noted AS (
    INSERT INTO clearinghouse.cdr_event (cdr_ref, step, state, revision_number, partner_id)
    SELECT cdr_ref, 'SUBMIT', 'RECEIVED', 0, $1 FROM stored
)
SELECT operator_key, cdr_key, received_at FROM stored
"""

_RELATED = """
SELECT cdr_ref, operator_key, cdr_key, session_id, digests, credited_key, state, received_at
FROM clearinghouse.cdr WHERE operator_partner_id = $1 AND (operator_key, cdr_key) IN
    (SELECT * FROM unnest($2::text[], $3::text[]))
UNION
SELECT cdr_ref, operator_key, cdr_key, session_id, digests, credited_key, state, received_at
FROM clearinghouse.cdr WHERE operator_partner_id = $1 AND (operator_key, session_id) IN
    (SELECT * FROM unnest($2::text[], $4::text[]))
"""


@dataclass(frozen=True, slots=True)
class KnownCdr:
    """A record that is stored, and since when."""

    stored: StoredCdr
    received_at: datetime


def stored_of(row: asyncpg.Record) -> StoredCdr:
    """Give what the states of a record need, from a row that has the columns for it."""
    credited = row["credited_key"]
    return StoredCdr(
        CdrKey(row["operator_key"], row["cdr_key"]),
        row["session_id"],
        tuple(row["digests"]),
        CdrState(row["state"]),
        None if credited is None else CdrKey(row["operator_key"], credited),
    )


async def insert_new(
    connection: Connection, partner_id: str, records: Sequence[IncomingCdr]
) -> dict[CdrKey, datetime]:
    """Store those records that conflict with none; give when these were stored.

    No two of the records have the same key. A transaction that stores a conflicting one at this
    moment is waited for.
    """
    columns = [
        [each.key.operator_key for each in records],
        [each.key.cdr_id for each in records],
        [each.stored.session_id for each in records],
        [each.stored.digests[-1] for each in records],
        [each.stored.credited and each.stored.credited.cdr_id for each in records],
        [each.given_session_id for each in records],
        [each.authorization_reference for each in records],
        [each.evse_key for each in records],
        [each.started_at for each in records],
        [each.ended_at for each in records],
        [each.content for each in records],
    ]
    rows = await connection.fetch(_INSERT, partner_id, *columns)
    return {CdrKey(row["operator_key"], row["cdr_key"]): row["received_at"] for row in rows}


async def related(
    connection: Connection, partner_id: str, records: Sequence[IncomingCdr]
) -> list[KnownCdr]:
    """Give the stored records with the ids or of the sessions of some."""
    rows = await connection.fetch(
        _RELATED,
        partner_id,
        [each.key.operator_key for each in records],
        [each.key.cdr_id for each in records],
        [each.stored.session_id for each in records],
    )
    return [KnownCdr(stored_of(row), row["received_at"]) for row in rows]
