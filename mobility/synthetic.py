"""EVSEs that nobody built, for benchmarks and load tests: any number, equal for equal seeds.

Two thirds stand in towns, where a search of 10 km meets thousands; the rest is spread over the
land.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from gem.charging.v1 import evse_pb2, tariff_pb2
from mobility.evse_row import EvseRow, evse_key, locality, row_of
from mobility.storage import EvseStorage

#: The land: degrees of latitude and longitude, about that of Germany.
SOUTH, NORTH, WEST, EAST = 47.5, 54.8, 6.2, 14.8
#: Time of all states, seconds since 1970 (2025-10-09).
_STATUS_TIME_S = 1_760_000_000
_TOWNS = 250
_TOWN_SHARE = 0.67
_TOWN_SPREAD = 0.05
_BATCH = 20_000
_PATTERNS = 4_000

_STATUSES = (1, 1, 1, 2, 2, 3, 4, 5, 0)
_ACCESSES = (1, 1, 2, 2, 3, 4)
_CITIES = ("Aachen", "Bremen", "Cottbus", "Dortmund", "Essen", "Fulda", "Gera", "Hamm")
#: Kind, plug, power in watts, phases, volts, amperes.
_CONNECTORS = (
    (1, evse_pb2.PLUG_TYPE_TYPE_2, 11_040, 3, 230, 16),
    (1, evse_pb2.PLUG_TYPE_TYPE_2, 22_080, 3, 230, 32),
    (1, evse_pb2.PLUG_TYPE_HOUSEHOLD, 3_680, 1, 230, 16),
    (2, evse_pb2.PLUG_TYPE_CCS_2, 50_000, 0, 400, 125),
    (2, evse_pb2.PLUG_TYPE_CCS_2, 150_000, 0, 800, 350),
    (2, evse_pb2.PLUG_TYPE_CHADEMO, 50_000, 0, 400, 125),
)


@dataclass(frozen=True, slots=True)
class SyntheticOperator:
    """Who operates the EVSEs; `operator_id` as in `DE*SYN`."""

    name: str
    operator_id: str


def synthetic_rows(operator: SyntheticOperator, count: int, seed: int = 1) -> Iterator[EvseRow]:
    """Give `count` valid EVSEs, neighbours one after the other, with ids that count from zero.

    An EVSE is one of some thousand patterns with an id and a place of its own.
    """
    chance = random.Random(seed)  # noqa: S311  # test data, not secrets
    towns = [_anywhere(chance) for _ in range(_TOWNS)]
    places = [
        _near(chance.choice(towns), chance) if chance.random() < _TOWN_SHARE else _anywhere(chance)
        for _ in range(count)
    ]
    places.sort(key=lambda place: locality(*place))
    patterns = [row_of(_pattern(operator, chance)) for _ in range(_PATTERNS)]
    for number, (latitude_e7, longitude_e7) in enumerate(places):
        own = evse_pb2.Evse(evse_id=f"{operator.operator_id}*E{number:07d}")
        own.location.latitude_e7, own.location.longitude_e7 = latitude_e7, longitude_e7
        pattern = chance.choice(patterns)
        yield replace(
            pattern,
            evse_key=evse_key(own.evse_id),
            latitude_e7=latitude_e7,
            longitude_e7=longitude_e7,
            # Fields of one message may be written one after the other: the result is their union.
            message=own.SerializeToString() + pattern.message,
        )


async def generate(
    storage: EvseStorage,
    operator_ref: int,
    operator: SyntheticOperator,
    count: int,
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Fill the empty database and let the planner know.

    `progress` is called with the EVSEs written so far and `count`. Raises ValueError when the
    database has EVSEs already.
    """

    def batches() -> Iterator[list[EvseRow]]:
        rows = synthetic_rows(operator, count, seed)
        for done in range(0, count, _BATCH):
            yield list(islice(rows, _BATCH))
            progress(min(done + _BATCH, count), count)

    await storage.copy_all(operator_ref, batches())
    await storage.analyze()


def _anywhere(chance: random.Random) -> tuple[int, int]:
    return round(chance.uniform(SOUTH, NORTH) * 1e7), round(chance.uniform(WEST, EAST) * 1e7)


def _near(town: tuple[int, int], chance: random.Random) -> tuple[int, int]:
    return (
        town[0] + round(chance.gauss(0, _TOWN_SPREAD) * 1e7),
        town[1] + round(chance.gauss(0, 1.6 * _TOWN_SPREAD) * 1e7),
    )


def _pattern(operator: SyntheticOperator, chance: random.Random) -> evse_pb2.Evse:
    """Draw attributes without id and place, so that every filter keeps some and drops some."""
    evse = evse_pb2.Evse(
        status=chance.choice(_STATUSES),  # type: ignore[arg-type]  # an enum's number
        access=chance.choice(_ACCESSES),  # type: ignore[arg-type]  # an enum's number
        operator_name=operator.name,
        reservable=chance.random() < 0.3,
    )
    evse.status_time.seconds = _STATUS_TIME_S
    for _ in range(chance.choice((1, 2, 2))):
        kind, plug, power_w, phases, voltage_v, current_a = chance.choice(_CONNECTORS)
        evse.connectors.add(
            kind=kind,
            plug=plug,
            power_w=power_w,
            phases=phases,
            voltage_v=voltage_v,
            current_a=current_a,
        )
    if chance.random() < 0.8:
        _add_tariff(evse, chance)
    if chance.random() < 0.5:
        evse.energy_mix.green = True
    evse.opening.always_open = chance.random() < 0.7
    evse.address.city = chance.choice(_CITIES)
    evse.address.country_code = operator.operator_id[:2]
    return evse


def _add_tariff(evse: evse_pb2.Evse, chance: random.Random) -> None:
    tariff = evse.tariffs.add(currency_code="EUR")
    energy = chance.randrange(29, 90) * 10_000
    tariff.components.add(dimension=tariff_pb2.PRICE_DIMENSION_ENERGY, price_micros=energy)
    if chance.random() < 0.3:
        tariff.components.add(dimension=tariff_pb2.PRICE_DIMENSION_FLAT, price_micros=350_000)
