"""Interceptor: calls of a known caller that failed and reached no provider are recorded.

Use case 1241 asks for it. Calls that reached providers are in the transaction log by provider;
refusals of callers nobody knows are only counted, by telemetry.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog

from foundation.errors import CODE_OF, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, FailedCall, Handler

#: A record that takes longer is given up: the caller is not kept waiting for the log of a failure.
_RECORD_TIMEOUT_S = 2.0


class FailedCallLog(Protocol):
    """Where failed calls are recorded."""

    async def record_failed(self, failed: FailedCall) -> None:
        """Record one failed call."""


class FailedCallRecorder:
    """Records into `log`; what goes wrong there is logged and changes nothing for the caller."""

    def __init__(self, log: FailedCallLog) -> None:
        self._log = log
        #: Records that could not be made.
        self.lost = 0

    async def __call__(self, call: Call, proceed: Handler) -> None:
        """Go on, and record the call when it fails before any provider was asked."""
        try:
            await proceed(call)
        except BaseException as failure:
            if call.caller is not None and not call.providers_asked:
                await self._record(call, call.caller.subject_id, _reason_of(call, failure))
            raise

    async def _record(self, call: Call, requester_id: str, reason: int) -> None:
        failed = FailedCall(
            call_id=call.call_id,
            requester_id=requester_id,
            # A method that does not exist is text of the caller's, of any length.
            method="" if reason == ErrorReason.ERROR_REASON_METHOD_UNKNOWN else call.method,
            started_ns=call.started_ns,
            duration_us=max(0, (time.time_ns() - call.started_ns) // 1000),
            reason=reason,
            code=int(CODE_OF[reason]),
            request_bytes=call.request_bytes,
        )
        try:
            async with asyncio.timeout(_RECORD_TIMEOUT_S):
                await self._log.record_failed(failed)
        except Exception as defect:  # noqa: BLE001  # the log's trouble is not the caller's
            self.lost += 1
            structlog.get_logger(__name__).error(
                "failed call not recorded",
                call_id=str(call.call_id),
                exception=type(defect).__qualname__,
            )


def _reason_of(call: Call, failure: BaseException) -> int:
    if isinstance(failure, MarketError):
        return failure.reason
    if not isinstance(failure, asyncio.CancelledError):
        return ErrorReason.ERROR_REASON_INTERNAL
    if call.cut_by is not None:
        return call.cut_by.reason
    return ErrorReason.ERROR_REASON_CALL_CANCELLED
