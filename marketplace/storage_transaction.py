"""Reading the transaction log: lists, sums and single entries, cut to what the actor may see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import Actor
from marketplace.storage_paging import Page, refused_token
from marketplace.storage_transaction_filter import ENTRY, FAILED_CALL, EntryFilter, Period
from marketplace.storage_transaction_order import (
    Order,
    entries_of,
    parsed_time_token,
    time_token,
)

_TOTAL_KEY = re.compile(r"([^|]{0,63})\|([0-9]{1,4})\|([^|]{0,8})")
#: No sum of values is reported beyond what the catalogue's Money holds.
MOST_MICROS = 10**18


class TransactionStorage:
    """The log as one reader sees it; the caller owns connection and transaction."""

    def __init__(self, connection: AsyncConnection, actor: Actor) -> None:
        self._connection = connection
        self._actor = actor

    async def one(self, transaction_id: UUID) -> Row[Any] | None:
        """Give an entry; None where there is none that the actor may see."""
        visible = or_(*EntryFilter().sides(self._actor))
        query = select(ENTRY).where(ENTRY.c.transaction_id == transaction_id, visible)
        return (await self._connection.execute(query)).one_or_none()

    async def entries(
        self, page: Page[str], which: EntryFilter, order: Order
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """Give a page of entries in order."""
        query = entries_of(which.sides(self._actor), order, page.after, page.size + 1)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, order.token)

    async def totals(
        self, page: Page[str], which: EntryFilter
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """Give a page of sums by provider, status and currency."""
        key = (ENTRY.c.provider_id, ENTRY.c.status, ENTRY.c.currency_code)
        value = func.least(func.sum(ENTRY.c.value_micros), MOST_MICROS)
        query = (
            select(
                *key,
                func.count().label("transaction_count"),
                func.greatest(value, -MOST_MICROS).cast(BigInteger).label("value_micros"),
            )
            .where(or_(*which.sides(self._actor)))
            .group_by(*key)
            .order_by(*key)
            .limit(page.size + 1)
        )
        if page.after is not None:
            match = _TOTAL_KEY.fullmatch(page.after)
            if match is None:
                raise refused_token()
            query = query.where(tuple_(*key) > tuple_(match[1], int(match[2]), match[3]))
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: f"{row.provider_id}|{row.status}|{row.currency_code}")

    async def failed_calls(
        self, page: Page[str], requester_id: str, reasons: Sequence[int], period: Period
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """Give a page of failed calls, the latest first."""
        columns = FAILED_CALL.c
        conditions = [period.of(columns.started_at)]
        if page.after is not None:
            last = tuple_(*parsed_time_token(page.after))
            conditions.append(tuple_(columns.started_at, columns.call_id) < last)
        if self._actor.is_partner:
            conditions.append(columns.requester_id == self._actor.subject_id)
        if requester_id:
            conditions.append(columns.requester_id == requester_id)
        if reasons:
            conditions.append(columns.reason.in_(reasons))
        query = select(FAILED_CALL).where(and_(*conditions)).limit(page.size + 1)
        query = query.order_by(columns.started_at.desc(), columns.call_id.desc())
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: time_token(row.started_at, row.call_id))
