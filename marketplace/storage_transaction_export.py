"""Entries of the log as columns of a file, read from a cursor of the server.

PostgreSQL renders the lines of text files: that is several times faster than rendering values here,
and takes no time from the calls that this worker routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Subquery,
    Text,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.actor import Actor
from marketplace.storage_transaction_filter import ENTRY, EntryFilter
from marketplace.storage_transaction_order import Order, entries_of

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

#: Rows that are fetched, rendered and sent together.
BATCH_ROWS = 500
_ISO_TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'

#: In the order of the file, named like the fields of ServiceTransaction.
COLUMNS = (
    *("transaction_id", "call_id", "requester_id", "provider_id", "contract_id", "service_id"),
    *("service_version", "method", "start_time", "duration_us", "status", "reason", "code"),
    *("request_bytes", "answer_bytes", "request_digest", "answer_digest", "item_count"),
    *("value_micros", "currency_code", "unit_count", "price_number"),
)
_TEXT = frozenset(
    {
        *("requester_id", "provider_id", "contract_id", "service_id", "service_version", "method"),
        "currency_code",
    }
)


class TransactionExport:
    """One export; the caller owns the connection and its transaction, which sees one snapshot."""

    def __init__(self, connection: AsyncConnection, actor: Actor, which: EntryFilter) -> None:
        self._connection = connection
        self._sides = which.sides(actor)

    async def count(self) -> int:
        """Give the number of entries."""
        query = select(func.count()).select_from(ENTRY).where(or_(*self._sides))
        return int((await self._connection.execute(query)).scalar_one())

    async def release(self) -> None:
        """End the snapshot once all is read: the database would cut a session that idles in it."""
        await self._connection.commit()

    def csv_lines(self, order: Order) -> AsyncIterator[Sequence[str]]:
        """Give lines of RFC 4180 without their ends."""
        rows, columns = self._columns(order)
        quoted = (
            func.concat('"', func.replace(column, '"', '""'), '"') if name in _TEXT else column
            for name, column in columns.items()
        )
        return self._batches(_ordered(select(func.concat_ws(",", *quoted)), rows, order))

    def json_lines(self, order: Order) -> AsyncIterator[Sequence[str]]:
        """Give JSON objects without line ends."""
        rows, columns = self._columns(order)
        pairs = (part for name, column in columns.items() for part in (literal(name), column))
        line = cast(func.json_build_object(*pairs), Text)
        return self._batches(_ordered(select(line), rows, order))

    def rows(self, order: Order) -> AsyncIterator[Sequence[Sequence[str | int]]]:
        """Give rows of texts and numbers."""
        rows, columns = self._columns(order)
        return self._batches(_ordered(select(*columns.values()), rows, order))

    def _columns(self, order: Order) -> tuple[Subquery, dict[str, ColumnElement[Any]]]:
        rows = entries_of(self._sides, order).subquery("entry")
        entry = rows.c
        changed: dict[str, ColumnElement[Any]] = {
            "transaction_id": cast(entry.transaction_id, Text),
            "call_id": cast(entry.call_id, Text),
            "start_time": func.to_char(func.timezone("UTC", entry.started_at), _ISO_TIME),
            "status": _name(entry.status, AnswerStatus, "ANSWER_STATUS_"),
            "reason": _name(entry.reason, ErrorReason, "ERROR_REASON_"),
            "request_digest": func.encode(entry.request_digest, "hex"),
            "answer_digest": func.encode(entry.answer_digest, "hex"),
            "unit_count": func.coalesce(entry.units, 0),
            "price_number": func.coalesce(entry.price_id, 0),
        }
        return rows, {name: changed[name] if name in changed else entry[name] for name in COLUMNS}

    async def _batches(self, query: Select[Any]) -> AsyncIterator[Sequence[Any]]:
        options = {"yield_per": BATCH_ROWS}
        found = await self._connection.stream(query, execution_options=options)
        try:
            parts = found.scalars() if len(query.selected_columns) == 1 else found
            async for batch in parts.partitions():
                yield batch
        finally:
            await found.close()


def _ordered(query: Select[Any], rows: Subquery, order: Order) -> Select[Any]:
    return order.sort(query.select_from(rows), rows)


def _name(
    column: ColumnElement[Any], enum: _EnumTypeWrapper[Any], prefix: str
) -> ColumnElement[str]:
    """Give the name of an enum's value without its prefix; empty for the unspecified one."""
    names = {
        literal_column(str(number), Integer): literal_column(f"'{name.removeprefix(prefix)}'", Text)
        for name, number in enum.items()
        if number
    }
    return case(names, value=column, else_=literal_column("''", Text))
