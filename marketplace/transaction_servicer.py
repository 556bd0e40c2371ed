"""TransactionService: reading the transaction log (use cases 1242, 1471)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.errors import FieldViolation, MarketError
from gem.common.v1.money_pb2 import Money
from gem.common.v1.time_range_pb2 import TimeRange
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.transaction_pb2 import FailedCall, ServiceTransaction, TransactionTotal
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import actor_of, not_found
from marketplace.storage_paging import page_by_text
from marketplace.storage_transaction import EntryFilter, Period, TransactionStorage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TransactionServicer:
    """Serves `gem.marketplace.v1.TransactionService` from the database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def GetTransaction(  # noqa: N802  # named like the rpc
        self, request: wire.GetTransactionRequest, call: Call
    ) -> wire.GetTransactionResponse:
        """Give one entry; MarketError NOT_FOUND also where it belongs to others."""
        async with self._storage(call) as storage:
            row = await storage.one(UUID(request.transaction_id))
        if row is None:
            raise not_found("transaction")
        return wire.GetTransactionResponse(transaction=_transaction(row))

    async def ListTransactions(  # noqa: N802  # named like the rpc
        self, request: wire.ListTransactionsRequest, call: Call
    ) -> wire.ListTransactionsResponse:
        """Give a page of entries, the latest first."""
        page, which = page_by_text(request.page), _filter(request.filter)
        async with self._storage(call) as storage:
            rows, info = await storage.entries(page, which)
        return wire.ListTransactionsResponse(transactions=map(_transaction, rows), page=info)

    async def SummarizeTransactions(  # noqa: N802  # named like the rpc
        self, request: wire.SummarizeTransactionsRequest, call: Call
    ) -> wire.SummarizeTransactionsResponse:
        """Give a page of sums by provider, status and currency."""
        page, which = page_by_text(request.page), _filter(request.filter)
        async with self._storage(call) as storage:
            rows, info = await storage.totals(page, which)
        return wire.SummarizeTransactionsResponse(totals=map(_total, rows), page=info)

    async def ListFailedCalls(  # noqa: N802  # named like the rpc
        self, request: wire.ListFailedCallsRequest, call: Call
    ) -> wire.ListFailedCallsResponse:
        """Give a page of calls that reached no provider, the latest first."""
        page, period = page_by_text(request.page), _period(request.period, "period")
        async with self._storage(call) as storage:
            rows, info = await storage.failed_calls(
                page, request.requester_id, list(request.reasons), period
            )
        return wire.ListFailedCallsResponse(failed_calls=map(_failed_call, rows), page=info)

    @asynccontextmanager
    async def _storage(self, call: Call) -> AsyncIterator[TransactionStorage]:
        async with self._engine.connect() as connection:
            yield TransactionStorage(connection, actor_of(call))


def _filter(message: wire.TransactionFilter) -> EntryFilter:
    return EntryFilter(
        requester_id=message.requester_id,
        provider_id=message.provider_id,
        contract_id=message.contract_id,
        service_id=message.service_id,
        method=message.method,
        call_id=UUID(message.call_id) if message.call_id else None,
        statuses=tuple(message.statuses),
        period=_period(message.period, "filter.period"),
    )


def _period(message: TimeRange, field: str) -> Period:
    start = _instant(message.start_time, field) if message.HasField("start_time") else None
    end = _instant(message.end_time, field) if message.HasField("end_time") else None
    return Period(start, end)


def _instant(message: Timestamp, field: str) -> datetime:
    """Read a time, rounded up to the log's microseconds: exact for both ends of a period."""
    try:
        return _EPOCH + timedelta(seconds=message.seconds, microseconds=-(-message.nanos // 1000))
    except OverflowError:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The period reaches beyond the calendar.",
            violations=(FieldViolation(field, "must lie between the years 1 and 9999", "period"),),
        ) from None


def _timestamp(instant: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def _transaction(row: Row[Any]) -> ServiceTransaction:
    return ServiceTransaction(
        transaction_id=str(row.transaction_id),
        call_id=str(row.call_id),
        requester_id=row.requester_id,
        provider_id=row.provider_id,
        contract_id=row.contract_id,
        service_id=row.service_id,
        service_version=row.service_version,
        method=row.method,
        start_time=_timestamp(row.started_at),
        duration_us=row.duration_us,
        status=row.status,
        reason=row.reason,
        code=row.code,
        request_bytes=row.request_bytes,
        answer_bytes=row.answer_bytes,
        request_digest=row.request_digest,
        answer_digest=row.answer_digest,
        item_count=row.item_count,
        value=Money(amount_micros=row.value_micros, currency_code=row.currency_code),
    )


def _total(row: Row[Any]) -> TransactionTotal:
    return TransactionTotal(
        provider_id=row.provider_id,
        status=row.status,
        transaction_count=row.transaction_count,
        value=Money(amount_micros=row.value_micros, currency_code=row.currency_code),
    )


def _failed_call(row: Row[Any]) -> FailedCall:
    return FailedCall(
        call_id=str(row.call_id),
        requester_id=row.requester_id,
        method=row.method,
        start_time=_timestamp(row.started_at),
        duration_us=row.duration_us,
        reason=row.reason,
        code=row.code,
        request_bytes=row.request_bytes,
    )
