"""Sessions and the notices that their EVSPs hear of; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from clearinghouse.storage import Connection
from clearinghouse.storage_command import Command
from gem.roaming.v1.session_notice_pb2 import SessionNotice, SessionNoticeKind

_ALLOWED = """
SELECT authorization_ref, session_id, evsp_id, evsp_session_id, evse_key
FROM clearinghouse.authorization
WHERE authorization_reference = $1 AND operator_id = $2 AND session_id IS NOT NULL
"""
# The command ($1 to $4), and if it is new the session, and if it goes on the notice of it: one
# statement, for of all that is told to a clearing house notices are the most.
_TELL = """
WITH command AS (
    INSERT INTO clearinghouse.command (partner_id, request_id, digest, result)
    VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING partner_id
), advanced AS (
    INSERT INTO clearinghouse.session AS known
        (authorization_ref, operator_session_id, last_sequence, ended, updated_at)
    SELECT $5, $6, $7, $8, clock_timestamp() FROM command
    ON CONFLICT (authorization_ref) DO UPDATE SET last_sequence = excluded.last_sequence,
        ended = excluded.ended, updated_at = excluded.updated_at
    WHERE known.operator_session_id = excluded.operator_session_id
        AND known.last_sequence < excluded.last_sequence AND NOT known.ended
    RETURNING authorization_ref
), kept AS (
    INSERT INTO clearinghouse.session_notice
        (authorization_ref, sequence_number, evsp_id, notice, due_at)
    SELECT authorization_ref, $7, $9::text, $10,
        CASE WHEN $9::text IS NULL THEN 'infinity'::timestamptz ELSE clock_timestamp() END
    FROM advanced
)
SELECT EXISTS (SELECT FROM command) AS is_new, EXISTS (SELECT FROM advanced) AS goes_on
"""
_NAMED = """
SELECT operator_session_id FROM clearinghouse.session WHERE authorization_ref = $1
"""
# The first that waits of its session, so that an EVSP hears them in their order. What a process had
# claimed that died is due again when the lease ends. Indexes serve `now()`, no `clock_timestamp()`,
# and an array of keys, no join that was planned while the table was empty.
_CLAIM = """
UPDATE clearinghouse.session_notice SET attempt_count = attempt_count + 1,
    due_at = now() + $2::interval
WHERE notice_ref = ANY (ARRAY(
    SELECT w.notice_ref FROM clearinghouse.session_notice AS w
    WHERE w.due_at <= now() AND w.due_at < 'infinity' AND NOT EXISTS (
        SELECT FROM clearinghouse.session_notice AS b
        WHERE b.authorization_ref = w.authorization_ref
            AND b.sequence_number < w.sequence_number AND b.due_at < 'infinity')
    ORDER BY w.due_at LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING notice_ref, evsp_id, notice, attempt_count
"""
_DELIVERED = """
UPDATE clearinghouse.session_notice SET due_at = 'infinity', delivered_at = clock_timestamp()
WHERE notice_ref = ANY($1::bigint[])
"""
_LATER = """
UPDATE clearinghouse.session_notice AS n
SET due_at = CASE WHEN recorded_at < clock_timestamp() - $3::interval THEN 'infinity'::timestamptz
    ELSE clock_timestamp() + t.wait END
FROM unnest($1::bigint[], $2::interval[]) AS t (notice_ref, wait)
WHERE n.notice_ref = t.notice_ref AND n.notice_ref = ANY ($1)
"""


class SessionStorage:
    """Reads and writes sessions inside a transaction that the caller owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def allowed(self, reference: str, operator_id: str) -> asyncpg.Record | None:
        """Give an authorization of the operator by which a session may be; None where none is."""
        row: asyncpg.Record | None = await self._connection.fetchrow(
            _ALLOWED, reference, operator_id
        )
        return row

    async def tell(
        self, command: Command, allowed: asyncpg.Record, notice: SessionNotice
    ) -> tuple[bool, bool]:
        """Take a session on to a later notice, and keep that for its EVSP to hear of.

        Says whether the command is new, and whether the session went on: not by a notice that is
        late, or after its end.
        """
        ended = notice.kind == SessionNoticeKind.SESSION_NOTICE_KIND_END
        row = await self._connection.fetchrow(
            _TELL,
            *(command.partner_id, command.request_id, command.digest, command.result),
            *(allowed["authorization_ref"], notice.operator_session_id, notice.sequence_number),
            *(ended, allowed["evsp_id"], notice.SerializeToString()),
        )
        return row["is_new"], row["goes_on"]

    async def operator_session(self, allowed: asyncpg.Record) -> str | None:
        """Give the operator's own id of a session; None before its first notice."""
        found: str | None = await self._connection.fetchval(_NAMED, allowed["authorization_ref"])
        return found

    async def claim(self, limit: int, lease: timedelta) -> list[asyncpg.Record]:
        """Take the notices that wait for longest, at most one of a session, until the lease ends.

        `attempt_count` has this attempt among them.
        """
        rows: list[asyncpg.Record] = await self._connection.fetch(_CLAIM, limit, lease)
        return rows

    async def delivered(self, notice_refs: Sequence[int]) -> None:
        """Mark notices as taken by their EVSPs."""
        await self._connection.execute(_DELIVERED, notice_refs)

    async def later(
        self, notice_refs: Sequence[int], waits: Sequence[timedelta], lasting: timedelta
    ) -> None:
        """Try notices again after their waits; one that is older than `lasting` is given up."""
        await self._connection.execute(_LATER, notice_refs, waits, lasting)
