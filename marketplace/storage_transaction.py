"""Reading the transaction log: lists, sums and single entries, cut to what the actor may see."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    LargeBinary,
    MetaData,
    Row,
    Select,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    func,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import FieldViolation, MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.storage_paging import Page

METADATA = MetaData(schema="marketplace")
_TIME = TIMESTAMP(timezone=True)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_KEY = re.compile(r"(-?[0-9]{1,18})\.([0-9a-f]{32})")
_TOTAL_KEY = re.compile(r"([^|]{0,63})\|([0-9]{1,4})\|([^|]{0,8})")
#: No sum of values is reported beyond what the catalogue's Money holds.
MOST_MICROS = 10**18

ENTRY = Table(
    "service_transaction",
    METADATA,
    Column("transaction_id", Uuid, primary_key=True),
    Column("started_at", _TIME, primary_key=True),
    Column("call_id", Uuid),
    Column("requester_id", Text),
    Column("provider_id", Text),
    Column("contract_id", Text),
    Column("service_id", Text),
    Column("service_version", Text),
    Column("method", Text),
    Column("duration_us", BigInteger),
    Column("status", SmallInteger),
    Column("reason", SmallInteger),
    Column("code", SmallInteger),
    Column("request_bytes", BigInteger),
    Column("answer_bytes", BigInteger),
    Column("request_digest", LargeBinary),
    Column("answer_digest", LargeBinary),
    Column("item_count", BigInteger),
    Column("value_micros", BigInteger),
    Column("currency_code", Text),
)

FAILED_CALL = Table(
    "failed_call",
    METADATA,
    Column("call_id", Uuid, primary_key=True),
    Column("started_at", _TIME, primary_key=True),
    Column("requester_id", Text),
    Column("method", Text),
    Column("duration_us", BigInteger),
    Column("reason", SmallInteger),
    Column("code", SmallInteger),
    Column("request_bytes", BigInteger),
)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start`, inclusive, to `end`, exclusive; None is open."""

    start: datetime | None = None
    end: datetime | None = None

    def of(self, column: ColumnElement[datetime]) -> ColumnElement[bool]:
        """Give the condition that a column lies within."""
        conditions = []
        if self.start is not None:
            conditions.append(column >= self.start)
        if self.end is not None:
            conditions.append(column < self.end)
        return and_(true(), *conditions)


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are meant; empty values do not narrow."""

    requester_id: str = ""
    provider_id: str = ""
    contract_id: str = ""
    service_id: str = ""
    method: str = ""
    call_id: UUID | None = None
    statuses: Sequence[int] = ()
    period: Period = Period()

    def condition(self) -> ColumnElement[bool]:
        """Give the condition that an entry is meant."""
        columns = ENTRY.c
        wanted: list[tuple[ColumnElement[Any], object]] = [
            (columns.requester_id, self.requester_id),
            (columns.provider_id, self.provider_id),
            (columns.contract_id, self.contract_id),
            (columns.service_id, self.service_id),
            (columns.method, self.method),
            (columns.call_id, self.call_id),
        ]
        conditions = [column == value for column, value in wanted if value]
        if self.statuses:
            conditions.append(columns.status.in_(self.statuses))
        return and_(self.period.of(columns.started_at), *conditions)


class TransactionStorage:
    """The log as one reader sees it; the caller owns connection and transaction."""

    def __init__(self, connection: AsyncConnection, actor: Actor) -> None:
        self._connection = connection
        self._actor = actor

    async def one(self, transaction_id: UUID) -> Row[Any] | None:
        """Give an entry; None where there is none that the actor may see."""
        query = select(ENTRY).where(ENTRY.c.transaction_id == transaction_id, self._visible())
        return (await self._connection.execute(query)).one_or_none()

    async def entries(
        self, page: Page[str], which: EntryFilter
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """Give a page of entries, the latest first."""
        key = (ENTRY.c.started_at, ENTRY.c.transaction_id)
        condition = and_(which.condition(), _behind(page, *key))
        parts = [
            _latest_first(select(ENTRY).where(side, condition), page, *key)
            for side in self._sides()
        ]
        query = parts[0]
        if len(parts) > 1:
            both = union_all(*(part.subquery().select() for part in parts)).subquery()
            query = _latest_first(select(both), page, both.c.started_at, both.c.transaction_id)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, _key_of("transaction_id"))

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
                value.cast(BigInteger).label("value_micros"),
            )
            .where(which.condition(), self._visible())
            .group_by(*key)
            .order_by(*key)
            .limit(page.size + 1)
        )
        if page.after is not None:
            provider_id, status, currency_code = _parsed(_TOTAL_KEY, page.after)
            query = query.where(tuple_(*key) > tuple_(provider_id, int(status), currency_code))
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: f"{row.provider_id}|{row.status}|{row.currency_code}")

    async def failed_calls(
        self, page: Page[str], requester_id: str, reasons: Sequence[int], period: Period
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """Give a page of failed calls, the latest first."""
        columns = FAILED_CALL.c
        key = (columns.started_at, columns.call_id)
        query = select(FAILED_CALL).where(period.of(columns.started_at), _behind(page, *key))
        if self._actor.is_partner:
            query = query.where(columns.requester_id == self._actor.subject_id)
        if requester_id:
            query = query.where(columns.requester_id == requester_id)
        if reasons:
            query = query.where(columns.reason.in_(reasons))
        rows = (await self._connection.execute(_latest_first(query, page, *key))).all()
        return page.cut(rows, _key_of("call_id"))

    def _visible(self) -> ColumnElement[bool]:
        return or_(*self._sides())

    def _sides(self) -> list[ColumnElement[bool]]:
        """Give conditions, of which each has an index and no entry meets two."""
        if not self._actor.is_partner:
            return [true()]
        me = self._actor.subject_id
        as_requester = ENTRY.c.requester_id == me
        return [as_requester, and_(ENTRY.c.provider_id == me, ENTRY.c.requester_id != me)]


def _latest_first(
    query: Select[Any], page: Page[str], time: ColumnElement[Any], key: ColumnElement[Any]
) -> Select[Any]:
    return query.order_by(time.desc(), key.desc()).limit(page.size + 1)


def _behind(
    page: Page[str], time: ColumnElement[Any], key: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Give the condition that a row comes after the last one of the page before."""
    if page.after is None:
        return true()
    micros, last = _parsed(_TIME_KEY, page.after)
    try:
        instant = _EPOCH + int(micros) * _MICROSECOND
    except OverflowError:
        raise _no_token() from None
    return tuple_(time, key) < tuple_(instant, UUID(hex=last))


def _key_of(name: str) -> Callable[[Row[Any]], str]:
    def key(row: Row[Any]) -> str:
        return f"{(row.started_at - _EPOCH) // _MICROSECOND}.{getattr(row, name).hex}"

    return key


def _parsed(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    match = pattern.fullmatch(text)
    if match is None:
        raise _no_token()
    return match.groups()


def _no_token() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The page token is none that this list gave.",
        violations=(FieldViolation("page.page_token", "must be a next_page_token", "page_token"),),
    )
