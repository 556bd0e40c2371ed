"""The transaction log as the command line asks for it: filters, pages, exported files."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from gem.common.v1 import money_pb2, paging_pb2, time_range_pb2
from gem.marketplace.v1 import statement_pb2, transaction_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from gemarket.times import instant_of

if TYPE_CHECKING:
    # The stub with awaitable methods is a type only: at run time it is TransactionServiceStub.
    from gem.marketplace.v1.transaction_service_pb2_grpc import TransactionServiceAsyncStub

TIMEOUT_S = 60.0
EXPORT_TIMEOUT_S = 1800.0
_PAGE_SIZE = 1000
_N = TypeVar("_N")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_VALUE = re.compile(r"(-?[0-9]{1,18})?\.\.(-?[0-9]{1,18})? ([A-Z]{3})")

ROLES = {
    "buyer": wire.TRANSACTION_ROLE_BUYER,
    "seller": wire.TRANSACTION_ROLE_SELLER,
    "debtor": wire.TRANSACTION_ROLE_DEBTOR,
    "creditor": wire.TRANSACTION_ROLE_CREDITOR,
}
ORDERS = {
    "latest": wire.TRANSACTION_ORDER_LATEST_FIRST,
    "earliest": wire.TRANSACTION_ORDER_EARLIEST_FIRST,
    "highest-value": wire.TRANSACTION_ORDER_HIGHEST_VALUE_FIRST,
    "lowest-value": wire.TRANSACTION_ORDER_LOWEST_VALUE_FIRST,
}
FORMATS = {
    ".csv": wire.EXPORT_FORMAT_CSV,
    ".jsonl": wire.EXPORT_FORMAT_JSON_LINES,
    ".xlsx": wire.EXPORT_FORMAT_XLSX,
}


def filter_of(
    *,
    role: str = "",
    party: str = "",
    partner: str = "",
    service: str = "",
    contract: str = "",
    status: str = "",
    value: str = "",
    since: str = "",
    until: str = "",
) -> wire.TransactionFilter:
    """Read the options of a search; ValueError with the reason."""
    made = wire.TransactionFilter(
        role=_one_of(ROLES, role, "role") if role else wire.TRANSACTION_ROLE_UNSPECIFIED,
        party_id=party,
        counterparty_id=partner,
        service_id=service,
        contract_id=contract,
        statuses=[_status(name) for name in status.split(",") if name],
        value=_value(value) if value else None,
    )
    if since or until:
        made.period.CopyFrom(
            time_range_pb2.TimeRange(start_time=time_of(since), end_time=time_of(until))
        )
    return made


def order_of(name: str) -> wire.TransactionOrder.ValueType:
    """Read the name of an order; ValueError with the known ones."""
    return _one_of(ORDERS, name, "order")


def format_of(file: Path) -> wire.ExportFormat.ValueType:
    """Give the form that a file's name asks for; ValueError with the known endings."""
    return _one_of(FORMATS, file.suffix.lower(), "ending of a file")


def month_of(text: str) -> str:
    """Check a month such as 2026-02; ValueError."""
    if _MONTH.fullmatch(text) is None:
        raise ValueError("a month is written YYYY-MM, for instance 2026-02")
    return text


def money_text(value: money_pb2.Money) -> str:
    """Give an amount with six decimals: nothing is rounded."""
    whole, micros = divmod(abs(value.amount_micros), 10**6)
    sign = "-" if value.amount_micros < 0 else ""
    return f"{sign}{whole}.{micros:06d} {value.currency_code}"


async def search(
    stub: TransactionServiceAsyncStub,
    which: wire.TransactionFilter,
    order: wire.TransactionOrder.ValueType,
    limit: int,
) -> AsyncIterator[transaction_pb2.ServiceTransaction]:
    """Give the first entries of a search, at most `limit`, page by page."""
    page, left = paging_pb2.PageRequest(), limit
    while left > 0:
        page.page_size = min(left, _PAGE_SIZE)
        request = wire.ListTransactionsRequest(filter=which, page=page, order=order)
        answer = await stub.ListTransactions(request, timeout=TIMEOUT_S)
        for entry in answer.transactions:
            yield entry
        left -= len(answer.transactions)
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return


async def statement(
    stub: TransactionServiceAsyncStub, contract_id: str, month: str
) -> statement_pb2.MonthlyStatement:
    """Give a contract's statement of a month."""
    request = wire.GetMonthlyStatementRequest(contract_id=contract_id, month=month)
    return (await stub.GetMonthlyStatement(request, timeout=TIMEOUT_S)).statement


async def export(
    stub: TransactionServiceAsyncStub,
    request: wire.ExportTransactionsRequest,
    file: Path,
    progress: Callable[[int, int | None], None],
) -> int:
    """Write an exported file and give the number of its entries.

    The file gets its name when it is whole; `progress` is told entries written and expected. Raises
    `grpc.aio.AioRpcError` or OSError, and leaves nothing then.
    """
    scratch = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with scratch.open("xb") as output:
            written = await _receive(stub, request, output, progress)
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)
    return written


async def _receive(
    stub: TransactionServiceAsyncStub,
    request: wire.ExportTransactionsRequest,
    output: BinaryIO,
    progress: Callable[[int, int | None], None],
) -> int:
    written, total = 0, None
    async for piece in stub.ExportTransactions(request, timeout=EXPORT_TIMEOUT_S):
        if piece.HasField("total_count"):
            total = piece.total_count
        output.write(piece.content)
        written = max(written, piece.written_count)
        progress(written, total)
    return written


def _one_of(known: Mapping[str, _N], name: str, kind: str) -> _N:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    return known[name]


def _status(name: str) -> AnswerStatus.ValueType:
    known = {
        text.removeprefix("ANSWER_STATUS_").lower().replace("_", "-"): number
        for text, number in AnswerStatus.items()
        if number
    }
    return _one_of(known, name, "status")


def _value(text: str) -> wire.ValueRange:
    match = _VALUE.fullmatch(text)
    if match is None:
        raise ValueError("a range of values is written in millionths: '0..5000000 EUR', '1.. EUR'")
    least, most, currency_code = match.groups()
    return wire.ValueRange(
        currency_code=currency_code,
        least_micros=None if least is None else int(least),
        most_micros=None if most is None else int(most),
    )


def time_of(text: str) -> Timestamp | None:
    """Read a time of ISO 8601, in UTC unless it says otherwise; None for none. ValueError."""
    return instant_of(text) if text else None
