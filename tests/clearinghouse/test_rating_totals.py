"""The worked totals of the domain facts, from tariffs as published and built by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from clearinghouse.ocpi_tariff import read_tariff_json
from clearinghouse.rateable import read_session
from clearinghouse.rating import Rating, rate
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import Tariff
from gem.common.v1.money_pb2 import Money
from gem.roaming.v1.rating_pb2 import RatingLineKind
from tests.clearinghouse_records import UNIT, Dimensions, charged, parked, price, record, tariff
from tests.external_data import FOLDER

EXAMPLES = FOLDER / "ocpi-2.3.0"
PERIODS = {
    "20 kWh in an hour": [(60, charged(20))],
    "2.5 h": [(150, charged(10))],
    "2.5 h and 42 min parked": [(150, charged(10)), (42, parked())],
}


def totals(rating: Rating) -> tuple[str, str]:
    """Give the totals in units: `5.00`, `5.50`."""
    cents = rating.without_tax_micros // 10_000, rating.with_tax_micros // 10_000
    return f"{cents[0] / 100:.2f}", f"{cents[1] / 100:.2f}"


def rated(
    given: Tariff | None, *periods: tuple[float, Dimensions], **named: object
) -> tuple[str, str]:
    return totals(rate(read_session(record(given, periods, **named))))  # type: ignore[arg-type]  # passed through


WORKED = [
    ("tariff_8_simple_025kwh", "20 kWh in an hour", ("5.00", "5.50")),
    ("tariff_9_025kwh_start", "20 kWh in an hour", ("5.50", "6.10")),
    ("tariff_1_simple_2hour", "2.5 h", ("5.00", "5.50")),
    ("tariff_19_simple_north_american_exclusive", "2.5 h", ("5.00", "5.00")),
    ("tariff_13_simple_3hour_5parking", "2.5 h and 42 min parked", ("11.25", "12.75")),
    ("tariff_put_example", "2.5 h", ("5.00", "5.50")),
]


@pytest.mark.external_data
@pytest.mark.parametrize(("name", "periods", "expected"), WORKED)
def test_published_tariffs_give_their_worked_totals(
    name: str, periods: str, expected: tuple[str, str]
) -> None:
    file = EXAMPLES / f"{name}.json"
    if not file.is_file():
        pytest.skip("the folder ../shared/data is not here")
    assert rated(read_tariff_json(file.read_bytes()), *PERIODS[periods]) == expected


def test_energy_is_paid_by_the_kilowatt_hour() -> None:
    given = tariff(price("ENERGY", "0.25", vat_percent=10))
    assert rated(given, (60, charged(20))) == ("5.00", "5.50")


def test_a_start_fee_has_its_own_tax() -> None:
    given = tariff(price("FLAT", "0.50", vat_percent=20), price("ENERGY", "0.25", vat_percent=10))
    assert rated(given, (60, charged(20))) == ("5.50", "6.10")


def test_charging_and_parking_are_paid_apart_and_stepped_together() -> None:
    given = tariff(price("TIME", 3, 10, step=60), price("PARKING_TIME", 5, 20, step=300))
    assert rated(given, (150, charged(10)), (42, parked())) == ("11.25", "12.75")


def test_without_a_tariff_charging_is_free() -> None:
    assert rated(None, (60, charged(20))) == ("0.00", "0.00")


def test_a_session_without_length_and_energy_pays_the_fixed_fee() -> None:
    given = tariff(price("FLAT", 1), price("ENERGY", 1), price("TIME", 1))
    assert rated(given, (0, charged(0))) == ("1.00", "1.00")


def test_prices_with_tax_give_both_totals() -> None:
    included = tariff_pb2.TAX_TREATMENT_INCLUDED
    given = tariff(price("ENERGY", "0.55", vat_percent=10), tax=included)
    assert rated(given, (60, charged(10))) == ("5.00", "5.50")


def test_where_no_tax_applies_a_rate_is_without_effect() -> None:
    none = tariff_pb2.TAX_TREATMENT_NOT_APPLICABLE
    given = tariff(price("ENERGY", "0.55", vat_percent=10), tax=none)
    assert rated(given, (60, charged(10))) == ("5.50", "5.50")


STEPS = [
    # 25 min before 17:00 and 10 after: 35 min become 45, the last price pays the ten.
    ((35, charged(5)), ("1.30", "1.30")),
    # 25 + 20 = 45 min are a whole number of the step.
    ((45, charged(5)), ("1.30", "1.30")),
    # Only the first price: its own step of 30 min.
    ((20, charged(5)), ("0.60", "0.60")),
]


@pytest.mark.parametrize(("period", "expected"), STEPS)
def test_the_step_of_the_last_price_rounds_the_whole_time(
    period: tuple[float, Dimensions], expected: tuple[str, str]
) -> None:
    given = tariff(
        price("TIME", "1.20", step=1800, start_minute=0, end_minute=17 * 60),
        price("TIME", "2.40", step=900, start_minute=17 * 60),
    )
    start = datetime(2026, 3, 2, 15, 35, tzinfo=UTC)  # 16:35 in Berlin
    assert rated(given, period, start=start) == expected


def test_energy_is_stepped_once_for_all_prices() -> None:
    given = tariff(
        price("ENERGY", "0.20", step=1000, max_energy_wh=10_000), price("ENERGY", "0.40", step=500)
    )
    # 10 kWh at 0.20 and 5.1 kWh, raised to 5.5, at 0.40.
    assert rated(given, (60, charged("15.1"))) == ("4.20", "4.20")


def eur(amount: str) -> Money:
    return Money(amount_micros=int(float(amount) * UNIT), currency_code="EUR")


LIMITS = [
    ({"min_price": eur("4")}, 10, ("4.00", "4.40")),
    ({"min_price": eur("4"), "min_price_with_tax": eur("5")}, 10, ("4.00", "5.00")),
    ({"min_price_with_tax": eur("5.50")}, 10, ("5.00", "5.50")),
    ({"min_price": eur("2")}, 10, ("2.50", "2.75")),
    ({"max_price": eur("2")}, 10, ("2.00", "2.20")),
    ({"max_price": eur("3"), "max_price_with_tax": eur("2.60")}, 10, ("2.50", "2.60")),
    ({"max_price_with_tax": eur("1.10")}, 10, ("1.00", "1.10")),
    ({"min_price": eur("1"), "max_price": eur("2")}, 6, ("1.50", "1.65")),
]


@pytest.mark.parametrize(("limits", "kwh", "expected"), LIMITS)
def test_limits_hold_without_and_with_tax(
    limits: dict[str, Any], kwh: int, expected: tuple[str, str]
) -> None:
    given = tariff(price("ENERGY", "0.25", vat_percent=10), **limits)
    assert rated(given, (60, charged(kwh))) == expected


def test_where_prices_contain_tax_so_does_the_minimum() -> None:
    included = tariff_pb2.TAX_TREATMENT_INCLUDED
    given = tariff(price("ENERGY", "0.11", 10), tax=included, min_price=eur("5.50"))
    assert rated(given, (60, charged(10))) == ("5.00", "5.50")


@pytest.mark.parametrize(
    ("currency", "price_per_kwh", "without_tax_micros"),
    [("EUR", "0.125", 130_000), ("JPY", "31.5", 32 * UNIT), ("KWD", "0.0325", 33_000)],
)
def test_the_total_is_rounded_once_to_the_smallest_coin(
    currency: str, price_per_kwh: str, without_tax_micros: int
) -> None:
    given = tariff(price("ENERGY", price_per_kwh), currency=currency)
    rating = rate(read_session(record(given, [(60, charged(1))])))
    assert rating.currency_code == currency
    assert rating.without_tax_micros == without_tax_micros
    assert rating.lines[-1].kind == RatingLineKind.RATING_LINE_KIND_ROUNDING


def test_many_small_parts_are_not_rounded_one_by_one() -> None:
    given = tariff(
        price("ENERGY", "0.004", min_energy_wh=500, max_energy_wh=1_500),
        price("ENERGY", "0.004"),
    )
    # Three lines of 0.002, 0.004 and 0.002: rounded each they would give nothing.
    rating = rate(read_session(record(given, [(60, charged(2))])))
    assert totals(rating) == ("0.01", "0.01")
    assert [line.without_tax_micros for line in rating.lines] == [2_000, 4_000, 2_000, 2_000]
