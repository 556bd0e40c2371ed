"""Opening times and energy mix of an OCPI location."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

from foundation.json_reader import Node
from foundation.ocpi_file import minute_of, timestamp_of
from gem.charging.v1 import evse_pb2
from gem.common.v1 import time_range_pb2

_MOST_HOURS = 64
_SOURCES = {
    "NUCLEAR": evse_pb2.ENERGY_SOURCE_NUCLEAR,
    "GENERAL_FOSSIL": evse_pb2.ENERGY_SOURCE_GENERAL_FOSSIL,
    "COAL": evse_pb2.ENERGY_SOURCE_COAL,
    "GAS": evse_pb2.ENERGY_SOURCE_GAS,
    "GENERAL_GREEN": evse_pb2.ENERGY_SOURCE_GENERAL_GREEN,
    "SOLAR": evse_pb2.ENERGY_SOURCE_SOLAR,
    "WIND": evse_pb2.ENERGY_SOURCE_WIND,
    "WATER": evse_pb2.ENERGY_SOURCE_WATER,
}


def time_of(node: Node, key: str) -> datetime | None:
    """Give an OCPI DateTime in UTC, to the second; None, noted, when it is none."""
    time = timestamp_of(node, key)
    return None if time is None else datetime.fromtimestamp(time.seconds, UTC)


def add_opening(opening: evse_pb2.Opening, hours: Node) -> None:
    """Fill in opening times; a range that makes no sense is noted and left out."""
    opening.always_open = bool(hours.flag("twentyfourseven"))
    for node in hours.nodes("regular_hours", _MOST_HOURS):
        weekday = node.integer("weekday", 1, 7)
        start = minute_of(node.text("period_begin", 5) or "")
        end = minute_of(node.text("period_end", 5) or "")
        if weekday is None or start is None or end is None or start > 1439:
            node.report.keep(node.at, "regular_hours", "not a weekday with two times; left out")
            continue
        end = end or 1440
        opening.regular_hours.add(weekday=weekday, start_minute=start, end_minute=end)
    for key, ranges in (
        ("exceptional_openings", opening.exceptional_openings),
        ("exceptional_closings", opening.exceptional_closings),
    ):
        for node in hours.nodes(key, _MOST_HOURS):
            time_range = _range_of(node)
            if time_range is not None:
                ranges.append(time_range)


def _range_of(node: Node) -> time_range_pb2.TimeRange | None:
    start, end = time_of(node, "period_begin"), time_of(node, "period_end")
    if start is None or end is None or start >= end:
        node.report.keep(node.at, "period", "not a begin before an end; left out")
        return None
    time_range = time_range_pb2.TimeRange()
    time_range.start_time.FromDatetime(start)
    time_range.end_time.FromDatetime(end)
    return time_range


def add_energy_mix(mix: evse_pb2.EnergyMix, node: Node) -> None:
    """Fill in the mix; shares that do not add up to 100 % are kept and noted."""
    mix.green = bool(node.flag("is_green_energy"))
    total = Decimal(0)
    seen: set[int] = set()
    for element in node.nodes("energy_sources", 100):
        source = _SOURCES.get(element.text("source", 32) or "")
        percentage = element.number("percentage", 0, 100)
        if source is None or source in seen:
            element.wrong("source", "unknown", "not a source of its own; left out")
            continue
        seen.add(source)
        total += percentage or 0
        share_ppm = int(((percentage or Decimal(0)) * 10_000).to_integral_value(ROUND_HALF_UP))
        mix.shares.add(source=source, share_ppm=share_ppm)
    if mix.shares and abs(total - 100) > 1:
        node.wrong("energy_sources", "sum", "the shares do not add up to 100 %")
