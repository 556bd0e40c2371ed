"""Sessions as the city of Dundee publishes them (CSV): local times of the place, to the minute."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TextIO
from zoneinfo import ZoneInfo

from clearinghouse.replay_session import (
    RecordedSession,
    SessionClass,
    classes_of_times,
    energy_of,
    with_clean,
)

ZONE = ZoneInfo("Europe/London")
_COLUMNS = (
    *("Charging event", "User ID", "CP ID", "Connector", "Start Date", "Start Time"),
    *("End Date", "End Time", "Total kWh", "Site", "Group"),
)
_LONGEST_TEXT = 200
_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")


def read_dundee(file: TextIO) -> Iterator[RecordedSession]:
    """Give the sessions of a file one by one; memory does not grow with it.

    Raises:
        ValueError: a column is missing, or the file is no CSV; sessions before that were given.
    """
    rows = csv.DictReader(file)
    try:
        absent = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if absent:
            raise ValueError(f"the file has no column {absent[0]!r}")
        for number, row in enumerate(rows, 1):
            yield _session(number, row)
    except csv.Error:
        raise ValueError("the file is no CSV, or a field of it is too long") from None


def _session(number: int, row: Mapping[str, str | None]) -> RecordedSession:
    classes: set[SessionClass] = set()
    start = _time(row, "Start", classes, None)
    end = _time(row, "End", classes, start)
    if start is None:
        classes.add(SessionClass.START_MISSING)
    if end is None:
        classes.add(SessionClass.END_MISSING)
    energy, odd = energy_of(row.get("Total kWh"))
    classes.update({odd} - {None})  # type: ignore[arg-type]  # None is taken away
    classes.update(classes_of_times(start, end, None))
    source_id, station = _text(row, "Charging event"), _text(row, "CP ID")
    if not source_id or not station:
        classes.add(SessionClass.UNIDENTIFIED)
    user_id = _text(row, "User ID") or None
    if user_id is None:
        classes.add(SessionClass.USER_MISSING)
    return RecordedSession(
        number=number,
        source_id=source_id,
        group=_text(row, "Group"),
        site=_text(row, "Site"),
        station=station,
        connector=_text(row, "Connector") or "1",
        user_id=user_id,
        start=start,
        end=end,
        charging_end=None,
        energy_milli_wh=energy,
        time_zone=ZONE.key,
        classes=with_clean(classes),
    )


def _time(
    row: Mapping[str, str | None],
    name: str,
    classes: set[SessionClass],
    not_before: datetime | None,
) -> datetime | None:
    """Give a time in UTC. Of two that the clock showed alike the first not before another."""
    date_text, clock_text = _text(row, f"{name} Date"), _text(row, f"{name} Time")
    if not date_text or not clock_text:
        return None
    date, clock = _DATE.fullmatch(date_text), _CLOCK.fullmatch(clock_text)
    if date is None or clock is None:
        classes.add(SessionClass.TIME_UNREADABLE)
        return None
    day, month, year = (int(part) for part in date.groups())
    hour, minute, second = (int(part or 0) for part in clock.groups())
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=ZONE)
        first, later = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    except (ValueError, OverflowError):
        classes.add(SessionClass.TIME_UNREADABLE)
        return None
    if first == later:
        return first
    if first.astimezone(ZONE).replace(tzinfo=None) != local.replace(tzinfo=None):
        classes.add(SessionClass.IMPOSSIBLE_LOCAL_TIME)
        return first
    classes.add(SessionClass.AMBIGUOUS_LOCAL_TIME)
    return later if not_before is not None and first < not_before else first


def _text(row: Mapping[str, str | None], key: str) -> str:
    return (row.get(key) or "").strip()[:_LONGEST_TEXT]
