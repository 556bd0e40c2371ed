"""The transaction log in Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from marketplace.transaction_log import LogFigures

_PREFIX = "gemarket_transaction_log_"
_GAUGES = {
    "pending": "Records that are not durable yet.",
    "spilling": "Workers whose records go to the spill, because PostgreSQL is away.",
    "spill_records": "Records in spill files, to be drained.",
    "rejected_records": "Records that PostgreSQL refuses for good; a person has to look at them.",
    "open_intents": "Providers that are being asked under an intent.",
}
_COUNTERS = {
    "spilled": "Records that went to the spill.",
    "drained": "Records that came to PostgreSQL from the worker's own spill.",
    "adopted": "Records that came to PostgreSQL from spills of dead workers.",
    "doubted": "Intents of dead workers that became IN_DOUBT.",
    "failed_calls_dropped": "Failed calls that were not recorded, because too many waited.",
}


class TransactionLogMetrics:
    """Gives `update` to a `DurableTransactionLog` as its observer; several workers add up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            name: Gauge(_PREFIX + name, text, registry=registry, multiprocess_mode="livesum")
            for name, text in _GAUGES.items()
        }
        self._counters = {
            name: Counter(_PREFIX + name, text, registry=registry)
            for name, text in _COUNTERS.items()
        }
        self._counted = dict.fromkeys(_COUNTERS, 0)
        self._lost_counter = Counter(
            _PREFIX + "failed_calls_lost",
            "Failed calls whose record the interceptor gave up: the log refused, or took too long.",
            registry=registry,
        )
        self._lost_counted = 0
        self._lost: Callable[[], int] = lambda: 0

    def watch_lost(self, lost: Callable[[], int]) -> None:
        """Show the number of records that the interceptor of failed calls has given up so far."""
        self._lost = lost

    def update(self, figures: LogFigures) -> None:
        """Show the log's figures; counters grow by what came since the last time."""
        lost = self._lost()
        self._lost_counter.inc(lost - self._lost_counted)
        self._lost_counted = lost
        for name, gauge in self._gauges.items():
            gauge.set(getattr(figures, name))
        for name, counter in self._counters.items():
            total = getattr(figures, name)
            counter.inc(total - self._counted[name])
            self._counted[name] = total
