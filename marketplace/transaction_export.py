"""Files of transactions as streams of pieces (use case 1242, business process 1495)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from foundation.errors import FieldViolation, MarketError
from foundation.spreadsheet import MOST_ROWS, Spreadsheet
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.storage_transaction_export import COLUMNS, TransactionExport
from marketplace.storage_transaction_order import Order

#: Exports that one worker serves at a time; each holds a connection to the database.
MOST_EXPORTS = 2
_RETRY_AFTER_S = 5.0
#: Well below the limit of a message, for the longest lines.
_PIECE_BYTES = 512 * 1024
MEDIA_TYPES = {
    wire.EXPORT_FORMAT_CSV: "text/csv; charset=utf-8; header=present",
    wire.EXPORT_FORMAT_JSON_LINES: "application/jsonl",
    wire.EXPORT_FORMAT_XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
Pieces = AsyncGenerator[wire.ExportTransactionsResponse]


class ExportPlaces:
    """The places for exports that a worker has."""

    def __init__(self, places: int = MOST_EXPORTS) -> None:
        self._free = places

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place; MarketError TOO_MANY_CALLS where all are taken."""
        if not self._free:
            raise MarketError(
                ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                "Others export at the moment: try again later.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def file_pieces(export: TransactionExport, file_format: int, order: Order) -> Pieces:
    """Give an export's file in pieces; MarketError REQUEST_INVALID beyond a sheet's rows."""
    if file_format == wire.EXPORT_FORMAT_CSV:
        return _text(export.csv_lines(order), ",".join(COLUMNS) + "\r\n", "\r\n")
    if file_format == wire.EXPORT_FORMAT_JSON_LINES:
        return _text(export.json_lines(order), "", "\n")
    return _workbook(export, order)


async def _text(batches: AsyncIterator[Sequence[str]], head: str, end: str) -> Pieces:
    written = 0
    if head:
        yield wire.ExportTransactionsResponse(content=head.encode())
    async for batch in batches:
        written += len(batch)
        for piece in _cut((end.join(batch) + end).encode()):
            yield wire.ExportTransactionsResponse(content=piece, written_count=written)


def _cut(content: bytes) -> list[bytes]:
    return [content[i : i + _PIECE_BYTES] for i in range(0, len(content), _PIECE_BYTES)]


async def _workbook(export: TransactionExport, order: Order) -> Pieces:
    # One thread does it all in turn, the removal last, also where the call ends in between.
    thread = ThreadPoolExecutor(1, thread_name_prefix="export")
    loop = asyncio.get_running_loop()
    sheet: Spreadsheet | None = None
    try:
        sheet = await loop.run_in_executor(thread, Spreadsheet, "Transactions", COLUMNS)
        async for batch in export.rows(order):
            await loop.run_in_executor(thread, sheet.add, batch)
            yield wire.ExportTransactionsResponse(written_count=sheet.row_count)
        await export.release()
        await loop.run_in_executor(thread, sheet.finish)
        pieces = sheet.pieces()
        while piece := await loop.run_in_executor(thread, next, pieces, b""):
            yield wire.ExportTransactionsResponse(content=piece, written_count=sheet.row_count)
    except OverflowError:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            f"A sheet holds {MOST_ROWS} entries at most: narrow the search, or take another form.",
            violations=(FieldViolation("format", "must hold what is found", "rows"),),
        ) from None
    finally:
        if sheet is not None:
            thread.submit(sheet.remove)
        thread.shutdown(wait=False)
