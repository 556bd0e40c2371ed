"""Areas on a sphere as the database searches them: pure geometry, no SQL.

Positions in the database are points in space on earthdistance's sphere of `DATABASE_RADIUS_M`. The
interface speaks of metres on the ground, on a sphere of the earth's mean radius; the difference of
0.1 % is taken out here. Chords are straight lines through that sphere, in database metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from gem.common.v1 import geo_pb2

#: Mean radius of the earth in metres (IUGG).
MEAN_RADIUS_M = 6_371_008.8
#: What `earth()` of the extension earthdistance says.
DATABASE_RADIUS_M = 6_378_168.0
#: A piece of a corridor is no longer, so that its chord is never more than 8 m below the ground.
_LONGEST_PIECE_M = 20_000.0
#: Nor is it shorter than this or than twice the corridor's distance, unless its line is.
_SHORTEST_PIECE_M = 4_000.0
#: A corridor has about so many pieces at most, beside those of its own points.
_MOST_PIECES = 1_000
#: Longest corridor in metres over the ground.
LONGEST_CORRIDOR_M = 10_000_000.0
#: A box wider than this is searched without the index.
_WIDEST_INDEXED_E7 = 1_800_000_000

Vector = tuple[float, float, float]


class AreaTooLargeError(ValueError):
    """The area is larger than the interface says it may be."""


@dataclass(frozen=True, slots=True)
class Ball:
    """Places within a distance of a centre: degrees, and the distance as a chord."""

    latitude: float
    longitude: float
    chord: float


@dataclass(frozen=True, slots=True)
class Box:
    """Places between edges in 1e-7 degrees, inside a ball around its centre.

    `west_e7` is greater than `east_e7` where the box crosses the 180th meridian. A ball of the
    largest chord says that the index cannot help.
    """

    ball: Ball
    south_e7: int
    north_e7: int
    west_e7: int
    east_e7: int


@dataclass(frozen=True, slots=True)
class Corridor:
    """Places within a chord of one of the pieces; `starts[i]` to `ends[i]` is a piece."""

    starts: tuple[Vector, ...]
    ends: tuple[Vector, ...]
    chord: float


LARGEST_CHORD = 2.0 * DATABASE_RADIUS_M


def chord_of(distance_m: float) -> float:
    """Give the chord under a distance over the ground."""
    return LARGEST_CHORD * math.sin(min(distance_m / (2.0 * MEAN_RADIUS_M), math.pi / 2.0))


def distance_of(chord: float) -> int:
    """Give the whole metres over the ground, rounded half up, above a chord."""
    angle = 2.0 * math.asin(min(1.0, chord / LARGEST_CHORD))
    return int(angle * MEAN_RADIUS_M + 0.5)


def vector_of(latitude_e7: int, longitude_e7: int) -> Vector:
    """Give the place in space on the database's sphere."""
    latitude, longitude = math.radians(latitude_e7 / 1e7), math.radians(longitude_e7 / 1e7)
    across = DATABASE_RADIUS_M * math.cos(latitude)
    return (
        across * math.cos(longitude),
        across * math.sin(longitude),
        DATABASE_RADIUS_M * math.sin(latitude),
    )


def circle(area: geo_pb2.GeoCircle) -> Ball:
    """Give a circle as a ball."""
    center = area.center
    chord = chord_of(area.radius_m)
    return Ball(center.latitude_e7 / 1e7, center.longitude_e7 / 1e7, chord)


def box(area: geo_pb2.GeoBox) -> Box:
    """Give a box with the ball around it.

    The distance from the centre grows towards the east and west edges, and along these it is
    greatest in a corner as long as the box spans no more than half the globe.
    """
    south, north = area.south_west.latitude_e7, area.north_east.latitude_e7
    west, east = area.south_west.longitude_e7, area.north_east.longitude_e7
    width = (east - west) % 3_600_000_000
    if width == 0 and east != west:
        width = 3_600_000_000
    latitude, longitude = (south + north) // 2, west + width // 2
    if longitude > 1_800_000_000:
        longitude -= 3_600_000_000
    chord = LARGEST_CHORD
    if width <= _WIDEST_INDEXED_E7:
        center = vector_of(latitude, longitude)
        corners = [
            vector_of(edge, meridian) for edge in (south, north) for meridian in (west, east)
        ]
        # A centimetre more, since the centre was rounded to the grid.
        chord = max(math.dist(center, corner) for corner in corners) + 0.01
    return Box(Ball(latitude / 1e7, longitude / 1e7, chord), south, north, west, east)


def corridor(area: geo_pb2.GeoCorridor) -> Corridor:
    """Give a corridor as short pieces.

    Raises:
        AreaTooLargeError: the line is longer than `LONGEST_CORRIDOR_M`.
    """
    vectors = [vector_of(point.latitude_e7, point.longitude_e7) for point in area.points]
    lengths_m = [distance_of(math.dist(start, end)) for start, end in pairwise(vectors)]
    if sum(lengths_m) > LONGEST_CORRIDOR_M:
        raise AreaTooLargeError("the corridor is longer than 10,000 km")
    # Around a piece the database looks through a box: short pieces have small boxes.
    wished_m = max(_SHORTEST_PIECE_M, 2.0 * area.distance_m, sum(lengths_m) / _MOST_PIECES)
    piece_m = min(_LONGEST_PIECE_M, wished_m)
    starts: list[Vector] = []
    ends: list[Vector] = []
    for (start, end), length_m in zip(pairwise(vectors), lengths_m, strict=True):
        count = max(1, math.ceil(length_m / piece_m))
        stops = [_between(start, end, step / count) for step in range(count + 1)]
        starts += stops[:-1]
        ends += stops[1:]
    return Corridor(tuple(starts), tuple(ends), chord_of(area.distance_m))


def _between(start: Vector, end: Vector, share: float) -> Vector:
    """Give the place on the great circle after a share of the way; opposite poles go any way."""
    angle = 2.0 * math.asin(min(1.0, math.dist(start, end) / LARGEST_CHORD))
    if angle < 1e-9 or angle > math.pi - 1e-9:
        return start if share < 0.5 else end
    first = math.sin((1.0 - share) * angle) / math.sin(angle)
    second = math.sin(share * angle) / math.sin(angle)
    mixed = tuple(first * a + second * b for a, b in zip(start, end, strict=True))
    return (mixed[0], mixed[1], mixed[2])
