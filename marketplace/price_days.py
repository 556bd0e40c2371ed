"""Which days of a month a monthly fee is charged for (decision 10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from marketplace.router.unit_price import amount_micros

#: States of a contract in which its monthly fee runs: a suspension is the requester's own wish.
IN_FORCE = frozenset({"ACTIVE", "SUSPENDED"})
_DAY = timedelta(days=1)
#: From an instant, inclusive, to an instant, exclusive; None is open.
Interval = tuple[datetime, datetime | None]


def in_force(events: Iterable[tuple[str, datetime]]) -> list[Interval]:
    """Give when a contract was in force; `events` are its states and since when, ascending."""
    found: list[Interval] = []
    since: datetime | None = None
    for state, at in events:
        if state in IN_FORCE:
            since = since or at
        elif since is not None:
            found.append((since, at))
            since = None
    if since is not None:
        found.append((since, None))
    return found


def days_by_price(
    intervals: Sequence[Interval],
    prices: Sequence[tuple[int | None, datetime]],
    first: datetime,
    end: datetime,
) -> Counter[int]:
    """Count for each price the days from `first` until before `end`, both midnights.

    A day counts where the contract was in force at any time in it, and for the price that was in
    force first on it: so it is charged once. `prices` are price ids and since when, ascending; None
    is a price without an id, whose days are not counted.
    """
    found: Counter[int] = Counter()
    for number in range((end - first).days):
        day, following = first + number * _DAY, first + (number + 1) * _DAY
        starts = [
            max(start, day)
            for start, stop in intervals
            if start < following and (stop is None or stop > day)
        ]
        price_id = _price_at(prices, min(starts), following) if starts else None
        if price_id is not None:
            found[price_id] += 1
    return found


def _price_at(
    prices: Sequence[tuple[int | None, datetime]], instant: datetime, following: datetime
) -> int | None:
    """Give the price of an instant, or the first that came before the day's end."""
    before = [price_id for price_id, since in prices if since <= instant]
    if before:
        return before[-1]
    return next((price_id for price_id, since in prices if since < following), None)


def fee_micros(price_micros: int, days: int, days_of_month: int) -> int:
    """Give a monthly fee for some days of a month; for all of them it is the price itself."""
    return amount_micros(price_micros, days, days_of_month)
