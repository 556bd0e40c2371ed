"""What every servicer of the clearing house does around an answer."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, TypeAlias

import asyncpg
import grpc
import structlog
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from clearinghouse.refusals import away, invalid
from clearinghouse.storage import DATABASE_ERRORS
from foundation.errors import MarketError, status_of
from gem.mesh.v1.error_reason_pb2 import ErrorReason

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
#: Longest answer of a call that is no stream.
ANSWER_S = 10.0
_log = structlog.get_logger("clearinghouse")


class Answering:
    """`async with Answering(context):` bounds the time of an answer and turns errors into statuses.

    Texts of the database and of defects go to the log, never to the caller.
    """

    def __init__(self, context: Context, longest_s: float = ANSWER_S) -> None:
        remaining_s = context.time_remaining()
        bound_s = longest_s if remaining_s is None else min(longest_s, remaining_s)
        self._context = context
        self._timeout = asyncio.timeout(bound_s)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            error = late
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            await self._abort(_refusal(error))

    async def _abort(self, error: MarketError) -> None:
        status: Any = rpc_status.to_status(status_of(error))
        await self._context.abort_with_status(status)


def _refusal(error: Exception) -> MarketError:
    """Give what the caller is told."""
    if isinstance(error, MarketError):
        return error
    if isinstance(error, asyncpg.DataError):
        # What the schema lets pass and PostgreSQL does not: a NUL in a text.
        return invalid("", "a text that cannot be stored", "text")
    if isinstance(error, DATABASE_ERRORS):
        _log.warning("database away", error=type(error).__name__)
        return away()
    _log.error("defect", exc_info=error)
    return MarketError(ErrorReason.ERROR_REASON_INTERNAL, "a defect of the clearing house")
