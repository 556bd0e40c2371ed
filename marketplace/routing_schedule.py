"""When routes change by themselves: contracts that start, change their price or end at an instant.

The routing snapshot holds what is in force now. What is in force at another instant waits here, by
requester and interface, so that a worker follows the agreed instants without asking anybody, and
calls cost nothing more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from marketplace.router.snapshot import RouteName
from marketplace.router.target import Target

_NEVER = float("inf")


class Window(NamedTuple):
    """A target, and when it is one; seconds since 1970."""

    target: Target
    #: First instant inside.
    from_s: float = -_NEVER
    #: First instant outside.
    until_s: float = _NEVER

    def holds(self, now_s: float) -> bool:
        """Say whether calls reach the target."""
        return self.from_s <= now_s < self.until_s


#: In contract order.
Windows = tuple[Window, ...]


def in_force(windows: Iterable[Window], now_s: float) -> tuple[Target, ...]:
    """Give the targets at an instant, in contract order."""
    return tuple(window.target for window in windows if window.holds(now_s))


class RoutingSchedule:
    """The routes that will change by themselves, and when the next one does."""

    def __init__(self) -> None:
        self._windows: dict[RouteName, Windows] = {}
        #: Instants and names; one whose route has other windows by now is passed over.
        self._due: list[tuple[float, RouteName]] = []

    def __len__(self) -> int:
        return len(self._windows)

    def put(self, routes: Mapping[RouteName, Windows], now_s: float) -> None:
        """Replace what is known of some routes."""
        for name, windows in routes.items():
            instant_s = _next(windows, now_s)
            if instant_s == _NEVER:
                self._windows.pop(name, None)
            else:
                self._windows[name] = windows
                heapq.heappush(self._due, (instant_s, name))
        if len(self._due) > 2 * len(self._windows) + 100:
            self._compact(now_s)

    def clear(self) -> None:
        """Forget everything."""
        self._windows.clear()
        self._due.clear()

    def next_s(self) -> float:
        """Give the next instant at which a route may change; infinite for never."""
        return self._due[0][0] if self._due else _NEVER

    def due(self, now_s: float) -> dict[RouteName, tuple[Target, ...] | None]:
        """Give the routes that have changed by now, as they are now; None for no targets."""
        changed: dict[RouteName, tuple[Target, ...] | None] = {}
        while self._due and self._due[0][0] <= now_s:
            _, name = heapq.heappop(self._due)
            windows = self._windows.get(name)
            if windows is None or name in changed:
                continue
            changed[name] = in_force(windows, now_s) or None
            self.put({name: windows}, now_s)
        return changed

    def _compact(self, now_s: float) -> None:
        self._due = [(_next(windows, now_s), name) for name, windows in self._windows.items()]
        heapq.heapify(self._due)


def _next(windows: Windows, now_s: float) -> float:
    """Give the first instant behind now at which one of these windows opens or closes."""
    bounds = (bound for window in windows for bound in (window.from_s, window.until_s))
    return min((bound for bound in bounds if bound > now_s), default=_NEVER)
