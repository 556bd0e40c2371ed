"""Sessions and the notices that their EVSPs hear of; the caller owns the transaction."""

from __future__ import annotations

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
# The first that waits of its session, so that an EVSP hears them in their order.
_DUE = """
SELECT n.notice_ref, n.evsp_id, n.notice, n.attempt_count, n.recorded_at
FROM clearinghouse.session_notice n
WHERE n.due_at <= clock_timestamp() AND NOT EXISTS (
    SELECT FROM clearinghouse.session_notice b WHERE b.authorization_ref = n.authorization_ref
    AND b.sequence_number < n.sequence_number AND b.due_at < 'infinity')
ORDER BY n.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_DELIVERED = """
UPDATE clearinghouse.session_notice SET due_at = 'infinity', delivered_at = clock_timestamp(),
    attempt_count = attempt_count + 1
WHERE notice_ref = $1
"""
_LATER = """
UPDATE clearinghouse.session_notice SET attempt_count = attempt_count + 1,
    due_at = CASE WHEN recorded_at < clock_timestamp() - $3::interval THEN 'infinity'::timestamptz
        ELSE clock_timestamp() + $2::interval END
WHERE notice_ref = $1
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

    async def due(self) -> asyncpg.Record | None:
        """Take the notice that waits for longest, which nobody else takes until the commit."""
        row: asyncpg.Record | None = await self._connection.fetchrow(_DUE)
        return row

    async def delivered(self, notice_ref: int) -> None:
        """Mark a notice as taken by its EVSP."""
        await self._connection.execute(_DELIVERED, notice_ref)

    async def later(self, notice_ref: int, wait: timedelta, lasting: timedelta) -> None:
        """Try a notice again after a wait; one that is older than `lasting` is given up."""
        await self._connection.execute(_LATER, notice_ref, wait, lasting)
