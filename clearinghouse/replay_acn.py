"""Sessions of ACN-Data (JSON, Caltech and others): times in GMT, the place's zone beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from clearinghouse.local_clock import zone_of
from clearinghouse.replay_session import (
    RecordedSession,
    SessionClass,
    classes_of_times,
    energy_of,
    with_clean,
)

_CHUNK = 65_536
#: Neither the head of a file nor one session is longer.
_LONGEST = 1_048_576
_LONGEST_TEXT = 200
_ITEMS = re.compile(r'"_items"\s*:\s*\[')


def read_acn(file: TextIO) -> Iterator[RecordedSession]:
    """Give the sessions of a file one by one; memory does not grow with it.

    Raises:
        ValueError: the file is no JSON, or holds no `_items`; sessions before that were given.
    """
    for number, item in enumerate(_items(file), 1):
        yield _session(number, item if isinstance(item, dict) else {})


def _items(file: TextIO) -> Iterator[Any]:
    """Give the elements of the list `_items`, each parsed when enough of the file was read."""
    decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=str)
    buffer = ""
    while (match := _ITEMS.search(buffer)) is None:
        chunk = file.read(_CHUNK)
        if not chunk or len(buffer) > _LONGEST:
            raise ValueError("the file has no list of items")
        buffer += chunk
    buffer = buffer[match.end() :]
    while True:
        buffer = buffer.lstrip(" \t\r\n,")
        if buffer.startswith("]"):
            return
        try:
            item, end = decoder.raw_decode(buffer)
            complete = end < len(buffer)
        except (ValueError, RecursionError):
            complete = False
        if complete:
            yield item
            buffer = buffer[end:]
            continue
        chunk = file.read(_CHUNK)
        if not chunk or len(buffer) > _LONGEST:
            raise ValueError("the file ends within its items, or one of them is no JSON")
        buffer += chunk


def _session(number: int, item: dict[str, Any]) -> RecordedSession:
    classes: set[SessionClass] = set()
    zone = _zone(item, classes)
    start, end = (_time(item, key, zone, classes) for key in ("connectionTime", "disconnectTime"))
    charging_end = _time(item, "doneChargingTime", zone, classes)
    missing = {
        "connectionTime": SessionClass.START_MISSING,
        "disconnectTime": SessionClass.END_MISSING,
        "doneChargingTime": SessionClass.CHARGING_END_MISSING,
    }
    times = (start, end, charging_end)
    classes.update(kind for kind, time in zip(missing.values(), times, strict=True) if time is None)
    energy, odd = energy_of(item.get("kWhDelivered"))
    classes.update({odd} - {None})  # type: ignore[arg-type]  # None is taken away
    classes.update(classes_of_times(start, end, charging_end))
    source_id, station = _text(item, "_id") or _text(item, "sessionID"), _text(item, "stationID")
    if not source_id or not station:
        classes.add(SessionClass.UNIDENTIFIED)
    user_id = _text(item, "userID") or None
    if user_id is None:
        classes.add(SessionClass.USER_MISSING)
    return RecordedSession(
        number=number,
        source_id=source_id,
        group=_text(item, "siteID"),
        site=_text(item, "siteID"),
        station=station,
        connector="1",
        user_id=user_id,
        start=start,
        end=end,
        charging_end=charging_end,
        energy_milli_wh=energy,
        time_zone=zone.key if zone is not None else "",
        classes=with_clean(classes),
    )


def _zone(item: dict[str, Any], classes: set[SessionClass]) -> ZoneInfo | None:
    try:
        return zone_of(_text(item, "timezone") or "?")
    except ValueError:
        classes.add(SessionClass.ZONE_UNKNOWN)
        return None


def _time(
    item: dict[str, Any], key: str, zone: ZoneInfo | None, classes: set[SessionClass]
) -> datetime | None:
    """Give a time in UTC; one that does not say its zone is in the place's."""
    text = _text(item, key)
    if not text:
        return None
    try:
        time = parsedate_to_datetime(text)
        return (time if time.tzinfo else time.replace(tzinfo=zone or UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        classes.add(SessionClass.TIME_UNREADABLE)
        return None


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    return "" if value is None or isinstance(value, dict | list) else str(value)[:_LONGEST_TEXT]
