"""Saved searches in PostgreSQL."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy import text as sql_text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import not_found
from marketplace.saved_search import SavedSearch, name_taken
from marketplace.storage_paging import Page
from marketplace.storage_tables_saved_search import SAVED_SEARCH

_TABLE = SAVED_SEARCH


async def erase_partner(connection: AsyncConnection, partner_id: str) -> int:
    """Delete the searches of a partner and of its users; gives how many there were."""
    assert partner_id, "operators' searches are no partner's"
    statement = delete(_TABLE).where(_TABLE.c.partner_id == partner_id)
    return int((await connection.execute(statement)).rowcount)


class SavedSearchStorage:
    """Reads and writes one owner's searches inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection, owner: str) -> None:
        self._connection = connection
        self._owner = owner

    async def count(self) -> int:
        """Count the searches; nobody adds one until the transaction ends."""
        lock = sql_text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        await self._connection.execute(lock, {"name": f"saved_search {self._owner}"})
        query = select(func.count()).select_from(_TABLE).where(_TABLE.c.owner == self._owner)
        return int((await self._connection.execute(query)).scalar_one())

    async def add(self, search: SavedSearch) -> None:
        """Write a new search; raises MarketError ALREADY_EXISTS for a name that is taken."""
        assert search.owner == self._owner, "a search is its owner's"
        statement = insert(_TABLE).values(asdict(search)).on_conflict_do_nothing()
        added = await self._connection.execute(statement.returning(_TABLE.c.saved_search_id))
        if added.one_or_none() is None:
            raise name_taken()

    async def by_id(self, saved_search_id: str) -> SavedSearch:
        """Give a search; raises MarketError NOT_FOUND."""
        return await self._one(_TABLE.c.saved_search_id == saved_search_id)

    async def by_name(self, name: str) -> SavedSearch:
        """Give a search; raises MarketError NOT_FOUND."""
        return await self._one(_TABLE.c.name == name)

    async def locked(self, saved_search_id: str) -> SavedSearch:
        """Give a search that nobody else changes until the transaction ends; NOT_FOUND."""
        return await self._one(_TABLE.c.saved_search_id == saved_search_id, lock=True)

    async def rename(self, saved_search_id: str, name: str, now: datetime) -> None:
        """Write another name; raises MarketError ALREADY_EXISTS for one that is taken."""
        try:
            await self._set(saved_search_id, name=name, changed_at=now)
        except IntegrityError:
            raise name_taken() from None

    async def replace(self, saved_search_id: str, criteria: bytes, now: datetime) -> None:
        """Write other criteria."""
        await self._set(saved_search_id, criteria=criteria, changed_at=now)

    async def delete(self, saved_search_id: str) -> None:
        """Delete a search."""
        key = self._mine(_TABLE.c.saved_search_id == saved_search_id)
        await self._connection.execute(delete(_TABLE).where(key))

    async def page(self, page: Page[str], method: str) -> tuple[list[SavedSearch], PageInfo]:
        """List searches by name; those by any method where it is empty."""
        query = select(_TABLE).where(_TABLE.c.owner == self._owner)
        if method:
            query = query.where(_TABLE.c.method == method)
        rows = (await self._connection.execute(page.of(query, _TABLE.c.name))).all()
        cut, info = page.cut(rows, lambda row: str(row.name))
        return [_search(row) for row in cut], info

    async def _set(self, saved_search_id: str, **values: Any) -> None:
        key = self._mine(_TABLE.c.saved_search_id == saved_search_id)
        await self._connection.execute(update(_TABLE).where(key).values(values))

    async def _one(self, key: ColumnElement[bool], *, lock: bool = False) -> SavedSearch:
        query = select(_TABLE).where(self._mine(key))
        if lock:
            query = query.with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("saved search")
        return _search(row)

    def _mine(self, key: ColumnElement[bool]) -> ColumnElement[bool]:
        return key & (_TABLE.c.owner == self._owner)


def _search(row: Any) -> SavedSearch:
    return SavedSearch(**row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
