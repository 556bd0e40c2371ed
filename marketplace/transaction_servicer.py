"""TransactionService: reading the transaction log (use cases 1242, 1471; business process 1495)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import actor_of, not_found
from marketplace.log_evidence_servicer import LogEvidenceServicer
from marketplace.statement import month_bounds
from marketplace.storage_command import transaction
from marketplace.storage_contract import ContractStorage
from marketplace.storage_paging import page_by_text
from marketplace.storage_statement import charges_for, statement_of
from marketplace.storage_transaction import TransactionStorage
from marketplace.storage_transaction_export import TransactionExport
from marketplace.storage_transaction_filter import Period
from marketplace.storage_transaction_order import ORDERS
from marketplace.transaction_export import MEDIA_TYPES, ExportPlaces, file_pieces
from marketplace.transaction_rendering import (
    charges_message,
    failed_call_message,
    statement_message,
    total_message,
    transaction_message,
)
from marketplace.transaction_request import entry_filter, period


class TransactionServicer(LogEvidenceServicer):
    """Serves `gem.marketplace.v1.TransactionService`; the log's chains are in the class below."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(engine)
        self._clock = clock
        self._exports = ExportPlaces()

    async def GetTransaction(  # noqa: N802  # named like the rpc
        self, request: wire.GetTransactionRequest, call: Call
    ) -> wire.GetTransactionResponse:
        """Give one entry; MarketError NOT_FOUND also where it belongs to others."""
        async with self._storage(call) as storage:
            row = await storage.one(UUID(request.transaction_id))
        if row is None:
            raise not_found("transaction")
        return wire.GetTransactionResponse(transaction=transaction_message(row))

    async def ListTransactions(  # noqa: N802  # named like the rpc
        self, request: wire.ListTransactionsRequest, call: Call
    ) -> wire.ListTransactionsResponse:
        """Give a page of entries in the order asked for."""
        page, which = page_by_text(request.page), entry_filter(request.filter, actor_of(call))
        async with self._storage(call) as storage:
            rows, info = await storage.entries(page, which, ORDERS[request.order])
        shown = map(transaction_message, rows)
        return wire.ListTransactionsResponse(transactions=shown, page=info)

    async def SummarizeTransactions(  # noqa: N802  # named like the rpc
        self, request: wire.SummarizeTransactionsRequest, call: Call
    ) -> wire.SummarizeTransactionsResponse:
        """Give a page of sums by provider, status and currency."""
        page, which = page_by_text(request.page), entry_filter(request.filter, actor_of(call))
        async with self._storage(call) as storage:
            rows, info = await storage.totals(page, which)
        return wire.SummarizeTransactionsResponse(totals=map(total_message, rows), page=info)

    async def ListFailedCalls(  # noqa: N802  # named like the rpc
        self, request: wire.ListFailedCallsRequest, call: Call
    ) -> wire.ListFailedCallsResponse:
        """Give a page of calls that reached no provider, the latest first."""
        page, within = page_by_text(request.page), period(request.period, "period")
        async with self._storage(call) as storage:
            rows, info = await storage.failed_calls(
                page, request.requester_id, list(request.reasons), within
            )
        shown = map(failed_call_message, rows)
        return wire.ListFailedCallsResponse(failed_calls=shown, page=info)

    async def ExportTransactions(  # noqa: N802  # named like the rpc
        self, request: wire.ExportTransactionsRequest, call: Call
    ) -> AsyncIterator[wire.ExportTransactionsResponse]:
        """Stream a file of entries; see `transaction_export` for the refusals."""
        actor = actor_of(call)
        which, order = entry_filter(request.filter, actor), ORDERS[request.order]
        with self._exports.one():
            async with self._snapshot() as connection:
                export = TransactionExport(connection, actor, which)
                yield wire.ExportTransactionsResponse(
                    media_type=MEDIA_TYPES[request.format],
                    total_count=await export.count() if request.counted else None,
                )
                async with aclosing(file_pieces(export, request.format, order)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def GetMonthlyStatement(  # noqa: N802  # named like the rpc
        self, request: wire.GetMonthlyStatementRequest, call: Call
    ) -> wire.GetMonthlyStatementResponse:
        """Add up a contract's month; MarketError NOT_FOUND also where it belongs to others."""
        start, end = month_bounds(request.month)
        month = Period(start, end)
        async with self._snapshot() as connection:
            contract = await ContractStorage(connection).get(request.contract_id)
            if not actor_of(call).may_see(contract.requester_id, contract.provider_id):
                raise not_found("contract")
            now = self._clock()
            try:
                statement = await statement_of(connection, contract.contract_id, month)
                charges = await charges_for(connection, contract.contract_id, month, now)
                charged = charges_message(*charges)
            except ValueError:
                raise _beyond_money() from None
        message = statement_message(contract, month, statement, month_ended=now >= end)
        message.MergeFrom(charged)
        return wire.GetMonthlyStatementResponse(statement=message)

    @asynccontextmanager
    async def _storage(self, call: Call) -> AsyncIterator[TransactionStorage]:
        async with transaction(self._engine) as connection:
            yield TransactionStorage(connection, actor_of(call))


def _beyond_money() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_INTERNAL,
        "A sum of the statement is beyond what an amount of money can be; none is given rounded.",
    )
