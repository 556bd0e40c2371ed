"""Made-up sessions in the form of `replay_dundee`, for a machine that has no recording.

As in recordings, some are odd: without energy or length, without an end, ending before they start.
"""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from random import Random
from typing import TextIO

_COLUMNS = (
    *("Charging event", "User ID", "CP ID", "Connector", "Start Date", "Start Time"),
    *("End Date", "End Time", "Total kWh", "Site", "Group"),
)
_GROUPS = ("Harbour City Council", "University Car Parks", "Hill Shopping Centre")
_FIRST = datetime(2024, 3, 1, 6, 0)  # noqa: DTZ001  # local time of the place, as such files have it
_STATIONS = 12
_USERS = 25
#: Between two sessions of one station, so that none overlap but by an odd end.
_SLOT = timedelta(hours=8)


def write_sample(file: TextIO, count: int, seed: int = 1) -> None:
    """Write a file of made-up sessions; the same count and seed give the same file."""
    chance = Random(seed)  # noqa: S311  # made-up sessions
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    for number in range(count):
        station = number % _STATIONS
        begins = _FIRST + number // _STATIONS * _SLOT + timedelta(minutes=chance.randrange(60))
        lasts = timedelta(minutes=chance.randrange(10, 400))
        energy_kwh = f"{lasts.total_seconds() / 3600 * chance.uniform(2, 7):.3f}"
        ends: datetime | None = begins + lasts
        match number % 20:
            case 7:
                energy_kwh = "0"
            case 11:
                ends, energy_kwh = begins, "0"
            case 15 if number % 40 == 15:
                ends = None
            case 15:
                ends = begins - timedelta(minutes=5)
        writer.writerow(
            (
                f"S{number + 1:05d}",
                f"{chance.randrange(_USERS):04d}" if number % 9 else "",
                f"CP{station + 1:02d}",
                "1",
                *_written(begins),
                *(_written(ends) if ends is not None else ("", "")),
                energy_kwh,
                f"Site {station % len(_GROUPS) + 1}",
                _GROUPS[station % len(_GROUPS)],
            )
        )


def _written(instant: datetime) -> tuple[str, str]:
    return f"{instant:%d/%m/%Y}", f"{instant:%H:%M}"
