"""OpenTelemetry spans around calls and asks; made only where a tracer is configured.

The span processor of the exporter must be the batching one: its queue is bounded and drops, so that
an exporter that is down or blocks never holds up a call.
"""

from __future__ import annotations

import re
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from foundation.errors import Code, MarketError, reason_name

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


def valid_traceparent(text: object) -> str | None:
    """Give a W3C trace context header (version 00) as it is when it is well formed, else None."""
    if not isinstance(text, str):
        return None
    match = _TRACEPARENT.fullmatch(text)
    if match is None or match[1] == _NO_TRACE or match[2] == _NO_SPAN:
        return None
    return text


def open_tracer(
    processor: SpanProcessor, service_name: str, sampled_ratio: float
) -> tuple[TracerProvider, trace.Tracer]:
    """Make a tracer that samples a share of the calls whose caller did not decide itself.

    The provider's `shutdown` may wait for the exporter: run it in a thread, with a limit.
    """
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sampled_ratio)),
        resource=Resource.create({"service.name": service_name}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return provider, provider.get_tracer("gemarket")


def start_span(
    tracer: trace.Tracer, name: str, parent: str | None, kind: SpanKind, attributes: dict[str, Any]
) -> trace.Span:
    """Start a span below the span that a valid `traceparent` names."""
    context = None
    if parent is not None:
        _, trace_id, span_id, flags = parent.split("-")
        remote = SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(int(flags, 16)),
        )
        context = trace.set_span_in_context(NonRecordingSpan(remote))
    return tracer.start_span(name, context, kind, attributes)


def traceparent_of(span: trace.Span) -> str:
    """Render a span as the header that the next hop gets."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def end_span(span: trace.Span, error: MarketError | None) -> None:
    """End a call's span with its status; only code and reason, never a text."""
    code = Code.OK if error is None or error.code is None else error.code
    span.set_attribute("rpc.grpc.status_code", int(code))
    if error is not None:
        span.set_attribute("error.type", reason_name(error.reason))
        span.set_status(trace.StatusCode.ERROR)
    span.end()
