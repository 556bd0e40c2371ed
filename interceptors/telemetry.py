"""Interceptor: counts, times, traces and logs every call, whoever refused it.

Without a tracer a call costs two metrics; a log line is written for a failure, at a limited
rate, and for a sample of the rest. Private fields cannot get into it: it holds no payload, no
metadata and no text of a caller or provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter, time_ns
from typing import Any, Protocol

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from foundation.errors import Code, MarketError, reason_name
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Handler
from interceptors.metrics import OTHER, Metrics
from interceptors.tracing import end_span, start_span, traceparent_of, valid_traceparent

_MAX_FAILURE_LINES_PER_S = 20
#: How often what was counted is written to where Prometheus reads it.
_WRITE_S = 1.0


class AskSpan(Protocol):
    """The trace of one provider asked."""

    #: What to forward to the provider as `traceparent`; None where nobody traces.
    traceparent: str | None

    def answered(self) -> None:
        """Note that the provider's part is over; `end` may come later."""

    def end(self, status: int) -> None:
        """End it with a `gem.mesh.v1.AnswerStatus`, as of `answered` where that was before."""


class _Ask:
    __slots__ = (
        "_answered_ns",
        "_duration_s",
        "_metrics",
        "_provider_id",
        "_span",
        "_started_s",
        "traceparent",
    )

    def __init__(
        self,
        metrics: Metrics,
        provider_id: str,
        traceparent: str | None,
        span: trace.Span | None,
    ) -> None:
        self._metrics = metrics
        self._provider_id = provider_id
        self._started_s = perf_counter()
        self._span = span
        self._duration_s: float | None = None
        self._answered_ns: int | None = None
        self.traceparent = traceparent

    def answered(self) -> None:
        self._duration_s = perf_counter() - self._started_s
        if self._span is not None:
            self._answered_ns = time_ns()

    def end(self, status: int) -> None:
        if self._duration_s is None:
            self.answered()
        assert self._duration_s is not None, "just set"
        self._metrics.ask_ended(self._provider_id, status, self._duration_s)
        if self._span is not None:
            self._span.set_attribute("gem.answer_status", status)
            self._span.end(self._answered_ns)


class Telemetry:
    """For one event loop. `is_known(method)` bounds the labels; `tracer` None traces nothing.

    `sampled_every` writes a log line for one in so many calls that succeed; 0 for none.
    """

    def __init__(
        self,
        metrics: Metrics,
        is_known: Callable[[str], bool],
        tracer: trace.Tracer | None = None,
        sampled_every: int = 1000,
    ) -> None:
        self._metrics = metrics
        self._is_known = is_known
        self._tracer = tracer
        self._sampled_every = sampled_every
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.TimerHandle | None = None
        self._log: Any = structlog.get_logger("call")
        self._ended = 0
        self._line_second = 0
        self._lines = 0
        self._unwritten = 0

    async def __call__(self, call: Call, proceed: Handler) -> None:
        """Run the call inside a span, if any, and account for it however it ends."""
        call.traceparent = valid_traceparent(call.metadata.get("traceparent"))
        if self._tracer is not None:
            self._start_span(call, self._tracer)
        self._metrics.in_flight += 1
        started_s = perf_counter()
        try:
            await proceed(call)
        finally:
            self._metrics.in_flight -= 1
            self._end(call, perf_counter() - started_s)

    def ask_span(self, call: Call, provider_id: str, method: str) -> AskSpan:
        """Trace and time one provider that is asked in a call."""
        traceparent, span = call.traceparent, None
        if self._tracer is not None and call.span is not None and call.span.is_recording():
            attributes = {"gem.provider_id": provider_id}
            span = start_span(self._tracer, method, traceparent, SpanKind.CLIENT, attributes)
            traceparent = traceparent_of(span)
        return _Ask(self._metrics, provider_id, traceparent, span)

    def _start_span(self, call: Call, tracer: trace.Tracer) -> None:
        name = call.method if self._is_known(call.method) else OTHER
        attributes = {"rpc.system": "grpc", "gem.call_id": str(call.call_id)}
        call.span = start_span(tracer, name, call.traceparent, SpanKind.SERVER, attributes)
        call.traceparent = traceparent_of(call.span)

    def _end(self, call: Call, duration_s: float) -> None:
        method = call.method if self._is_known(call.method) else OTHER
        error = call.error
        if self._writer is None:
            self._writer = self._loop.call_later(_WRITE_S, self._write_metrics)
        if error is None:
            self._metrics.call_ended(method, 0, 0, duration_s)
            self._ended += 1
            if self._sampled_every and self._ended % self._sampled_every == 0:
                self._write(call, method, None, duration_s)
        else:
            self._metrics.call_ended(method, int(error.code or 0), error.reason, duration_s)
            self._write_failure(call, method, error, duration_s)
        if call.span is not None:
            if call.caller is not None:
                call.span.set_attribute("gem.requester_id", call.caller.subject_id)
            end_span(call.span, error)

    def _write_metrics(self) -> None:
        """Write what was added up; goes on while calls end or are in flight."""
        self._writer = None
        if self._metrics.in_flight:
            self._writer = self._loop.call_later(_WRITE_S, self._write_metrics)
        self._metrics.write()

    def _write_failure(
        self, call: Call, method: str, error: MarketError, duration_s: float
    ) -> None:
        """Write a failure's line, but no more than some a second; the next line counts the rest."""
        second = int(perf_counter())
        if second != self._line_second:
            self._line_second, self._lines = second, 0
        if self._lines >= _MAX_FAILURE_LINES_PER_S:
            self._unwritten += 1
            return
        self._lines += 1
        self._write(call, method, error, duration_s)

    def _write(self, call: Call, method: str, error: MarketError | None, duration_s: float) -> None:
        reason = error.reason if error else ErrorReason.ERROR_REASON_UNSPECIFIED
        self._log.info(
            "call",
            call_id=str(call.call_id),
            method=method,
            requester_id=call.caller.subject_id if call.caller else None,
            code=Code(error.code or 0).name if error else Code.OK.name,
            reason=reason_name(reason) if reason else None,
            duration_us=int(duration_s * 1e6),
            request_bytes=call.request_bytes,
            unwritten_lines=self._unwritten,
        )
        self._unwritten = 0
