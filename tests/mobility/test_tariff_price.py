"""The price by which EVSEs of different operators are compared."""

from __future__ import annotations

import pytest

from gem.charging.v1 import tariff_pb2
from mobility.tariff_price import compared_price

pytestmark = pytest.mark.usecase(1527)
ENERGY, TIME, PARKING, FLAT = 1, 2, 3, 4


def tariff(*components: tuple[int, int], currency: str = "EUR") -> tariff_pb2.Tariff:
    made = tariff_pb2.Tariff(currency_code=currency)
    for dimension, price_micros in components:
        made.components.add(dimension=dimension, price_micros=price_micros)
    return made


def test_an_unknown_tariff_has_no_price() -> None:
    assert compared_price([]) is None


def test_a_tariff_with_a_price_only_at_some_hours_has_no_price() -> None:
    restricted = tariff((ENERGY, 250_000))
    restricted.components[0].restriction.start_minute = 60
    assert compared_price([restricted]) is None


def test_a_tariff_without_components_is_free() -> None:
    price = compared_price([tariff()])
    assert price is not None
    assert (price.reference_price_micros, price.energy_price_micros) == (0, 0)


@pytest.mark.parametrize(
    ("components", "reference_price_micros"),
    [
        # 20 kWh in one hour: the worked totals without tax of OCPI's examples, for one hour.
        (((ENERGY, 250_000),), 5_000_000),
        (((FLAT, 500_000), (ENERGY, 250_000)), 5_500_000),
        (((TIME, 2_000_000),), 2_000_000),
        (((TIME, 3_000_000), (PARKING, 5_000_000)), 3_000_000),
    ],
)
def test_the_reference_price_is_that_of_20_kwh_within_an_hour(
    components: tuple[tuple[int, int], ...], reference_price_micros: int
) -> None:
    price = compared_price([tariff(*components)])
    assert price is not None
    assert price.reference_price_micros == reference_price_micros


def test_the_first_component_of_a_dimension_counts_and_restricted_ones_do_not() -> None:
    night = tariff((ENERGY, 100_000), (ENERGY, 300_000), (ENERGY, 900_000))
    night.components[0].restriction.weekdays.append(7)
    price = compared_price([night])
    assert price is not None
    assert price.energy_price_micros == 300_000


def test_minimum_and_maximum_bound_the_reference_price() -> None:
    bounded = tariff((ENERGY, 250_000))
    bounded.min_price.amount_micros = 7_000_000
    assert compared_price([bounded]).reference_price_micros == 7_000_000  # type: ignore[union-attr]
    bounded.ClearField("min_price")
    bounded.max_price.amount_micros = 4_000_000
    assert compared_price([bounded]).reference_price_micros == 4_000_000  # type: ignore[union-attr]


def test_the_cheapest_tariff_of_the_first_currency_counts() -> None:
    price = compared_price(
        [tariff((ENERGY, 500_000)), tariff((TIME, 1_000_000)), tariff(currency="CHF")]
    )
    assert price is not None
    assert (price.currency_code, price.reference_price_micros) == ("EUR", 1_000_000)
    assert price.energy_price_micros == 0
