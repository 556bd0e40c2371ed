"""`gem.roaming.v1.SettlementService`: what the parties of cleared sessions owe each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from clearinghouse.answering import Answering, Context
from clearinghouse.clearing_run import ClearingCommand, Netting, run_clearing
from clearinghouse.paging import after_number, after_text, cut, page_size
from clearinghouse.rateable import instant_of
from clearinghouse.refusals import invalid, not_found
from clearinghouse.settlement_rendering import (
    line_message,
    position_message,
    run_message,
    statement_message,
)
from clearinghouse.statement_export import ExportPlaces, file_pieces
from clearinghouse.storage_settlement import (
    BULK_TIMEOUT_S,
    MOST_POSITIONS,
    RunRow,
    SettlementStorage,
    StatementRow,
)
from foundation.errors import MarketError
from foundation.validation import require_valid
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import settlement_service_pb2 as messages
from gem.roaming.v1 import settlement_service_pb2_grpc as services
from interceptors.provider_side import market_call

#: Entries on a page; each has some 300 bytes.
MOST_ENTRIES = 1000
#: Longest time for the file of a statement.
EXPORT_S = 600.0
#: Behind every position.
LAST = 2**63 - 1


def utc_now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


class SettlementServicer(services.SettlementServiceServicer):
    """Shows each partner what he owes or is owed, and the clearing house everything."""

    def __init__(
        self,
        storage: SettlementStorage,
        house_id: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`house_id` is the clearing house's own partner id."""
        self._storage = storage
        self._house_id = house_id
        self._clock = clock
        self._places = ExportPlaces()

    async def RunClearing(  # noqa: N802  # the rpc's name
        self, request: messages.RunClearingRequest, context: Context
    ) -> messages.RunClearingResponse:
        """Settle a period; only the clearing house itself may."""
        async with Answering(context, BULK_TIMEOUT_S):
            require_valid(request)
            if self._viewer() is not None:
                raise MarketError(
                    ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
                    "only the clearing house itself settles a period",
                )
            command = _command(request, self._house_id)
            run = await run_clearing(self._storage.pool, command, self._clock())
        return messages.RunClearingResponse(run=run_message(run))

    async def GetClearingRun(  # noqa: N802  # the rpc's name
        self, request: messages.GetClearingRunRequest, context: Context
    ) -> messages.GetClearingRunResponse:
        """Give a run in which the caller has part."""
        async with Answering(context):
            require_valid(request)
            run = await self._run(request.run_id)
        return messages.GetClearingRunResponse(run=run_message(run))

    async def ListClearingRuns(  # noqa: N802  # the rpc's name
        self, request: messages.ListClearingRunsRequest, context: Context
    ) -> messages.ListClearingRunsResponse:
        """List the runs in which the caller has part, the latest first."""
        async with Answering(context):
            require_valid(request)
            size, before = page_size(request.page, MOST_ENTRIES), after_number(request.page, LAST)
            found = await self._storage.runs(self._viewer(), before, size + 1)
            runs, info = cut(found, size, lambda run: run.run_ref)
        return messages.ListClearingRunsResponse(runs=map(run_message, runs), page=info)

    async def ListStatements(  # noqa: N802  # the rpc's name
        self, request: messages.ListStatementsRequest, context: Context
    ) -> messages.ListStatementsResponse:
        """List statements in which the caller owes or is owed."""
        async with Answering(context):
            require_valid(request)
            size, after = page_size(request.page, MOST_ENTRIES), after_number(request.page, 0)
            found = await self._storage.statements(self._viewer(), request.run_id, after, size + 1)
            statements, info = cut(found, size, lambda row: row.statement_ref)
        return messages.ListStatementsResponse(
            statements=map(statement_message, statements), page=info
        )

    async def ListStatementLines(  # noqa: N802  # the rpc's name
        self, request: messages.ListStatementLinesRequest, context: Context
    ) -> messages.ListStatementLinesResponse:
        """List the records of a statement, each once."""
        async with Answering(context):
            require_valid(request)
            size, after = page_size(request.page, MOST_ENTRIES), after_text(request.page)
            statement = await self._statement(request.statement_id)
            found = await self._storage.lines(statement, _key_of(after), size + 1)
            lines, info = cut(found, size, lambda row: f"{row.record_operator_id} {row.cdr_id}")
        return messages.ListStatementLinesResponse(lines=map(line_message, lines), page=info)

    async def GetNetting(  # noqa: N802  # the rpc's name
        self, request: messages.GetNettingRequest, context: Context
    ) -> messages.GetNettingResponse:
        """Give what the caller pays and gets in a run."""
        async with Answering(context):
            require_valid(request)
            run = await self._run(request.run_id)
            found = await self._storage.positions(run.run_ref, self._viewer(), MOST_POSITIONS + 1)
            if len(found) > MOST_POSITIONS:
                raise MarketError(
                    ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
                    "the run has more positions than an answer holds",
                )
        return messages.GetNettingResponse(positions=map(position_message, found))

    async def ExportStatement(  # noqa: N802  # the rpc's name
        self, request: messages.ExportStatementRequest, context: Context
    ) -> AsyncGenerator[messages.ExportStatementResponse]:
        """Stream a statement's file in pieces."""
        async with Answering(context, EXPORT_S):
            require_valid(request)
            statement = await self._statement(request.statement_id)
            with self._places.one():
                async for piece in file_pieces(self._storage, statement, request.format):
                    yield messages.ExportStatementResponse(content=piece)

    def _viewer(self) -> str | None:
        """Give who may see what: None for the clearing house itself."""
        requester_id = market_call().requester_id
        return None if requester_id == self._house_id else requester_id

    async def _run(self, run_id: str) -> RunRow:
        run = await self._storage.run(run_id, self._viewer())
        if run is None:
            raise not_found("clearing run")
        return run

    async def _statement(self, statement_id: str) -> StatementRow:
        statement = await self._storage.statement(statement_id, self._viewer())
        if statement is None:
            raise not_found("statement")
        return statement


def _command(request: messages.RunClearingRequest, requester_id: str) -> ClearingCommand:
    period = request.period
    start = _end_of_period("start_time", period.start_time, period.HasField("start_time"))
    end = _end_of_period("end_time", period.end_time, period.HasField("end_time"))
    if end <= start:
        raise invalid("period.end_time", "must be a microsecond after the start", "period")
    return ClearingCommand(requester_id, request.request_id, start, end, Netting(request.netting))


def _end_of_period(name: str, timestamp: Timestamp, is_set: bool) -> datetime:
    at = instant_of(timestamp) if is_set else None
    if at is None:
        raise invalid(f"period.{name}", "must be set, between the years 2000 and 2200", "period")
    return at


def _key_of(text: str) -> tuple[str, str]:
    """Read the key of a line: its operator id, which has no space, and the record's id."""
    operator_id, _, cdr_id = text.partition(" ")
    return operator_id, cdr_id
