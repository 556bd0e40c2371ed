"""E-mails to be delivered, and those that were given up, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import not_found
from marketplace.delivery import Letter, NotDeliveredError
from marketplace.notice import NoticeKind
from marketplace.storage_paging import Page
from marketplace.storage_tables import NOTICE, NOTICE_OUTBOX

# Only the first of a recipient is taken: the others wait behind it, whoever holds it.
_TAKE = """
    SELECT o.recipient_id, o.sequence, o.attempt_count, n.kind, n.title, n.text, n.sender_id,
        n.created_at, coalesce(p.person_email, r.person_email) AS person_email
    FROM marketplace.notice_outbox o
    JOIN marketplace.notice n USING (recipient_id, sequence)
    LEFT JOIN marketplace.partner p ON p.partner_id = o.recipient_id
    LEFT JOIN marketplace.partner_registration r
        ON o.recipient_id LIKE 'applicant/%' AND r.registration_id = substr(o.recipient_id, 11)
    WHERE o.state = 'PENDING' AND o.due_at <= $1 AND NOT EXISTS (
        SELECT FROM marketplace.notice_outbox e WHERE e.state = 'PENDING'
            AND e.recipient_id = o.recipient_id AND e.sequence < o.sequence)
    ORDER BY o.due_at LIMIT 1 FOR UPDATE OF o SKIP LOCKED
"""
_DELIVERED = "DELETE FROM marketplace.notice_outbox WHERE recipient_id = $1 AND sequence = $2"
_PUT_OFF = """
    UPDATE marketplace.notice_outbox
    SET attempt_count = $3, due_at = $4, failure = $5, smtp_code = $6
    WHERE recipient_id = $1 AND sequence = $2
"""
_GIVE_UP = """
    UPDATE marketplace.notice_outbox
    SET state = 'DEAD', attempt_count = $3, failed_at = $4, failure = $5, smtp_code = $6
    WHERE recipient_id = $1 AND sequence = $2
"""


class OutboxStorage:
    """The delivery's side, on a raw connection; each method in the caller's transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def hold_at_most(self, limit_s: float) -> None:
        """Have the server cut this connection when a transaction on it is idle for so long."""
        limit = f"{int(limit_s * 1000)}ms"
        name = "idle_in_transaction_session_timeout"
        await self._connection.execute("SELECT set_config($1, $2, false)", name, limit)

    async def take(self, now: datetime) -> Letter | None:
        """Take an e-mail that is due and that nobody holds, until the transaction ends."""
        row = await self._connection.fetchrow(_TAKE, now)
        if row is None:
            return None
        return Letter(
            recipient_id=row["recipient_id"],
            sequence=row["sequence"],
            kind=NoticeKind(row["kind"]),
            title=row["title"],
            text=row["text"],
            sender_id=row["sender_id"],
            created_at=row["created_at"],
            attempt_count=row["attempt_count"],
            address=row["person_email"],
        )

    async def delivered(self, letter: Letter) -> None:
        """Remove an e-mail that the mail server has taken."""
        await self._connection.execute(_DELIVERED, letter.recipient_id, letter.sequence)

    async def put_off(self, letter: Letter, error: NotDeliveredError, due_at: datetime) -> None:
        """Note a failed try and when the next one is due."""
        await self._note(_PUT_OFF, letter, error, due_at)

    async def give_up(self, letter: Letter, error: NotDeliveredError, now: datetime) -> None:
        """Note a last try; the recipient's next e-mail is not held up any more."""
        await self._note(_GIVE_UP, letter, error, now)

    async def _note(
        self, statement: str, letter: Letter, error: NotDeliveredError, at: datetime
    ) -> None:
        await self._connection.execute(
            statement,
            *(letter.recipient_id, letter.sequence, letter.attempt_count + 1, at),
            *(error.failure.value, error.smtp_code),
        )


class UndeliveredStorage:
    """The operators' side: e-mails that were given up."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(self, page: Page[int]) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List them in the order in which they were made."""
        same = (NOTICE.c.recipient_id == NOTICE_OUTBOX.c.recipient_id) & (
            NOTICE.c.sequence == NOTICE_OUTBOX.c.sequence
        )
        query = (
            select(*NOTICE_OUTBOX.c, NOTICE.c.kind, NOTICE.c.created_at)
            .join(NOTICE, same)
            .where(NOTICE_OUTBOX.c.state == "DEAD")
        )
        rows = (await self._connection.execute(page.of(query, NOTICE_OUTBOX.c.position))).all()
        return page.cut(rows, lambda row: int(row.position))

    async def retry(self, recipient_id: str, sequence: int, now: datetime) -> None:
        """Have one tried again from the start; raises MarketError NOT_FOUND."""
        statement = update(NOTICE_OUTBOX).where(
            NOTICE_OUTBOX.c.recipient_id == recipient_id,
            NOTICE_OUTBOX.c.sequence == sequence,
            NOTICE_OUTBOX.c.state == "DEAD",
        )
        values = {"state": "PENDING", "attempt_count": 0, "due_at": now, "failed_at": None}
        if (await self._connection.execute(statement.values(values))).rowcount == 0:
            raise not_found("undelivered notification")
