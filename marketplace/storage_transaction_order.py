"""The orders in which entries are listed, each with its keyset: where a page begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Row, Select, select, true, tuple_, union_all

from gem.marketplace.v1.transaction_service_pb2 import TransactionOrder
from marketplace.storage_paging import refused_token
from marketplace.storage_transaction_filter import ENTRY

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_TOKEN = re.compile(r"(-?[0-9]{1,18})\.([0-9a-f]{32})")
_VALUE_TOKEN = re.compile(r"([^|]{0,8})\|(-?[0-9]{1,19})\|(.*)")
_BIGINT = range(-(2**63), 2**63)
_BY_TIME = ("started_at", "transaction_id")


@dataclass(frozen=True, slots=True)
class Order:
    """An order by some columns, all upwards or all downwards; an index serves it."""

    columns: tuple[str, ...]
    descending: bool

    @property
    def by_value(self) -> bool:
        """Whether the value comes before the time."""
        return "value_micros" in self.columns

    def sort(self, query: Select[Any], of: FromClause) -> Select[Any]:
        """Bring the rows of a query into this order."""
        columns = [of.c[name] for name in self.columns]
        return query.order_by(*(c.desc() if self.descending else c.asc() for c in columns))

    def behind(self, token: str | None) -> ColumnElement[bool]:
        """Give the condition that an entry comes after the one of a token; MarketError."""
        if token is None:
            return true()
        key, last = tuple_(*(ENTRY.c[name] for name in self.columns)), tuple_(*self._parsed(token))
        return key < last if self.descending else key > last

    def token(self, row: Row[Any]) -> str:
        """Give the key of a row, from which the next page goes on."""
        time = time_token(row.started_at, row.transaction_id)
        return f"{row.currency_code}|{row.value_micros}|{time}" if self.by_value else time

    def _parsed(self, token: str) -> tuple[Any, ...]:
        if not self.by_value:
            return parsed_time_token(token)
        match = _VALUE_TOKEN.fullmatch(token)
        if match is None or int(match[2]) not in _BIGINT:
            raise refused_token()
        return (match[1], int(match[2]), *parsed_time_token(match[3]))


LATEST_FIRST = Order(_BY_TIME, descending=True)
_BY_VALUE = ("currency_code", "value_micros", *_BY_TIME)
#: By the number in the catalogue.
ORDERS = {
    TransactionOrder.TRANSACTION_ORDER_UNSPECIFIED: LATEST_FIRST,
    TransactionOrder.TRANSACTION_ORDER_LATEST_FIRST: LATEST_FIRST,
    TransactionOrder.TRANSACTION_ORDER_EARLIEST_FIRST: Order(_BY_TIME, descending=False),
    TransactionOrder.TRANSACTION_ORDER_HIGHEST_VALUE_FIRST: Order(_BY_VALUE, descending=True),
    TransactionOrder.TRANSACTION_ORDER_LOWEST_VALUE_FIRST: Order(_BY_VALUE, descending=False),
}


def entries_of(
    sides: Sequence[ColumnElement[bool]],
    order: Order,
    token: str | None = None,
    limit: int | None = None,
) -> Select[Any]:
    """Give a query of the entries that meet one of the conditions, in order.

    Each side is read along its index, and what they give is merged: nothing is sorted. Raises
    MarketError REQUEST_INVALID for a token that no list of this order gave.
    """
    behind = order.behind(token)
    parts = [order.sort(select(ENTRY).where(side, behind), ENTRY).limit(limit) for side in sides]
    if len(parts) == 1:
        return parts[0]
    both = union_all(*(part.subquery().select() for part in parts)).subquery()
    return order.sort(select(both), both).limit(limit)


def time_token(started_at: datetime, key: UUID) -> str:
    """Give the key of a row that is listed by time."""
    return f"{(started_at - _EPOCH) // _MICROSECOND}.{key.hex}"


def parsed_time_token(token: str) -> tuple[datetime, UUID]:
    """Read what `time_token` gave; MarketError REQUEST_INVALID for anything else."""
    match = _TIME_TOKEN.fullmatch(token)
    if match is None:
        raise refused_token()
    try:
        return _EPOCH + int(match[1]) * _MICROSECOND, UUID(hex=match[2])
    except OverflowError:
        raise refused_token() from None
