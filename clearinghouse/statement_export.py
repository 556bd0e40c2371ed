"""A statement's file as a stream of pieces: CSV, a workbook, or a document.

Lines are read page by page and never held together: a closed statement does not change, so that no
transaction needs to stay open while a slow caller reads.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

from clearinghouse.statement_document import MOST_LINES, StatementDocument
from clearinghouse.storage_settlement import LineRow, SettlementStorage, StatementRow
from foundation.errors import FieldViolation, MarketError
from foundation.money import decimals_of
from foundation.spreadsheet import MOST_ROWS, Spreadsheet
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import settlement_service_pb2 as messages

#: Exports that one process serves at a time.
MOST_EXPORTS = 2
_RETRY_AFTER_S = 5.0
_LINES_OF_BATCH = 2000
#: The interface's limit of a piece.
_PIECE_BYTES = 256 * 1024
COLUMNS = (
    *("cdr_id", "operator_id", "start_time", "energy_kwh", "amount_without_tax", "tax"),
    *("amount_with_tax", "currency_code", "credited_cdr_id"),
)
Value = str | Decimal
Pieces = AsyncGenerator[bytes]


class ExportPlaces:
    """The places for exports that a process has."""

    def __init__(self, places: int = MOST_EXPORTS) -> None:
        self._free = places

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place; MarketError TOO_MANY_CALLS where all are taken."""
        if not self._free:
            raise MarketError(
                ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                "others export at the moment: try again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class _File(Protocol):
    """A file that is written row by row and read when it is whole; blocks."""

    def add(self, rows: Sequence[Sequence[Value]]) -> None: ...
    def finish(self) -> None: ...
    def pieces(self) -> Iterator[bytes]: ...
    def remove(self) -> None: ...


async def file_pieces(storage: SettlementStorage, statement: StatementRow, form: int) -> Pieces:
    """Give a statement's file in pieces; MarketError REQUEST_INVALID where the form cannot hold it.

    An abandoned stream leaves nothing.
    """
    limits: dict[int, int] = {
        messages.STATEMENT_FORMAT_XLSX: MOST_ROWS,
        messages.STATEMENT_FORMAT_PDF: MOST_LINES,
    }
    if statement.line_count > limits.get(form, statement.line_count):
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "the statement has more lines than this form holds: take CSV",
            violations=(FieldViolation("format", "must hold the statement", "lines"),),
        )
    batches = _batches(storage, statement)
    if form == messages.STATEMENT_FORMAT_CSV:
        pieces = _csv(batches)
    elif form == messages.STATEMENT_FORMAT_XLSX:
        pieces = _file(batches, lambda: Spreadsheet("Statement", COLUMNS))
    else:
        pieces = _file(batches, lambda: StatementDocument(statement))
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece


async def _batches(
    storage: SettlementStorage, statement: StatementRow
) -> AsyncIterator[list[tuple[Value, ...]]]:
    after = ("", "")
    while True:
        lines = await storage.lines(statement, after, _LINES_OF_BATCH)
        if lines:
            yield [row_of(line, statement.currency_code) for line in lines]
        if len(lines) < _LINES_OF_BATCH:
            return
        after = (lines[-1].record_operator_id, lines[-1].cdr_id)


def row_of(line: LineRow, currency_code: str) -> tuple[Value, ...]:
    """Give a line by `COLUMNS`; numbers are exact."""
    tax_micros = line.amount_with_tax_micros - line.amount_without_tax_micros
    return (
        line.cdr_id,
        line.record_operator_id,
        utc_text(line.started_at),
        _decimal(line.energy_milli_wh, 3),
        _decimal(line.amount_without_tax_micros, decimals_of(currency_code)),
        _decimal(tax_micros, decimals_of(currency_code)),
        _decimal(line.amount_with_tax_micros, decimals_of(currency_code)),
        currency_code,
        line.credited_cdr_id,
    )


def utc_text(at: datetime) -> str:
    """Give an instant as `2026-03-02T09:00:00Z`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _decimal(millionths: int, shortest: int) -> Decimal:
    """Give millionths as a decimal of at least so many places, and no more than it needs."""
    exact = Decimal(millionths).scaleb(-6)
    shown = exact.quantize(Decimal(1).scaleb(-shortest)) if shortest else exact
    if shown != exact or not shortest:
        shown = exact.normalize()
    return Decimal(f"{shown:f}")


async def _csv(batches: AsyncIterator[list[tuple[Value, ...]]]) -> Pieces:
    yield _csv_text([COLUMNS])
    async for batch in batches:
        text = _csv_text(batch)
        for start in range(0, len(text), _PIECE_BYTES):
            yield text[start : start + _PIECE_BYTES]


def _csv_text(rows: Sequence[Sequence[Value]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


async def _file(
    batches: AsyncIterator[list[tuple[Value, ...]]], make: Callable[[], _File]
) -> Pieces:
    # One thread does it all in turn, the removal last, also where the call ends in between.
    thread = ThreadPoolExecutor(1, thread_name_prefix="export")
    loop = asyncio.get_running_loop()
    file: _File | None = None
    try:
        file = await loop.run_in_executor(thread, make)
        async for batch in batches:
            await loop.run_in_executor(thread, file.add, batch)
        await loop.run_in_executor(thread, file.finish)
        pieces = file.pieces()
        while piece := await loop.run_in_executor(thread, next, pieces, b""):
            yield piece
    finally:
        if file is not None:
            thread.submit(file.remove)
        thread.shutdown(wait=False)
