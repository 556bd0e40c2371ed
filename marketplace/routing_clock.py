"""The timer of a worker's routing feed: it lets routes change at the instants that were agreed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from marketplace.router.snapshot import RouteName
from marketplace.router.target import Target
from marketplace.routing_schedule import RoutingSchedule, Windows

#: Longest sleep: a clock that is set, or a machine that slept, is noticed after this.
LOOK_AGAIN_S = 10.0

Follow = Callable[[dict[RouteName, tuple[Target, ...] | None]], None]


class RoutingClock:
    """Calls `follow` in the event loop with the routes that have changed, as they are then."""

    def __init__(self, follow: Follow, wall_s: Callable[[], float] = time.time) -> None:
        """`wall_s` gives the seconds since 1970."""
        self.wall_s = wall_s
        self._follow = follow
        self._schedule = RoutingSchedule()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, routes: Mapping[RouteName, Windows]) -> float:
        """Replace what is known of some routes; gives the time that it was taken at."""
        now_s = self.wall_s()
        self._schedule.put(routes, now_s)
        self._set()
        return now_s

    def restart(self, routes: Mapping[RouteName, Windows]) -> None:
        """Forget all and take these routes; `tick` applies whatever has come by then."""
        self._schedule.clear()
        # As if never applied: each route is looked at once by the next `tick`.
        self._schedule.put(routes, float("-inf"))
        self._set()

    def tick(self) -> None:
        """Apply what is due."""
        changed = self._schedule.due(self.wall_s())
        if changed:
            self._follow(changed)
        self._set()

    def stop(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self.stop()
        wait_s = self._schedule.next_s() - self.wall_s()
        if wait_s == float("inf"):
            return
        wait_s = min(max(wait_s, 0.0), LOOK_AGAIN_S)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.tick)
