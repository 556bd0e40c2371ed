"""Geometry: what the index looks through always contains what the interface asks for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gem.common.v1 import geo_pb2
from mobility import area
from tests.mobility.search_oracle import distance_m

latitudes = st.integers(-900_000_000, 900_000_000)
longitudes = st.integers(-1_800_000_000, 1_800_000_000)


def point(latitude_e7: int, longitude_e7: int) -> geo_pb2.GeoPoint:
    return geo_pb2.GeoPoint(latitude_e7=latitude_e7, longitude_e7=longitude_e7)


def test_a_corridor_longer_than_the_limit_is_refused() -> None:
    line = geo_pb2.GeoCorridor(distance_m=10)
    line.points.extend([point(0, 0), point(0, 900_000_000)])
    with pytest.raises(area.AreaTooLargeError):
        area.corridor(line)


@given(st.integers(0, 20_000_000))
def test_a_distance_survives_the_way_through_its_chord(metres: int) -> None:
    assert area.distance_of(area.chord_of(metres)) == metres


@given(latitudes, longitudes, latitudes, longitudes)
def test_the_distance_of_two_places_is_that_of_the_haversine(
    a: int, b: int, c: int, d: int
) -> None:
    chord = math.dist(area.vector_of(a, b), area.vector_of(c, d))
    assert area.distance_of(chord) == pytest.approx(distance_m(point(a, b), point(c, d)), abs=2)


@given(latitudes, latitudes, longitudes, longitudes, st.floats(0, 1), st.floats(0, 1))
def test_every_place_of_a_box_is_inside_its_ball(
    first: int, second: int, west: int, east: int, up: float, right: float
) -> None:
    south, north = sorted((first, second))
    box = area.box(geo_pb2.GeoBox(south_west=point(south, west), north_east=point(north, east)))
    width = (east - west) % 3_600_000_000
    longitude = west + round(width * right)
    longitude -= 3_600_000_000 if longitude > 1_800_000_000 else 0
    place = area.vector_of(south + round((north - south) * up), longitude)
    center = area.vector_of(round(box.ball.latitude * 1e7), round(box.ball.longitude * 1e7))
    assert math.dist(center, place) <= box.ball.chord + 0.01


@given(
    st.lists(st.tuples(st.integers(-600_000_000, 600_000_000), longitudes), min_size=2, max_size=5)
)
def test_the_pieces_of_a_corridor_are_short_and_follow_each_other(
    places: list[tuple[int, int]],
) -> None:
    line = geo_pb2.GeoCorridor(distance_m=1_000, points=[point(*place) for place in places])
    try:
        corridor = area.corridor(line)
    except area.AreaTooLargeError:
        return
    assert corridor.starts[0] == pytest.approx(area.vector_of(*places[0]), abs=0.01)
    assert corridor.ends[-1] == pytest.approx(area.vector_of(*places[-1]), abs=0.01)
    for start, end in zip(corridor.starts, corridor.ends, strict=True):
        assert math.dist(start, end) <= 20_100
    for end, start in zip(corridor.ends, corridor.starts[1:], strict=False):
        assert end == pytest.approx(start, abs=0.01)
