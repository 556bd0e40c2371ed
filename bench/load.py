"""The load generator and what it measures: latencies, and the CPU that a server process spends."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psutil

#: Calls in flight at once, as all ratios of `docs/performance.md` are measured.
IN_FLIGHT = 32

Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one round of calls cost."""

    calls: int
    wall_s: float
    cpu_s: float
    latencies_ms: tuple[float, ...]

    @property
    def cpu_us_per_call(self) -> float:
        """CPU of the measured processes for each call, microseconds."""
        return self.cpu_s / self.calls * 1e6

    @property
    def per_s(self) -> float:
        """Calls a second."""
        return self.calls / self.wall_s

    def percentile_ms(self, percent: float) -> float:
        """Latency that `percent` of the calls do not exceed, milliseconds."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def cpu_s(processes: list[psutil.Process]) -> float:
    """Give the user and system time that the processes have spent so far, seconds."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def measure(
    ask: Ask, calls: int, processes: list[psutil.Process], in_flight: int = IN_FLIGHT
) -> Measured:
    """Make `calls` calls, `in_flight` at once, and account for the CPU of `processes`."""
    latencies: list[float] = []

    async def caller(share: int) -> None:
        for _ in range(share):
            begun = time.perf_counter()
            await ask()
            latencies.append((time.perf_counter() - begun) * 1e3)

    before, begun = cpu_s(processes), time.perf_counter()
    share = max(1, calls // in_flight)
    await asyncio.gather(*(caller(share) for _ in range(in_flight)))
    wall_s, spent_s = time.perf_counter() - begun, cpu_s(processes) - before
    return Measured(len(latencies), wall_s, spent_s, tuple(latencies))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sides measured in turn, round by round: ours, the yardstick, and it with our settings."""

    ours: tuple[Measured, ...]
    bare: tuple[Measured, ...]
    bare_like_ours: tuple[Measured, ...]

    def ratio_to(self, theirs: tuple[Measured, ...]) -> float:
        """Median over the rounds of our CPU per call ÷ theirs."""
        pairs = zip(self.ours, theirs, strict=True)
        return statistics.median(a.cpu_us_per_call / b.cpu_us_per_call for a, b in pairs)

    def figures(self) -> dict[str, float]:
        """Give the ratios with the figures behind them, ready to print."""
        everything = [latency for round_ in self.ours for latency in round_.latencies_ms]
        whole = Measured(len(everything), 1.0, 0.0, tuple(everything))
        return {
            "ratio": round(self.ratio_to(self.bare), 3),
            "ratio_to_bare_like_ours": round(self.ratio_to(self.bare_like_ours), 3),
            "p50_ms": round(whole.percentile_ms(50), 2),
            "p99_ms": round(whole.percentile_ms(99), 2),
            "per_s": round(statistics.median(round_.per_s for round_ in self.ours), 1),
            "cpu_us": _cpu_us(self.ours),
            "bare_cpu_us": _cpu_us(self.bare),
            "bare_like_ours_cpu_us": _cpu_us(self.bare_like_ours),
        }


async def compare(
    sides: Sequence[tuple[Ask, list[psutil.Process]]], calls: int, rounds: int
) -> Comparison:
    """Measure the three sides in turn, ABC, after a warm-up of each that is not counted."""
    for ask, processes in sides:
        await measure(ask, calls // 2, processes)
    found = [
        [await measure(ask, calls, processes) for ask, processes in sides] for _ in range(rounds)
    ]
    return Comparison(*zip(*found, strict=True))


def _cpu_us(rounds: Sequence[Measured]) -> float:
    return round(statistics.median(each.cpu_us_per_call for each in rounds), 1)
