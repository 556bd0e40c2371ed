"""Sessions and the notices that their EVSPs hear of; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from clearinghouse.storage import Connection

_ALLOWED = """
SELECT authorization_ref, session_id, evsp_id, evsp_session_id, evse_key
FROM clearinghouse.authorization
WHERE authorization_reference = $1 AND operator_id = $2 AND session_id IS NOT NULL
"""
_OPEN = """
INSERT INTO clearinghouse.session AS known
    (authorization_ref, operator_session_id, last_sequence, ended, updated_at)
VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (authorization_ref) DO UPDATE SET last_sequence = excluded.last_sequence,
    ended = excluded.ended, updated_at = excluded.updated_at
WHERE known.operator_session_id = excluded.operator_session_id
    AND known.last_sequence < excluded.last_sequence AND NOT known.ended
RETURNING authorization_ref
"""
_NAMED = """
SELECT operator_session_id FROM clearinghouse.session WHERE authorization_ref = $1
"""
_KEEP = """
INSERT INTO clearinghouse.session_notice
    (authorization_ref, sequence_number, evsp_id, notice, due_at)
VALUES ($1, $2, $3::text, $4,
    CASE WHEN $3::text IS NULL THEN 'infinity'::timestamptz ELSE clock_timestamp() END)
"""
# The first that waits of its session, so that an EVSP hears them in their order. What a process had
# claimed that died is due again when the lease ends.
_CLAIM = """
UPDATE clearinghouse.session_notice AS n SET attempt_count = n.attempt_count + 1,
    due_at = clock_timestamp() + $2::interval
FROM (SELECT w.notice_ref FROM clearinghouse.session_notice AS w
      WHERE w.due_at <= clock_timestamp() AND NOT EXISTS (
          SELECT FROM clearinghouse.session_notice AS b
          WHERE b.authorization_ref = w.authorization_ref
              AND b.sequence_number < w.sequence_number AND b.due_at < 'infinity')
      ORDER BY w.due_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS mine
WHERE n.notice_ref = mine.notice_ref
RETURNING n.notice_ref, n.evsp_id, n.notice, n.attempt_count
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
WHERE n.notice_ref = t.notice_ref
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

    async def advance(
        self, authorization_ref: int, operator_session_id: str, sequence: int, *, ended: bool
    ) -> bool:
        """Take a session on to a later notice; False for one that is late, or after its end."""
        values = (authorization_ref, operator_session_id, sequence, ended)
        return await self._connection.fetchval(_OPEN, *values) is not None

    async def operator_session(self, authorization_ref: int) -> str | None:
        """Give the operator's own id of a session; None before its first notice."""
        found: str | None = await self._connection.fetchval(_NAMED, authorization_ref)
        return found

    async def keep(
        self, authorization_ref: int, sequence: int, evsp_id: str | None, notice: bytes
    ) -> None:
        """Store a notice, for its EVSP to hear of."""
        await self._connection.execute(_KEEP, authorization_ref, sequence, evsp_id, notice)

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
