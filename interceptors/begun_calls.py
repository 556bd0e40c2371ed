"""How many of the calls in flight have just begun; those that wait for news do not count."""

from __future__ import annotations

import time

JUST_BEGUN_S = 0.25


class BegunCalls:
    """Counts those that began in this period, of `JUST_BEGUN_S`, or in the one before."""

    def __init__(self) -> None:
        self._period = 0
        self._turns_s = 0.0
        self._this = self._last = 0

    def begin(self) -> int:
        """Count a call; give the period that it began in."""
        self._this += 1
        return self._period

    def end(self, period: int) -> None:
        """Count a call off that began in `period`."""
        if period == self._period:
            self._this -= 1
        elif period == self._period - 1:
            self._last -= 1

    def count(self) -> int:
        """Give their number now."""
        late_s = time.monotonic() - self._turns_s
        if late_s >= 0.0:
            self._turns_s += late_s + JUST_BEGUN_S
            was_last = late_s < JUST_BEGUN_S
            self._period += 1 if was_last else 2
            self._this, self._last = 0, self._this if was_last else 0
        return self._this + self._last
