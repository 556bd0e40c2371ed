"""Sessions and the logins that failed, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.session import FORGET_AFTER, SESSIONS_MAX, Attempts, Session, count_attempt
from marketplace.storage_tables import LOGIN_ATTEMPT, PARTNER, SESSION, USER_ACCOUNT
from marketplace.storage_user import COLUMNS, user_of
from marketplace.user import User

#: Sessions are kept for so long after they began, for whoever looks into a misuse.
_KEPT = timedelta(days=30)
#: Old attempts that one login clears away: more than it adds.
_CLEARED_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class OpenedBy:
    """A session with its user as both are now."""

    session: Session
    user: User
    #: Whether the user's partner may act; operators always may.
    partner_active: bool


class SessionStorage:
    """Reads and writes sessions inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def count_attempt(self, login_digest: bytes, now: datetime) -> None:
        """Count a login before its password is looked at; raises MarketError LOGIN_LOCKED."""
        table, mine = LOGIN_ATTEMPT, LOGIN_ATTEMPT.c.login_digest == login_digest
        row = {
            "login_digest": login_digest,
            "failure_count": 0,
            "last_at": now,
            "locked_until_at": now,
        }
        # Whoever comes at the same time waits here for the lock on the one row.
        await self._connection.execute(insert(table).values(row).on_conflict_do_nothing())
        found = (await self._connection.execute(select(table).where(mine).with_for_update())).one()
        before = Attempts(found.failure_count, found.last_at, found.locked_until_at)
        after = count_attempt(before, now)
        values = {
            "failure_count": after.failure_count,
            "last_at": after.last_at,
            "locked_until_at": after.locked_until,
        }
        await self._connection.execute(update(table).where(mine).values(values))
        await self._clear_attempts(now)

    async def forgive(self, login_digest: bytes) -> None:
        """Forget the attempts before a good login."""
        mine = LOGIN_ATTEMPT.c.login_digest == login_digest
        await self._connection.execute(delete(LOGIN_ATTEMPT).where(mine))

    async def open(self, session: Session, token_digest: bytes, request_id: str) -> Session:
        """Write a session, or give the one of the same request a new token.

        Raises:
            MarketError: REQUEST_ID_REUSED where the session of that request has ended.
        """
        row = {
            "session_id": session.session_id,
            "token_digest": token_digest,
            "user_id": session.user_id,
            "request_id": request_id,
            "created_at": session.created_at,
            "last_used_at": session.last_used_at,
        }
        statement = insert(SESSION).values(row)
        again = statement.on_conflict_do_update(
            index_elements=[SESSION.c.user_id, SESSION.c.request_id],
            set_={"token_digest": token_digest},
            where=SESSION.c.ended_at.is_(None),
        ).returning(SESSION)
        opened = (await self._connection.execute(again)).one_or_none()
        if opened is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
                "This request_id opened a session that has ended.",
            )
        await self._make_room(session.user_id, session.created_at)
        return _session(opened)

    async def by_token(self, token_digest: bytes) -> OpenedBy | None:
        """Give the session that a token opens, whether or not it has ended."""
        rows = await self._opened(SESSION.c.token_digest == token_digest)
        return rows[0] if rows else None

    async def by_ids(self, session_ids: Collection[str]) -> Sequence[OpenedBy]:
        """Give sessions by id."""
        return await self._opened(SESSION.c.session_id.in_(session_ids))

    async def touch(self, session_id: str, now: datetime) -> None:
        """Write that a session was used."""
        mine = SESSION.c.session_id == session_id
        await self._connection.execute(update(SESSION).where(mine).values(last_used_at=now))

    async def end(self, now: datetime, user_id: str, *, only: str = "", but: str = "") -> int:
        """End the sessions of a user, where given only that one or all but that one; how many."""
        mine = (SESSION.c.user_id == user_id) & SESSION.c.ended_at.is_(None)
        if only:
            mine &= SESSION.c.session_id == only
        if but:
            mine &= SESSION.c.session_id != but
        ended = await self._connection.execute(update(SESSION).where(mine).values(ended_at=now))
        return ended.rowcount

    async def _opened(self, condition: Any) -> list[OpenedBy]:
        query = (
            select(
                SESSION.c.session_id,
                SESSION.c.created_at.label("opened_at"),
                SESSION.c.last_used_at,
                SESSION.c.ended_at,
                PARTNER.c.state.label("partner_state"),
                *COLUMNS,
            )
            .join(USER_ACCOUNT, USER_ACCOUNT.c.user_id == SESSION.c.user_id)
            .join(PARTNER, PARTNER.c.partner_id == USER_ACCOUNT.c.partner_id, isouter=True)
            .where(condition)
        )
        return [_opened_by(row) for row in await self._connection.execute(query)]

    async def _make_room(self, user_id: str, now: datetime) -> None:
        mine = SESSION.c.user_id == user_id
        await self._connection.execute(
            delete(SESSION).where(mine & (SESSION.c.created_at < now - _KEPT))
        )
        newest = (
            select(SESSION.c.session_id)
            .where(mine & SESSION.c.ended_at.is_(None))
            .order_by(SESSION.c.created_at.desc(), SESSION.c.session_id)
            .offset(SESSIONS_MAX)
        )
        surplus = SESSION.c.session_id.in_(newest)
        await self._connection.execute(update(SESSION).where(surplus).values(ended_at=now))

    async def _clear_attempts(self, now: datetime) -> None:
        old = (
            select(LOGIN_ATTEMPT.c.login_digest)
            .where(LOGIN_ATTEMPT.c.last_at < now - FORGET_AFTER)
            .limit(_CLEARED_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        statement = delete(LOGIN_ATTEMPT).where(LOGIN_ATTEMPT.c.login_digest.in_(old))
        await self._connection.execute(statement)


def _session(row: Any) -> Session:
    return Session(row.session_id, row.user_id, row.created_at, row.last_used_at, row.ended_at)


def _opened_by(row: Any) -> OpenedBy:
    session = Session(row.session_id, row.user_id, row.opened_at, row.last_used_at, row.ended_at)
    active = not row.partner_id or row.partner_state == "ACTIVE"
    return OpenedBy(session, user_of(row), active)
