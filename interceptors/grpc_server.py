"""The transport towards callers: every method, routed or core, through one adapter on grpc.aio.

A plain unary handler never runs, and never ends, when its caller half-closes without a message. So
each method is registered with a request stream, and the handler reads under a time limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
import structlog

from foundation.errors import MarketError, status_of
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Handler, new_call_id
from interceptors.core_listener import CoreContext, CoreListener
from interceptors.grpc_wire import ByteBudget, GrpcWire
from interceptors.live_calls import LiveCalls
from interceptors.status import budget_exceeded, internal_error, settle_cancellation

_Metadata = Sequence[tuple[str, str | bytes]]
Context = grpc.aio.ServicerContext[bytes, bytes]

#: What only the marketplace says, and says to providers: dropped from what a caller sends. A third,
#: `gem-contract`, stays: with it a caller names the contract that it means.
RESERVED_METADATA = ("gem-requester", "gem-call")
#: How often calls in flight are looked at for their deadlines: far cheaper than a timer a call.
_SWEEP_S = 0.05
_CUT_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of one listener; times in seconds, sizes in bytes."""

    max_request_bytes: int = 4 << 20
    #: All requests in memory at once.
    max_held_bytes: int = 256 << 20
    #: For the whole request of a method that takes one message, else for the first message.
    request_read_timeout_s: float = 5.0
    #: Longest call whatever the caller asks for; a method that streams its answer has its own.
    max_call_s: float = 60.0
    max_stream_s: float = 1800.0
    max_connection_age_s: float = 1800.0
    max_streams_per_connection: int = 1000


def server_options(limits: ServerLimits) -> list[tuple[str, int]]:
    """Give the channel arguments of the listener; the reasons stand beside them."""
    return [
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        # 100 makes the rapid-reset protection refuse honest bursts; partners are limited by us.
        ("grpc.max_concurrent_streams", limits.max_streams_per_connection),
        ("grpc.server_handshake_timeout_ms", 3000),
        ("grpc.max_metadata_size", 8192),
        ("grpc.absolute_max_metadata_size", 16384),
        # TLS is checked once a handshake: a connection does not live for ever.
        ("grpc.max_connection_age_ms", int(limits.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", 60_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Several workers share the port.
        ("grpc.so_reuseport", 1),
    ]


class GrpcServer:
    """A grpc.aio server whose every call goes to `handle`; made inside the running event loop.

    `answers_one(method)` says whether a method answers with exactly one message; it is asked at
    every call, since interfaces come and go, and False is right for any method.
    """

    def __init__(
        self,
        handle: Handler,
        live: LiveCalls,
        limits: ServerLimits,
        answers_one: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._handle = handle
        self._live = live
        self._limits = limits
        self._budget = ByteBudget(limits.max_held_bytes)
        self._loop = asyncio.get_running_loop()
        handler = _EveryMethod(self._serve, answers_one)
        self._listener = CoreListener(server_options(limits), handler)
        self._on_drain: list[Callable[[], None]] = []
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of requests in memory now."""
        return self._budget.held_bytes

    def listen(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Bind `host:port` (port 0 picks a free one) and give the port; RuntimeError if taken."""
        return self._listener.listen(address, credentials)

    async def start(self) -> None:
        await self._listener.start()

    def before_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called first of all when draining starts, for instance NOT_SERVING."""
        self._on_drain.append(callback)

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, let those in flight end within `grace_s`, cut the rest.

        Returns only when no handler runs any more: what handlers use may be closed after it.
        """
        for callback in self._on_drain:
            callback()
        stopping = asyncio.ensure_future(self._listener.stop(grace_s + _CUT_GRACE_S))
        if not await self._live.wait_empty(grace_s):
            error = MarketError(
                ErrorReason.ERROR_REASON_DRAINING, "The marketplace shut down during the call."
            )
            self._live.cut_where(lambda _: error)
            await self._live.wait_empty(_CUT_GRACE_S)
        await stopping
        if not await self._live.wait_empty(_CUT_GRACE_S):
            structlog.get_logger(__name__).error("calls outlive the drain", count=len(self._live))

    async def _serve(
        self, method: str, metadata: _Metadata, single_answer: bool, context: Context
    ) -> bytes:
        """Run one call from its first byte to its end; never raises but CancelledError."""
        task = asyncio.current_task()
        assert task is not None
        wire = GrpcWire(context, task, self._budget, single_answer)
        call = self._call_of(method, metadata, single_answer, context, wire)
        wire.begin(call)
        self._live.add(call)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        try:
            await self._handle(call)
        except MarketError as error:
            call.error = call.error or error
        except asyncio.CancelledError as cancelled:
            if not settle_cancellation(call, cancelled):
                raise
        except Exception as defect:  # noqa: BLE001  # outermost: no text of a defect gets out
            call.error = internal_error(call, defect)
        finally:
            wire.end()
            self._live.remove(call)
            _run_end(call)
        if call.error is not None and wire.status is None:
            wire.finish(status_of(call.error))
        return wire.conclude()

    def _call_of(
        self,
        method: str,
        metadata: _Metadata,
        single_answer: bool,
        context: Context,
        wire: GrpcWire,
    ) -> Call:
        limits = self._limits
        started_s = self._loop.time()
        started_ns = time.time_ns()
        longest_s = limits.max_call_s if single_answer else limits.max_stream_s
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s < longest_s:
            longest_s = remaining_s
        texts = dict(metadata)
        for key in RESERVED_METADATA:
            texts.pop(key, None)
        return Call(
            wire=wire,
            method=method,
            metadata=texts,
            peer_certificate=cast("CoreContext", context).peer_certificate(),
            call_id=new_call_id(started_ns),
            started_ns=started_ns,
            started_s=started_s,
            deadline_s=started_s + longest_s,
        )

    def _sweep(self) -> None:
        """End what is out of time; runs as long as there are calls."""
        now_s = self._loop.time()
        unread_since_s = now_s - self._limits.request_read_timeout_s
        for call in self._live:
            if now_s >= call.deadline_s:
                self._live.cut(call, budget_exceeded())
            elif call.started_s <= unread_since_s:
                wire = call.wire
                if isinstance(wire, GrpcWire) and wire.awaits_request(call.single_request):
                    wire.fail_read(_request_late())
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep) if self._live else None


class _EveryMethod(grpc.GenericRpcHandler):
    """Accepts every path: whether it exists is the chain's business."""

    def __init__(
        self,
        serve: Callable[[str, _Metadata, bool, Context], Awaitable[bytes]],
        answers_one: Callable[[str], bool],
    ) -> None:
        self._serve = serve
        self._answers_one = answers_one

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = handler_call_details.method
        metadata = cast("_Metadata", handler_call_details.invocation_metadata or ())
        serve = self._serve

        if self._answers_one(method):

            async def answer(_requests: Any, context: Context) -> bytes:
                return await serve(method, metadata, True, context)

            return grpc.stream_unary_rpc_method_handler(answer)

        async def stream(_requests: Any, context: Context) -> None:
            await serve(method, metadata, False, context)

        return grpc.stream_stream_rpc_method_handler(stream)


def _request_late() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_COUNT,
        "The call's request was not complete within the time for it.",
    )


def _run_end(call: Call) -> None:
    """Call the ends that hang on a call; a defect of one stops no other and not the call."""
    for on_end in call.on_end:
        try:
            on_end(call.error)
        except Exception as defect:  # noqa: BLE001  # telemetry may fail, calls may not
            internal_error(call, defect)
