"""Search in PostgreSQL against the same search in plain Python."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from gem.charging.v1 import evse_pb2, tariff_pb2
from gem.charging.v1 import evse_search_service_pb2 as messages
from gem.common.v1 import money_pb2
from mobility import area
from mobility.area import distance_of
from mobility.evse_row import evse_key, fill, row_of
from mobility.search_query import MOST_EVSES, search_query
from mobility.storage import EvseStorage
from mobility.synthetic import SyntheticOperator, synthetic_rows
from tests.mobility.search_oracle import found

pytestmark = pytest.mark.usecase(1527)
OPERATOR = SyntheticOperator("Synthetic", "DE*SYN")


async def registered(storage: EvseStorage, name: str = "Synthetic") -> int:
    """Register an operator; give its number."""
    await storage.register([(name.lower(), name, name.lower(), ["DE*SYN"])])
    operator = await storage.operator(name.lower(), None)
    assert operator is not None
    return operator.operator_ref


async def searched(
    storage: EvseStorage, operator_ref: int, request: messages.SearchEvsesRequest
) -> list[evse_pb2.Evse]:
    """Search and render what the database gives."""
    evses = []
    for message, status, status_time, chord in await storage.search(
        *search_query(operator_ref, request)
    ):
        evse = evse_pb2.Evse()
        fill(evse, message, status, status_time, distance_of(chord))
        evses.append(evse)
    return evses


def at(latitude: float, longitude: float, number: int = 1) -> evse_pb2.Evse:
    """Make a plain EVSE at a place in degrees."""
    evse = evse_pb2.Evse(evse_id=f"DE*SYN*E{number}")
    evse.location.latitude_e7 = round(latitude * 1e7)
    evse.location.longitude_e7 = round(longitude * 1e7)
    return evse


def around(latitude: float, longitude: float, radius_m: int) -> messages.SearchEvsesRequest:
    """Ask for a circle around a place in degrees."""
    request = messages.SearchEvsesRequest()
    request.circle.center.latitude_e7 = round(latitude * 1e7)
    request.circle.center.longitude_e7 = round(longitude * 1e7)
    request.circle.radius_m = radius_m
    return request


def _drawn(chance: random.Random, evses: Sequence[evse_pb2.Evse]) -> messages.SearchEvsesRequest:
    """Draw a circle around one of the EVSEs, and a filter that sets some of its fields."""
    request = messages.SearchEvsesRequest()
    request.circle.center.CopyFrom(chance.choice(evses).location)
    request.circle.radius_m = chance.choice((500, 20_000, 100_000, 500_000))
    wanted = request.filter
    draws: tuple[Callable[[], object], ...] = (
        lambda: wanted.statuses.extend(chance.sample(evse_pb2.EvseStatus.values()[:6], 3)),
        lambda: wanted.kinds.append(chance.choice(evse_pb2.ChargingKind.values()[1:3])),
        lambda: wanted.plugs.extend(chance.sample(evse_pb2.PlugType.values()[1:11], 4)),
        lambda: setattr(wanted, "min_power_w", chance.choice((11_000, 22_080, 50_000))),
        lambda: wanted.phases.append(chance.choice((1, 3))),
        lambda: wanted.accesses.extend(chance.sample(evse_pb2.AccessKind.values()[1:5], 2)),
        lambda: setattr(wanted, "membership", "nobody's"),
        lambda: setattr(wanted, "green_energy_only", True),
        lambda: wanted.energy_sources.append(evse_pb2.ENERGY_SOURCE_GENERAL_GREEN),
        lambda: wanted.excluded_energy_sources.extend(
            chance.sample(evse_pb2.EnergySource.values()[1:], 5)
        ),
        lambda: _limit(wanted.max_reference_price, chance.randrange(6_000_000, 18_000_000)),
        lambda: _limit(wanted.max_price_per_kwh, chance.randrange(290_000, 900_000)),
        lambda: setattr(wanted, "always_open_only", True),
        lambda: setattr(wanted, "reservable_only", True),
    )
    for draw in chance.sample(draws, chance.choice((0, 1, 2, 2, 3))):
        draw()
    return request


def _limit(price: money_pb2.Money, amount_micros: int) -> None:
    price.amount_micros, price.currency_code = amount_micros, "EUR"


async def test_every_filter_finds_what_plain_python_finds(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    rows = list(synthetic_rows(OPERATOR, 400, seed=11))
    await storage.upsert([(operator_ref, row) for row in rows])
    evses = []
    for row in rows:
        evse = evse_pb2.Evse()
        fill(evse, row.message, row.status, row.status_time, 0)
        evses.append(evse)
    hits = 0
    for seed in range(150):
        request = _drawn(random.Random(seed), evses)
        answer = await searched(storage, operator_ref, request)
        got = sorted((evse.distance_m, evse.evse_id) for evse in answer)
        assert got == found(evses, request), f"seed {seed}: {request}"
        assert [evse.distance_m for evse in answer] == [metres for metres, _ in got]
        hits += len(got)
    assert hits > 500, "the drawn requests must find something"


async def test_an_answer_of_two_power_filters_needs_one_connector_with_both(
    storage: EvseStorage,
) -> None:
    operator_ref = await registered(storage)
    mixed = at(50, 10)
    mixed.connectors.add(kind=1, plug=evse_pb2.PLUG_TYPE_TYPE_2, power_w=11_000, phases=3)
    mixed.connectors.add(kind=2, plug=evse_pb2.PLUG_TYPE_CCS_2, power_w=150_000)
    await storage.upsert([(operator_ref, row_of(mixed))])
    request = around(50, 10, 1000)
    request.filter.min_power_w = 22_000
    assert len(await searched(storage, operator_ref, request)) == 1
    request.filter.plugs.append(evse_pb2.PLUG_TYPE_TYPE_2)
    assert await searched(storage, operator_ref, request) == []


async def test_one_operator_never_gives_another_ones_evses(storage: EvseStorage) -> None:
    first, second = await registered(storage, "First"), await registered(storage, "Second")
    await storage.upsert([(first, row_of(at(50, 10, 1)))])
    await storage.upsert([(second, row_of(at(50, 10, 2)))])
    for operator_ref, evse_id in ((first, "DE*SYN*E1"), (second, "DE*SYN*E2")):
        answer = await searched(storage, operator_ref, around(50, 10, 1000))
        assert [evse.evse_id for evse in answer] == [evse_id]
    assert await storage.get(first, "DESYNE2") is None


async def test_a_circle_over_the_180th_meridian_finds_both_sides(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    rows = [row_of(at(-17, 179.99, 1)), row_of(at(-17, -179.99, 2))]
    await storage.upsert([(operator_ref, row) for row in rows])
    answer = await searched(storage, operator_ref, around(-17, 180, 5_000))
    assert {evse.evse_id for evse in answer} == {"DE*SYN*E1", "DE*SYN*E2"}


async def test_a_box_has_exactly_the_evses_between_its_edges(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    grid = [at(lat, lon, 1 + lat * 100 + lon) for lat in range(8) for lon in range(8)]
    await storage.upsert([(operator_ref, row_of(evse)) for evse in grid])
    request = messages.SearchEvsesRequest()
    request.box.south_west.latitude_e7, request.box.south_west.longitude_e7 = 20_000_000, 30_000_000
    request.box.north_east.latitude_e7, request.box.north_east.longitude_e7 = 50_000_000, 40_000_000
    answer = await searched(storage, operator_ref, request)
    expected = {f"DE*SYN*E{1 + lat * 100 + lon}" for lat in (2, 3, 4, 5) for lon in (3, 4)}
    assert {evse.evse_id for evse in answer} == expected
    distances = [evse.distance_m for evse in answer]
    assert distances == sorted(distances)
    # Half a degree each way from the centre of the box.
    assert 78_000 < distances[0] < 79_000


async def test_a_box_over_the_180th_meridian_and_a_box_around_the_globe(
    storage: EvseStorage,
) -> None:
    operator_ref = await registered(storage)
    places = {1: (0.0, 179.0), 2: (0.0, -179.0), 3: (0.0, 0.0)}
    rows = [row_of(at(*place, number)) for number, place in places.items()]
    await storage.upsert([(operator_ref, row) for row in rows])
    request = messages.SearchEvsesRequest()
    box = request.box
    box.south_west.latitude_e7, box.north_east.latitude_e7 = -10_000_000, 10_000_000
    box.south_west.longitude_e7, box.north_east.longitude_e7 = 1_780_000_000, -1_780_000_000
    answer = await searched(storage, operator_ref, request)
    assert {evse.evse_id for evse in answer} == {"DE*SYN*E1", "DE*SYN*E2"}
    box.south_west.longitude_e7, box.north_east.longitude_e7 = -1_800_000_000, 1_800_000_000
    assert len(await searched(storage, operator_ref, request)) == 3


async def test_a_corridor_gives_each_evse_once_with_its_distance_from_the_line(
    storage: EvseStorage,
) -> None:
    operator_ref = await registered(storage)
    # The line runs along the equator, then north; a degree there is 111,195 m.
    places = {1: (0.01, 0.5), 2: (0.1, 0.5), 3: (1.0, 1.01), 4: (0.0, -0.02), 5: (0.0, 1.0)}
    rows = [row_of(at(*place, number)) for number, place in places.items()]
    await storage.upsert([(operator_ref, row) for row in rows])
    request = messages.SearchEvsesRequest()
    for latitude, longitude in ((0, 0), (0, 10_000_000), (20_000_000, 10_000_000)):
        request.corridor.points.add(latitude_e7=latitude, longitude_e7=longitude)
    request.corridor.distance_m = 3_000
    answer = await searched(storage, operator_ref, request)
    assert {evse.evse_id: evse.distance_m for evse in answer} == {
        "DE*SYN*E5": pytest.approx(0, abs=10),
        "DE*SYN*E1": pytest.approx(1_112, abs=2),
        "DE*SYN*E3": pytest.approx(1_112, abs=2),
        "DE*SYN*E4": pytest.approx(2_224, abs=2),
    }
    assert len(answer) == 4


async def test_a_corridor_finds_what_steps_along_its_line_find(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    rows = list(synthetic_rows(OPERATOR, 600, seed=21))
    await storage.copy_all(operator_ref, [rows])
    request = messages.SearchEvsesRequest()
    corners = ((53.5, 10.0), (51.3, 9.5), (50.1, 8.7))
    for latitude, longitude in corners:
        point = around(latitude, longitude, 1).circle.center
        request.corridor.points.append(point)
    request.corridor.distance_m = 15_000
    steps = [step for line in pairwise(corners) for step in _steps(*line)]
    near = {
        evse_key(evse.evse_id): evse.distance_m
        for evse in await searched(storage, operator_ref, request)
    }
    assert len(near) > 10
    for row in rows:
        place = area.vector_of(row.latitude_e7, row.longitude_e7)
        away_m = distance_of(min(math.dist(place, step) for step in steps))
        if away_m < 14_500:
            assert near[row.evse_key] == pytest.approx(away_m, abs=200)
        elif away_m > 15_500:
            assert row.evse_key not in near


def _steps(start: tuple[float, float], end: tuple[float, float]) -> list[area.Vector]:
    """Give places on the great circle between two corners, some 300 m apart, in space."""
    first, last = (around(*corner, 1).circle.center for corner in (start, end))
    a, b = (area.vector_of(each.latitude_e7, each.longitude_e7) for each in (first, last))
    steps = []
    for number in range(801):
        mixed = [x + (y - x) * number / 800 for x, y in zip(a, b, strict=True)]
        scale = area.DATABASE_RADIUS_M / math.hypot(*mixed)
        steps.append((mixed[0] * scale, mixed[1] * scale, mixed[2] * scale))
    return steps


async def test_orderings_decide_which_evses_a_limit_keeps(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    rows = []
    for number, price, power_w in ((1, 500_000, 11_000), (2, None, 150_000), (3, 300_000, 50_000)):
        evse = at(50, 10 + number / 100, number)
        evse.connectors.add(kind=2, power_w=power_w)
        if price is not None:
            tariff = evse.tariffs.add(currency_code="EUR")
            dimension = tariff_pb2.PRICE_DIMENSION_ENERGY
            tariff.components.add(dimension=dimension, price_micros=price)
        rows.append(row_of(evse))
    await storage.upsert([(operator_ref, row) for row in rows])
    request = around(50, 10, 50_000)
    for ordering, expected in (
        (messages.EVSE_ORDERING_UNSPECIFIED, "123"),
        (messages.EVSE_ORDERING_DISTANCE, "123"),
        (messages.EVSE_ORDERING_PRICE, "312"),
        (messages.EVSE_ORDERING_POWER, "231"),
    ):
        request.ordering = ordering
        request.limit = 0
        answer = await searched(storage, operator_ref, request)
        assert "".join(evse.evse_id[-1] for evse in answer) == expected
        request.limit = 1
        # One more than the limit, by which the servicer knows that there is more.
        assert len(await searched(storage, operator_ref, request)) == 2


async def test_an_answer_without_a_limit_still_has_one(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    rows = [row_of(at(50, 10 + number / 1e5, number)) for number in range(1, MOST_EVSES + 50)]
    await storage.upsert([(operator_ref, row) for row in rows])
    assert len(await searched(storage, operator_ref, around(50, 10, 500_000))) == MOST_EVSES + 1


async def test_a_membership_opens_what_is_not_open(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    evse = at(50, 10)
    evse.access = evse_pb2.ACCESS_KIND_MEMBERSHIP
    evse.memberships.append("ChargeNow")
    await storage.upsert([(operator_ref, row_of(evse))])
    request = around(50, 10, 1000)
    for membership, count in (("chargenow", 1), ("other", 0), ("", 1)):
        request.filter.membership = membership
        assert len(await searched(storage, operator_ref, request)) == count


async def test_a_search_reads_neighbours_through_the_index(storage: EvseStorage) -> None:
    operator_ref = await registered(storage)
    await storage.copy_all(operator_ref, [list(synthetic_rows(OPERATOR, 5_000, seed=3))])
    await storage.analyze()
    text, arguments = search_query(operator_ref, around(50, 10, 10_000))
    plan = "\n".join(row[0] for row in await storage.search(f"EXPLAIN {text}", arguments))
    assert "evse_position" in plan
    with pytest.raises(ValueError, match="not empty"):
        await storage.copy_all(operator_ref, [])
