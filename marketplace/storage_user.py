"""Users, their history and their one-time links, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import not_found
from marketplace.storage_paging import Page
from marketplace.storage_tables import ONE_TIME_LINK, USER_ACCOUNT, USER_EVENT
from marketplace.user import USERS_MAX, User, UserState, UserStep

#: All but the hash of the password, which only a login reads.
COLUMNS = tuple(column for column in USER_ACCOUNT.c if column.name != "password_hash")


class UserStorage:
    """Reads and writes users inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, user: User) -> None:
        """Write a new user; raises MarketError ALREADY_EXISTS when the partner has the name."""
        row = {
            "user_id": user.user_id,
            "partner_id": user.partner_id,
            "user_name": user.user_name,
            "full_name": user.full_name,
            "roles": list(user.roles),
            "state": user.state.value,
            "password_hash": "",
            "created_at": user.created_at,
        }
        statement = insert(USER_ACCOUNT).values(row).on_conflict_do_nothing()
        added = await self._connection.execute(statement.returning(USER_ACCOUNT.c.user_id))
        if added.one_or_none() is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_ALREADY_EXISTS,
                "There is a user of this name already.",
                metadata={"kind": "user"},
            )

    async def locked(self, partner_id: str, user_name: str) -> User:
        """Give a user that nobody else changes until the transaction ends; NOT_FOUND."""
        query = select(*COLUMNS).where(_named(partner_id, user_name)).with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("user")
        return user_of(row)

    async def credentials(
        self, partner_id: str, user_name: str, *, held: bool = False
    ) -> tuple[User, str] | None:
        """Give a user with the hash of its password, empty without one; `held` until the end."""
        query = select(USER_ACCOUNT).where(_named(partner_id, user_name))
        if held:
            query = query.with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else (user_of(row), row.password_hash)

    async def all_of(self, partner_id: str) -> list[User]:
        """Give the users of a partner, or the operators."""
        query = select(*COLUMNS).where(USER_ACCOUNT.c.partner_id == partner_id).limit(USERS_MAX)
        return [user_of(row) for row in await self._connection.execute(query)]

    async def page(self, page: Page[str], partner_id: str) -> tuple[list[User], PageInfo]:
        """List the users of a partner, or the operators, by name."""
        query = select(*COLUMNS).where(USER_ACCOUNT.c.partner_id == partner_id)
        rows = (await self._connection.execute(page.of(query, USER_ACCOUNT.c.user_name))).all()
        shown, info = page.cut(rows, lambda row: str(row.user_name))
        return [user_of(row) for row in shown], info

    async def set_roles(self, user_id: str, roles: Sequence[int]) -> None:
        """Write the roles."""
        await self._update(user_id, {"roles": list(roles)})

    async def set_state(self, user_id: str, state: UserState, password_hash: str) -> None:
        """Write the state, and the hash of the password that belongs to it."""
        await self._update(user_id, {"state": state.value, "password_hash": password_hash})

    async def remember(self, user: User, step: UserStep, actor_name: str, now: datetime) -> None:
        """Write one row of the history; `user` is as it is after the step."""
        row = {
            "user_id": user.user_id,
            "kind": step.value,
            "state": user.state.value,
            "actor": actor_name,
            "occurred_at": now,
        }
        await self._connection.execute(insert(USER_EVENT).values(row))

    async def put_link(self, user_id: str, secret_digest: bytes, expires_at: datetime) -> None:
        """Write a user's one-time link in place of any before it."""
        values = {"secret_digest": secret_digest, "expires_at": expires_at}
        statement = insert(ONE_TIME_LINK).values(user_id=user_id, **values)
        key = [ONE_TIME_LINK.c.user_id]
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=key, set_=values)
        )

    async def invited_by(self, secret_digest: bytes, now: datetime) -> User | None:
        """Give whose link it is, held until the transaction ends; None when it is not good."""
        query = (
            select(*COLUMNS)
            .join(ONE_TIME_LINK, ONE_TIME_LINK.c.user_id == USER_ACCOUNT.c.user_id)
            .where(ONE_TIME_LINK.c.secret_digest == secret_digest, ONE_TIME_LINK.c.expires_at > now)
            .with_for_update()
        )
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else user_of(row)

    async def drop_link(self, user_id: str) -> None:
        """Forget a user's one-time link."""
        statement = delete(ONE_TIME_LINK).where(ONE_TIME_LINK.c.user_id == user_id)
        await self._connection.execute(statement)

    async def _update(self, user_id: str, values: dict[str, object]) -> None:
        statement = update(USER_ACCOUNT).where(USER_ACCOUNT.c.user_id == user_id).values(values)
        await self._connection.execute(statement)


def user_of(row: Any) -> User:
    """Read a user from a row with `COLUMNS`."""
    return User(
        user_id=row.user_id,
        partner_id=row.partner_id,
        user_name=row.user_name,
        full_name=row.full_name,
        roles=tuple(row.roles),
        state=UserState(row.state),
        created_at=row.created_at,
    )


def _named(partner_id: str, user_name: str) -> Any:
    return (USER_ACCOUNT.c.partner_id == partner_id) & (USER_ACCOUNT.c.user_name == user_name)
