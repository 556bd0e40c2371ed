"""Prometheus metrics of a worker; several worker processes add up in multi-process mode.

In that mode each single value costs microseconds, so what happens is added up in plain numbers and
written once a second. Label values are bounded: methods and providers are those of the catalogue
and the registry, anything else counts as `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from foundation.errors import Code, reason_name
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
#: Label value of what is not known.
OTHER = "other"
_STATUS_PREFIX = "ANSWER_STATUS_"


class _BulkHistogram(Histogram):
    """A histogram to which many observations are added at once."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add as many observations to each bucket, `total` their sum; the last bucket is +Inf."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


class _Series:
    """What happened under one label value since the last writing."""

    __slots__ = ("buckets", "counts", "total_s")

    def __init__(self) -> None:
        #: Number of ends by kind: a status code or an answer status.
        self.counts: dict[int, int] = {}
        self.buckets = [0] * (len(_BUCKETS_S) + 1)
        self.total_s = 0.0

    def add(self, kind: int, duration_s: float) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.buckets[bisect_left(_BUCKETS_S, duration_s)] += 1
        self.total_s += duration_s


class Metrics:
    """Counts calls by method and code, failures by reason, asks by provider and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "gemarket_calls", "Calls that ended.", ["method", "code"], registry=registry
        )
        self._call_seconds = _BulkHistogram(
            "gemarket_call_seconds",
            "Time from a call's first byte to its end.",
            ["method"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._failures = Counter(
            "gemarket_call_failures", "Calls that failed, by reason.", ["reason"], registry=registry
        )
        self._asks = Counter(
            "gemarket_asks", "Providers asked.", ["provider", "status"], registry=registry
        )
        self._ask_seconds = _BulkHistogram(
            "gemarket_ask_seconds",
            "Time from asking a provider to the end of its answer.",
            ["provider"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._in_flight = Gauge(
            "gemarket_calls_in_flight",
            "Calls in flight.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        #: Calls in flight now; shown from the next writing on.
        self.in_flight = 0
        self._call_series: dict[str, _Series] = {}
        self._ask_series: dict[str, _Series] = {}
        self._reasons: dict[int, int] = {}

    def call_ended(self, method: str, code: int, reason: int, duration_s: float) -> None:
        """Count one call; `reason` is 0 for OK."""
        _series(self._call_series, method).add(code, duration_s)
        if reason:
            self._reasons[reason] = self._reasons.get(reason, 0) + 1

    def ask_ended(self, provider_id: str, status: int, duration_s: float) -> None:
        """Count one provider asked; `status` is a `gem.mesh.v1.AnswerStatus`."""
        _series(self._ask_series, provider_id).add(status, duration_s)

    def write(self) -> None:
        """Move what was added up into the metrics that are scraped."""
        for method, series in self._call_series.items():
            for code, count in series.counts.items():
                self._calls.labels(method, Code(code).name).inc(count)
            self._call_seconds.labels(method).add(series.buckets, series.total_s)
        for provider_id, series in self._ask_series.items():
            for status, count in series.counts.items():
                self._asks.labels(provider_id, _status_name(status)).inc(count)
            self._ask_seconds.labels(provider_id).add(series.buckets, series.total_s)
        for reason, count in self._reasons.items():
            self._failures.labels(reason_name(reason)).inc(count)
        self._in_flight.set(self.in_flight)
        self._call_series.clear()
        self._ask_series.clear()
        self._reasons.clear()


def _series(added: dict[str, _Series], name: str) -> _Series:
    series = added.get(name)
    if series is None:
        series = added[name] = _Series()
    return series


def _status_name(status: int) -> str:
    return AnswerStatus.Name(AnswerStatus.ValueType(status)).removeprefix(_STATUS_PREFIX)
