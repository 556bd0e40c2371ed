"""Where spans go: an OTLP collector when the settings name one, else nowhere at no cost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from opentelemetry import trace
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from foundation.errors import SettingsError
from interceptors.tracing import open_tracer

_SAMPLED_RATIO = 0.1
_SHUTDOWN_S = 3.0


def open_spans(stack: AsyncExitStack, endpoint: str | None, name: str) -> trace.Tracer | None:
    """Open the tracer, closed with `stack`; a collector that is down or slow costs no call.

    Raises SettingsError where an endpoint is set and the extra `otlp` is not installed.
    """
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ModuleNotFoundError:
        raise SettingsError("otlp_endpoint", "install the extra `gemarket[otlp]`") from None
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
    provider, tracer = open_tracer(BatchSpanProcessor(exporter), f"gemarket {name}", _SAMPLED_RATIO)

    async def shut_down() -> None:
        # The exporter may hang on its collector: what it still holds is not worth a late stop.
        await asyncio.wait(
            (asyncio.ensure_future(asyncio.to_thread(provider.shutdown)),), timeout=_SHUTDOWN_S
        )

    stack.push_async_callback(shut_down)
    return tracer
