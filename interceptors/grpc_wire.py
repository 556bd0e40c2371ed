"""One call on grpc.aio as a `Wire`: reading with a limit of time and bytes, writing, ending."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.rpc import status_pb2

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call

#: Status codes of grpc by number, for `set_code`.
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_KEY = "grpc-status-details-bin"
#: gRPC cuts trailers at its metadata limit; larger details are left out, code and text stay.
_MAX_DETAILS_BYTES = 6000
_RETRY_S = 0.1


class ByteBudget:
    """Bytes of requests that a worker holds in memory at once."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0


class GrpcWire:
    """Implements `interceptors.call.Wire`.

    With `single_answer` the only answer message leaves together with the status, which saves a
    hand-over to grpc's core; it is then returned by `conclude`.
    """

    __slots__ = (
        "_answer",
        "_budget",
        "_call",
        "_context",
        "_held_bytes",
        "_late",
        "_reading",
        "_single_answer",
        "_task",
        "half_closed",
        "received",
        "status",
    )

    def __init__(
        self,
        context: grpc.aio.ServicerContext[bytes, bytes],
        task: asyncio.Task[Any],
        budget: ByteBudget,
        single_answer: bool,
    ) -> None:
        self._context = context
        self._task: asyncio.Task[Any] | None = task
        self._budget = budget
        self._single_answer = single_answer
        self._answer: bytes | None = None
        self._held_bytes = 0
        self._late: MarketError | None = None
        self._reading = False
        self.half_closed = False
        self._call: Call | None = None
        #: Number of messages read.
        self.received = 0
        self.status: status_pb2.Status | None = None

    def begin(self, call: Call) -> None:
        """Count what is read into `call`."""
        self._call = call

    async def read(self) -> bytes | None:
        if self.half_closed:
            return None
        self._reading = True
        try:
            message = await self._context.read()
        except asyncio.CancelledError:
            if self._late is None:
                raise
            assert self._task is not None
            self._task.uncancel()
            raise self._late from None
        except grpc.aio.BaseError:
            raise _caller_gone() from None
        finally:
            self._reading = False
        if not isinstance(message, bytes):  # grpc.aio.EOF
            self.half_closed = True
            return None
        self._account(len(message))
        return message

    async def write(self, message: bytes) -> None:
        if self._single_answer:
            assert self._answer is None, "the method answers with one message"
            self._answer = message
            return
        try:
            await self._context.write(message)
        except grpc.aio.BaseError:
            raise _caller_gone() from None

    def finish(self, status: status_pb2.Status | None) -> None:
        self.status = status

    def cut(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def awaits_request(self, single_request: bool) -> bool:
        """Say whether the handler waits for a request that should have come by now."""
        return self._reading and (single_request or self.received == 0)

    def fail_read(self, error: MarketError) -> None:
        """Make the pending `read` raise `error`."""
        self._late = error
        self.cut()

    def end(self) -> None:
        """Release what the call holds; cutting it has no effect from here on."""
        self._task = self._call = None
        self._budget.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def conclude(self) -> bytes:
        """Hand the status to grpc; gives the answer message of a single-answer method."""
        if self.status is None:
            if self._single_answer:
                assert self._answer is not None, "a call that succeeds has an answer"
                return self._answer
            return b""
        details = self.status.SerializeToString()
        if len(details) <= _MAX_DETAILS_BYTES:
            self._context.set_trailing_metadata(((_DETAILS_KEY, details),))
        self._context.set_details(self.status.message)
        self._context.set_code(_CODES[self.status.code])
        return b""

    def _account(self, size_bytes: int) -> None:
        """Count a message; of a stream only the newest counts as held."""
        self.received += 1
        if self._call is not None:
            self._call.request_bytes += size_bytes
        budget = self._budget
        budget.held_bytes += size_bytes - self._held_bytes
        self._held_bytes = size_bytes
        if budget.held_bytes > budget.limit_bytes:
            raise MarketError(
                ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                "The marketplace holds as many bytes of requests as it may.",
                retry_after_s=_RETRY_S,
            )


def _caller_gone() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_CALL_CANCELLED, "The caller's connection or call has ended."
    )
