"""Where a GeoJSON geometry is: the point itself, or the middle of a line or area. Pure."""

from __future__ import annotations

import math
from typing import Any

from foundation.json_reader import Node, number_of

#: Positions of one geometry that are looked at.
_MOST_POSITIONS = 100_000
_DEEPEST = 4


def place_of(feature: Node) -> tuple[int, int] | None:
    """Give latitude and longitude in 1e-7 degrees, rounded to the nearest; None without a place.

    A polygon has the centroid of its first ring, a line or several points the mean of their places.
    """
    geometry = feature.node("geometry")
    if geometry is None:
        return None
    coordinates = geometry.value.get("coordinates")
    positions = _positions(coordinates, _DEEPEST)
    if not positions:
        return None
    is_area = geometry.value.get("type") in ("Polygon", "MultiPolygon")
    longitude, latitude = (_centroid(positions) if is_area else None) or _mean(positions)
    return round(latitude * 1e7), round(longitude * 1e7)


def _positions(value: Any, depth: int) -> list[tuple[float, float]] | None:
    """Give the positions of a point, a line, or an area's first ring; None if one is wrong."""
    if not isinstance(value, list) or not value or depth == 0:
        return None
    if not isinstance(value[0], list):
        position = _position(value)
        return None if position is None else [position]
    if value[0] and isinstance(value[0][0], list):
        return _positions(value[0], depth - 1)
    positions = [_position(item) for item in value[:_MOST_POSITIONS]]
    known = [position for position in positions if position is not None]
    return known if len(known) == len(positions) else None


def _position(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) < 2:
        return None
    longitude, latitude = number_of(value[0]), number_of(value[1])
    if longitude is None or latitude is None or isinstance(value[0], str):
        return None
    if abs(longitude) > 180 or abs(latitude) > 90:
        return None
    return float(longitude), float(latitude)


def _mean(positions: list[tuple[float, float]]) -> tuple[float, float]:
    count = len(positions)
    longitude = math.fsum(position[0] for position in positions) / count
    return longitude, math.fsum(position[1] for position in positions) / count


def _centroid(ring: list[tuple[float, float]]) -> tuple[float, float] | None:
    """Give the centroid of a ring's area, flat at the size of a station; None without area.

    Counted from the ring's first place, since the area of a station is tiny beside its coordinates.
    """
    x0, y0 = ring[0]
    area = x_sum = y_sum = 0.0
    for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
        ax, ay, bx, by = x1 - x0, y1 - y0, x2 - x0, y2 - y0
        cross = ax * by - bx * ay
        area += cross
        x_sum += (ax + bx) * cross
        y_sum += (ay + by) * cross
    if abs(area) < 1e-16:
        return None
    longitude, latitude = x0 + x_sum / (3 * area), y0 + y_sum / (3 * area)
    # A ring that crosses itself can have its centroid anywhere.
    return (longitude, latitude) if abs(longitude) <= 180 and abs(latitude) <= 90 else None
