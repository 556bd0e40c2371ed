"""The listener: calls straight from the completion queues of grpc's core (docs/decisions/0007).

grpc.aio hands every step of a call over through tasks and wrappers of its own, which cost more than
everything the marketplace does for the call. Here one thread takes events from the core's queue and
passes them to the event loop, as many at a time as have come; a call is one task. It uses the
wheel's own binding (`grpc._cython.cygrpc`, as `grpc.server` does), pinned by the lock file.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpc's core has no types

from interceptors.begun_calls import BegunCalls

Options = list[tuple[str, int]]

#: Calls that the core may hand over before the event loop has taken one.
_ACCEPTING = 64
#: A deadline later than this is none, seconds since 1970.
_NEVER_S = 1e11
#: Events that the loop takes before it lets others have their turn.
_EVENTS_AT_ONCE = 128
#: From so many calls in flight on the loop looks for events itself, so much later. Only those count
#: that have just begun: a stream that waits for news would hold up who calls now and then.
_BUSY_CALLS = 8
_LOOK_AFTER_S = 0.001
#: A deadline that has passed: take what is there.
_AT_ONCE = 0.0
#: Longest wait for cancelled calls to end.
_CANCEL_S = 5.0
_NO_METADATA: tuple[tuple[str, str], ...] = ()

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class CallDetails:
    """Implements `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


class CoreListener:
    """Listens with `handler` on its ports until it is stopped; made inside its event loop."""

    def __init__(self, options: Options, handler: grpc.GenericRpcHandler) -> None:
        self._handler = handler
        self.loop = asyncio.get_running_loop()
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        #: The event that woke the loop; the thread waits until the loop has taken all others.
        self._first: Any = None
        self._drained = threading.Semaphore(0)
        self._ended = False
        #: Whether the loop has looked in vain since the last event.
        self._has_looked = False
        self._stopping = False
        self._shut_down: asyncio.Future[None] = self.loop.create_future()
        self._calls: set[CoreContext] = set()
        self._begun = BegunCalls()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._take_events, name="grpc core", daemon=True)

    def listen(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Bind `host:port` and give the port; RuntimeError where that is not possible."""
        own = credentials._credentials  # type: ignore[attr-defined]  # noqa: SLF001  # the core's
        port: int = self._server.add_http2_port(address.encode(), own)
        if port == 0:
            raise RuntimeError(f"cannot listen on {address}")
        return port

    async def start(self) -> None:
        self._server.start()
        for _ in range(_ACCEPTING):
            self._accept_one()
        self._thread.start()

    async def stop(self, grace_s: float) -> None:
        """Stop listening; calls in flight have `grace_s` to end, then they are cancelled."""
        self._stopping = True
        if not self._thread.is_alive():
            return
        self._server.shutdown(self._queue, self._on_shut_down)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_s)
        self._server.cancel_all_calls()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_S):
                await self._shut_down
                await self._idle.wait()
        self._queue.shutdown()
        await asyncio.to_thread(self._thread.join, _CANCEL_S)

    def ended(self, call: CoreContext) -> None:
        """Forget a call whose last step is done."""
        self._calls.discard(call)
        self._begun.end(call.period)
        if not self._calls:
            self._idle.set()

    def _take_events(self) -> None:
        """Run in the thread: wait for an event, wake the event loop, wait until it has no more."""
        while True:
            if self._ended:
                return
            event = self._next(None)
            if event is not None and event.completion_type == _QUEUE_SHUTDOWN:
                return
            self._first = event
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the event loop is closed: nobody listens any more
                return
            self._drained.acquire()

    def _next(self, deadline_s: float | None) -> Any:
        """Take an event from the core; None for one that cannot be read."""
        try:
            return self._queue.poll(deadline_s)
        except Exception:  # noqa: BLE001  # one event that cannot be read must not end the rest
            return None

    def _deliver(self) -> None:
        """Handle the event that woke the loop, and all others that have come.

        Under load the loop so takes its events itself: a thread that took them would fight with it
        for the interpreter at every one.
        """
        event, self._first = self._first, None
        for _ in range(_EVENTS_AT_ONCE):
            self._handle(event)
            event = self._next(_AT_ONCE)
            if event is not None and event.completion_type != _OPERATION_COMPLETE:
                self._wait(event)
                return
        self._first = event
        self.loop.call_soon(self._deliver)

    def _wait(self, nothing: Any) -> None:
        """Have more events fetched when there are some: by the thread, unless there is much to do.

        Each time that the thread wakes the loop they hand the interpreter over twice, which costs
        more than looking for events a little later, and finding several.
        """
        if nothing.completion_type == _QUEUE_SHUTDOWN:
            self._ended = True
        elif self._begun.count() >= _BUSY_CALLS and not self._has_looked:
            self._has_looked = True
            self.loop.call_later(_LOOK_AFTER_S, self._look)
            return
        self._has_looked = False
        self._drained.release()

    def _look(self) -> None:
        event = self._next(_AT_ONCE)
        if event is None or event.completion_type == _OPERATION_COMPLETE:
            self._has_looked = False
            self._first = event
            self._deliver()
        else:
            self._wait(event)

    def _handle(self, event: Any) -> None:
        try:
            if event is None:
                _log.error("an event of grpc's core could not be read")
                self._accept_one()
            else:
                event.tag(event)
        except Exception as defect:  # noqa: BLE001  # one call's defect is not the next one's
            _log.error("defect", exception=type(defect).__qualname__)

    def _accept_one(self) -> None:
        if not self._stopping:
            self._server.request_call(self._queue, self._queue, self._on_call)

    def _on_call(self, event: Any) -> None:
        if not event.success or event.call_details is None:
            return
        self._accept_one()
        call = CoreContext(self, event, self._begun.begin())
        self._calls.add(call)
        self._idle.clear()
        try:
            method = event.call_details.method.decode()
        except UnicodeDecodeError:
            call.refuse()
            return
        details = CallDetails(method, event.invocation_metadata or _NO_METADATA)
        call.begin(self._handler.service(details))

    def _on_shut_down(self, _event: Any) -> None:
        if not self._shut_down.done():
            self._shut_down.set_result(None)


class CoreContext:
    """One call: what a handler needs of `grpc.aio.ServicerContext`."""

    __slots__ = (
        "_answered",
        "_arrived",
        "_call",
        "_code",
        "_deadline_s",
        "_details",
        "_listener",
        "_opened",
        "_pending",
        "_reader",
        "_receiving",
        "_task",
        "_trailing",
        "_writer",
        "period",
    )

    def __init__(self, listener: CoreListener, event: Any, period: int) -> None:
        self._listener = listener
        self.period = period
        self._call = event.call
        self._deadline_s: float = event.call_details.deadline
        self._task: asyncio.Task[None] | None = None
        #: Messages, and at the end EOF, that wait to be read.
        self._arrived: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[bool] | None = None
        self._receiving = False
        self._opened = False
        self._answered = False
        #: Steps that the core still works on; the call is kept until there is none.
        self._pending = 0
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._trailing: Sequence[tuple[str, str | bytes]] = _NO_METADATA

    def begin(self, handler: Any) -> None:
        """Serve the call in a task of its own."""
        self._start((cygrpc.ReceiveCloseOnServerOperation(0),), self._on_close)
        self._receive()
        serve = handler.stream_unary or handler.stream_stream
        self._task = self._listener.loop.create_task(self._serve(serve, handler.response_streaming))

    def refuse(self) -> None:
        """End a call whose method has no name that could be served."""
        self._code = grpc.StatusCode.UNIMPLEMENTED
        self._start((cygrpc.ReceiveCloseOnServerOperation(0),), self._on_close)
        self._finish(None)

    async def read(self) -> Any:
        """Give the next message, or EOF; one reader at a time."""
        arrived = self._arrived
        while not arrived:
            if not self._receiving:
                self._receive()
            self._reader = self._listener.loop.create_future()
            await self._reader
        message = arrived[0]
        if message is not _EOF:
            arrived.popleft()
        return message

    async def write(self, message: bytes) -> None:
        """Send a message; returns when the core takes more."""
        operations: tuple[Any, ...] = (cygrpc.SendMessageOperation(message, 0),)
        if not self._opened:
            self._opened = True
            operations = (cygrpc.SendInitialMetadataOperation((), 0), *operations)
        self._writer = self._listener.loop.create_future()
        self._start(operations, self._on_written)
        if not await self._writer:
            raise grpc.aio.UsageError("the call has ended")

    def peer_certificate(self) -> bytes | None:
        """Give the certificate of the connection's other end, in PEM; None where it has none."""
        found: Sequence[bytes] | None = cygrpc.auth_context(self._call).get(_CERTIFICATE)
        return found[0] if found else None

    def time_remaining(self) -> float | None:
        """Give the seconds until the caller's deadline; None where it set none."""
        if self._deadline_s > _NEVER_S:
            return None
        return max(0.0, self._deadline_s - time.time())

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self._trailing = metadata

    async def _serve(self, serve: Any, streams_answers: bool) -> None:
        try:
            answer = await serve(None, self)
        except asyncio.CancelledError:
            self._call.cancel(cygrpc.StatusCode.cancelled, "cancelled")
            return
        except Exception as defect:  # noqa: BLE001  # the handler has its own outermost catch
            _log.error("defect", exception=type(defect).__qualname__)
            self._code = grpc.StatusCode.INTERNAL
            answer = None
        with_answer = not streams_answers and self._code is grpc.StatusCode.OK
        self._finish(answer if with_answer else None)

    def _finish(self, answer: bytes | None) -> None:
        """Send what is left, in one step: headers, the only answer, the status."""
        self._answered = True
        operations: list[Any] = []
        if not self._opened:
            operations.append(cygrpc.SendInitialMetadataOperation((), 0))
        if answer is not None:
            operations.append(cygrpc.SendMessageOperation(answer, 0))
        code = self._code.value[0]
        operations.append(
            cygrpc.SendStatusFromServerOperation(self._trailing, code, self._details, 0)
        )
        self._start(tuple(operations), self._on_step)

    def _receive(self) -> None:
        self._receiving = True
        self._start((cygrpc.ReceiveMessageOperation(0),), self._on_message)

    def _start(self, operations: tuple[Any, ...], then: Callable[[Any], None]) -> None:
        self._pending += 1
        self._call.start_server_batch(operations, then)

    def _on_step(self, _event: Any) -> None:
        self._pending -= 1
        if not self._pending:
            self._listener.ended(self)

    def _on_message(self, event: Any) -> None:
        self._receiving = False
        message = event.batch_operations[0].message()
        first = not self._arrived and message is not None
        self._arrived.append(_EOF if message is None else message)
        if first and not self._answered:
            # What follows is fetched ahead: for most calls it is the end of the request.
            self._receive()
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)
        self._on_step(event)

    def _on_written(self, event: Any) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            writer.set_result(event.success)
        self._on_step(event)

    def _on_close(self, event: Any) -> None:
        """Cancel the handler when the caller has gone, or when its deadline has passed."""
        if event.batch_operations[0].cancelled() and self._task is not None:
            self._task.cancel()
        self._on_step(event)


_EOF = grpc.aio.EOF
_CERTIFICATE = b"x509_pem_cert"
_QUEUE_SHUTDOWN = cygrpc.CompletionType.queue_shutdown
_OPERATION_COMPLETE = cygrpc.CompletionType.operation_complete
