"""Clock times of a place: when they change, also on days on which the clocks are changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """Give the zone of an IANA name.

    Raises:
        ValueError: nobody knows a zone of this name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("the time zone is not one of the IANA database") from None


def edges(start: datetime, end: datetime, zone: ZoneInfo, minutes: Iterable[int]) -> set[datetime]:
    """Give every instant between start and end at which a clock shows one of the minutes.

    Minutes count from midnight. The instants at which clocks are changed are among them, for a
    clock that jumps over a minute never shows it. Both ends are in UTC and so are the results.
    """
    wanted = frozenset(minutes)
    found: set[datetime] = set()
    for day in _days(start.astimezone(zone).date(), end.astimezone(zone).date()):
        for minute in wanted:
            local = datetime.combine(day, time(minute // 60, minute % 60), zone)
            found.update(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        found.update(_clock_changes(day, zone))
    return {instant for instant in found if start < instant < end}


def has_clock_change(start: datetime, end: datetime, zone: ZoneInfo) -> bool:
    """Say whether the place's clocks are changed between two instants."""
    days = _days(start.astimezone(zone).date(), end.astimezone(zone).date())
    return any(start < change <= end for day in days for change in _clock_changes(day, zone))


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + number * _DAY


@lru_cache(maxsize=4096)
def _clock_changes(day: date, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Give the instant of a day at which the zone's offset changes, to the second, if there is."""
    low = datetime.combine(day, time(), zone).astimezone(UTC)
    high = datetime.combine(day + _DAY, time(), zone).astimezone(UTC)
    before = _offset(low, zone)
    if before == _offset(high, zone):
        return ()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return (high,)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()
