"""The plain part of OpenStreetMap's `opening_hours`: days of the week and clock times. Pure."""

from __future__ import annotations

import re

from gem.charging.v1 import evse_pb2

_DAYS = {"mo": 1, "tu": 2, "we": 3, "th": 4, "fr": 5, "sa": 6, "su": 7}
_LONGEST = 255
_MOST_RANGES = 64
_DAY = "(?:mo|tu|we|th|fr|sa|su)"
_RULE = re.compile(
    rf"(?P<days>{_DAY}(?:-{_DAY})?(?:\s*,\s*{_DAY}(?:-{_DAY})?)*)?\s*"
    r"(?P<times>[0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2}"
    r"(?:\s*,\s*[0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2})*)"
)


def opening_of(text: str) -> evse_pb2.Opening | None:
    """Give the opening; None when the text says more than days and times, or is wrong.

    A later rule replaces earlier ones for its days, as the format has it.
    """
    folded = re.sub(r"\s*-\s*", "-", text.strip().casefold())
    if folded == "24/7":
        return evse_pb2.Opening(always_open=True)
    if len(folded) > _LONGEST:
        return None
    hours: dict[int, list[tuple[int, int]]] = {}
    for rule in folded.removesuffix(";").split(";"):
        match = _RULE.fullmatch(rule.strip())
        if match is None:
            return None
        ranges = [_range(part) for part in match["times"].split(",")]
        if None in ranges:
            return None
        for day in _days(match["days"]):
            hours[day] = [minutes for minutes in ranges if minutes is not None]
    opening = evse_pb2.Opening()
    for day in sorted(hours):
        for start, end in hours[day]:
            opening.regular_hours.add(weekday=day, start_minute=start, end_minute=end)
    return opening if len(opening.regular_hours) <= _MOST_RANGES else None


def _range(text: str) -> tuple[int, int] | None:
    start, end = (_minute(part) for part in text.strip().split("-"))
    if start is None or end is None or start > 1439 or end == 0:
        return None
    return start, end


def _minute(text: str) -> int | None:
    hour, minute = (int(part) for part in text.split(":"))
    return hour * 60 + minute if minute < 60 and hour * 60 + minute <= 1440 else None


def _days(text: str | None) -> list[int]:
    """Give the days that a list of days and ranges names; ranges may wrap the week's end."""
    if text is None:
        return list(_DAYS.values())
    days: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        start, end = _DAYS[first], _DAYS[last or first]
        days += [(start - 1 + step) % 7 + 1 for step in range((end - start) % 7 + 1)]
    return days
