"""What is counted, logged and traced, and that none of it can hold up or leak into a call."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from interceptors.call import Call
from interceptors.metrics import Metrics
from interceptors.status import report_status
from interceptors.telemetry import Telemetry
from interceptors.tracing import open_tracer, valid_traceparent
from tests.identities import Identity, MakeIdentity
from tests.interceptors.support import (
    ECHO,
    ProbeMarket,
    Text,
    caller,
    channel,
    make_call,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OK = AnswerStatus.ANSWER_STATUS_OK


class Probe:
    """Telemetry around a handler, with its metrics at hand."""

    def __init__(self, tracer: object = None, sampled_every: int = 0) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        known = {ECHO}.__contains__
        self.telemetry = Telemetry(self.metrics, known, tracer, sampled_every)  # type: ignore[arg-type]

    async def run(self, call: Call, reason: int = 0) -> None:
        async def handler(call: Call) -> None:
            if reason:
                raise MarketError(reason, "refused")
            await call.wire.write(b"")

        async def inner(call: Call) -> None:
            await report_status(call, handler)

        try:
            await self.telemetry(call, inner)
        except MarketError:
            assert reason

    def value(self, name: str, **labels: str) -> float:
        self.metrics.write()
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        PARENT.upper(),
        PARENT + "-00",
        PARENT.replace("00-0a", "ff-0a"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "x" * 8000,
    ],
)
async def test_a_traceparent_that_is_not_well_formed_is_not_forwarded(text: object) -> None:
    assert valid_traceparent(text) is None
    call = make_call(metadata={} if text is None else {"traceparent": text})
    await Probe().run(call)
    assert call.traceparent is None


async def test_a_caller_cannot_make_new_labels() -> None:
    probe = Probe()
    for number in range(20):
        call = make_call(method=f"/invented/{number}")
        await probe.run(call, ErrorReason.ERROR_REASON_METHOD_UNKNOWN)
    assert probe.value("gemarket_calls_total", method="other", code="UNIMPLEMENTED") == 20
    samples = [each for family in probe.registry.collect() for each in family.samples]
    assert not any("invented" in value for each in samples for value in each.labels.values())


async def test_lines_of_failures_are_limited_and_hold_nothing_of_the_caller() -> None:
    probe = Probe()
    with capture_logs() as lines:
        for _ in range(500):
            call = make_call(
                method="/secret/Path", caller=caller(), metadata={"authorization": "secret"}
            )
            await probe.run(call, ErrorReason.ERROR_REASON_METHOD_UNKNOWN)
        await asyncio.sleep(1.0 - time.perf_counter() % 1.0)
        await probe.run(make_call(), ErrorReason.ERROR_REASON_NO_CONTRACT)
    assert 20 <= len(lines) <= 61
    written = sum(1 + line["unwritten_lines"] for line in lines)
    assert written == 501
    assert "secret" not in repr(lines)
    assert lines[-1]["reason"] == "NO_CONTRACT"
    assert lines[-1]["code"] == "PERMISSION_DENIED"


async def test_of_calls_that_succeed_a_sample_is_logged() -> None:
    probe = Probe(sampled_every=10)
    with capture_logs() as lines:
        for _ in range(25):
            await probe.run(make_call())
    assert [line["code"] for line in lines] == ["OK", "OK"]


async def test_calls_are_counted_by_method_code_and_reason_and_timed() -> None:
    probe = Probe()
    for _ in range(3):
        await probe.run(make_call())
    await probe.run(make_call(), ErrorReason.ERROR_REASON_NO_CONTRACT)
    assert probe.value("gemarket_calls_total", method=ECHO, code="OK") == 3
    assert probe.value("gemarket_calls_total", method=ECHO, code="PERMISSION_DENIED") == 1
    assert probe.value("gemarket_call_failures_total", reason="NO_CONTRACT") == 1
    assert probe.value("gemarket_call_seconds_count", method=ECHO) == 4
    assert probe.value("gemarket_call_seconds_bucket", method=ECHO, le="60.0") == 4
    assert 0 < probe.value("gemarket_call_seconds_sum", method=ECHO) < 60
    assert probe.value("gemarket_calls_in_flight") == 0


async def test_what_was_counted_shows_within_seconds_by_itself() -> None:
    probe = Probe()
    await probe.run(make_call())
    await asyncio.sleep(1.2)
    labels = {"method": ECHO, "code": "OK"}
    assert probe.registry.get_sample_value("gemarket_calls_total", labels) == 1


async def test_asks_are_counted_by_provider_and_status() -> None:
    probe = Probe()
    probe.telemetry.ask_span(make_call(), "volt", ECHO).end(OK)
    probe.telemetry.ask_span(make_call(), "volt", ECHO).end(AnswerStatus.ANSWER_STATUS_TIMED_OUT)
    assert probe.value("gemarket_asks_total", provider="volt", status="OK") == 1
    assert probe.value("gemarket_asks_total", provider="volt", status="TIMED_OUT") == 1
    assert probe.value("gemarket_ask_seconds_count", provider="volt") == 2


async def test_without_a_tracer_the_callers_trace_is_passed_on_as_it_is() -> None:
    probe = Probe()
    call = make_call(metadata={"traceparent": PARENT})
    await probe.run(call)
    assert call.span is None
    assert probe.telemetry.ask_span(call, "volt", ECHO).traceparent == PARENT


class TestSpans:
    """With a tracer: one trace from the caller through us to the provider."""

    @pytest.fixture
    def exporter(self) -> InMemorySpanExporter:
        return InMemorySpanExporter()

    @pytest.fixture
    async def probe(self, exporter: InMemorySpanExporter) -> AsyncIterator[Probe]:
        provider, tracer = open_tracer(SimpleSpanProcessor(exporter), "test", 0.0)
        yield Probe(tracer)
        provider.shutdown()

    async def test_a_call_that_its_caller_does_not_trace_is_sampled_by_our_own_ratio(
        self, exporter: InMemorySpanExporter, probe: Probe
    ) -> None:
        call = make_call()
        await probe.run(call)
        assert exporter.get_finished_spans() == ()
        assert call.traceparent is not None
        assert int(call.traceparent[-2:], 16) & 1 == 0  # forwarded as not sampled

    async def test_spans_of_call_and_ask_join_the_callers_trace(
        self, exporter: InMemorySpanExporter, probe: Probe
    ) -> None:
        call = make_call(metadata={"traceparent": PARENT}, caller=caller("acme"))
        forwarded: list[str | None] = []

        async def handler(call: Call) -> None:
            ask = probe.telemetry.ask_span(call, "volt", ECHO)
            forwarded.append(ask.traceparent)
            ask.end(OK)

        await probe.telemetry(call, handler)
        ask, server = exporter.get_finished_spans()
        assert (ask.kind, server.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
        assert server.parent is not None
        assert ask.parent is not None
        assert ask.context is not None
        assert server.context is not None
        assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
        assert ask.parent.span_id == server.context.span_id
        trace = "0af7651916cd43dd8448eb211c80319c"
        assert forwarded == [f"00-{trace}-{ask.context.span_id:016x}-01"]
        assert (server.attributes or {})["gem.requester_id"] == "acme"
        assert (ask.attributes or {})["gem.provider_id"] == "volt"

    async def test_a_failure_shows_its_reason_and_no_text(
        self, exporter: InMemorySpanExporter, probe: Probe
    ) -> None:
        call = make_call(method="/secret/Path", metadata={"traceparent": PARENT})
        await probe.run(call, ErrorReason.ERROR_REASON_METHOD_UNKNOWN)
        (span,) = exporter.get_finished_spans()
        assert span.name == "other"
        assert (span.attributes or {})["error.type"] == "METHOD_UNKNOWN"
        assert re.search("secret|refused", span.to_json()) is None


class BlockedExporter(SpanExporter):
    """A collector that never answers, or that is not there."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.release = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.fails:
            raise ConnectionError("the collector is down")
        self.release.wait(30)
        return SpanExportResult.FAILURE


@pytest.mark.fault
@pytest.mark.parametrize("fails", [True, False], ids=["down", "blocking"])
async def test_an_exporter_in_trouble_has_no_effect_on_calls(
    fails: bool, make_identity: MakeIdentity, marketplace_identity: Identity
) -> None:
    exporter = BlockedExporter(fails)
    # A tiny queue and batch, so that the exporter's trouble is met at once.
    processor = BatchSpanProcessor(
        exporter, max_queue_size=8, schedule_delay_millis=10, max_export_batch_size=4
    )
    provider: TracerProvider
    provider, tracer = open_tracer(processor, "test", 1.0)
    market = ProbeMarket(tracer=tracer)
    acme = make_identity("acme")
    market.registry.register(acme, "acme")
    raw = Text(text="x").SerializeToString()
    try:
        async with market.listening(marketplace_identity) as at, channel(at.port, acme) as to:
            echo = to.unary_unary(ECHO)
            await echo(raw)
            for _ in range(100):
                started_s = time.monotonic()
                assert await echo(raw, timeout=2.0) == raw
                assert time.monotonic() - started_s < 0.5
    finally:
        exporter.release.set()
        await asyncio.to_thread(provider.shutdown)
