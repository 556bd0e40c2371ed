"""When a price applies: clock, date, weekday, duration, energy, power, current."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from clearinghouse.local_clock import edges, has_clock_change, zone_of
from clearinghouse.rateable import NotRateableError, read_session
from clearinghouse.rating import Rating, rate
from clearinghouse.rating_comparison import message_of
from clearinghouse.tariff_rules import Dimension
from gem.charging.v1 import tariff_pb2
from gem.roaming.v1.charge_detail_record_pb2 import PeriodDimension
from tests.clearinghouse_records import (
    START,
    Dimensions,
    charged,
    parked,
    price,
    record,
    session,
    tariff,
)

BERLIN = zone_of("Europe/Berlin")


def local(*parts: int) -> datetime:
    """Give an instant by the clock of Berlin."""
    return datetime(*parts, tzinfo=BERLIN).astimezone(UTC)  # type: ignore[misc, arg-type]  # positional date parts


def cost(component_limits: dict[str, Any], *periods: tuple[float, Dimensions], **named: Any) -> int:
    """Give the minutes that a price of 60 an hour is paid for under a restriction."""
    given = tariff(price("TIME", 60, **component_limits), price("PARKING_TIME", 60))
    return rate(session(given, periods, **named)).without_tax_micros // 1_000_000


def test_a_dimension_without_a_price_that_applies_is_free() -> None:
    assert cost({"min_duration_s": 3600}, (30, charged(5))) == 0


def test_the_first_price_that_applies_hides_the_later_ones() -> None:
    given = tariff(price("ENERGY", 1, max_duration_s=1800), price("ENERGY", 2), price("ENERGY", 5))
    assert rate(session(given, [(60, charged(10))])).without_tax_micros == 15_000_000


def test_different_dimensions_add_up() -> None:
    given = tariff(price("FLAT", 1), price("ENERGY", 1), price("TIME", 6), price("PARKING_TIME", 3))
    rating = rate(session(given, [(30, charged(2)), (20, parked())]))
    assert rating.without_tax_micros == (1 + 2 + 3 + 1) * 1_000_000


@pytest.mark.parametrize(
    ("limits", "minutes"),
    [
        ({"min_duration_s": 1200}, 40),
        ({"max_duration_s": 1200}, 20),
        ({"min_duration_s": 600, "max_duration_s": 1200}, 10),
        ({"min_energy_wh": 3_000}, 30),
        ({"max_energy_wh": 3_000}, 30),
        ({"min_energy_wh": 1_000, "max_energy_wh": 2_000}, 10),
        ({"min_power_w": 6_000}, 60),
        ({"min_power_w": 6_001}, 0),
        ({"max_power_w": 6_000}, 0),
        ({"min_current_ma": 1}, 0),
    ],
)
def test_a_price_applies_within_its_bounds(limits: dict[str, int], minutes: int) -> None:
    assert cost(limits, (60, charged(6))) == minutes


def test_a_measured_power_and_current_count_as_they_are_at_each_time() -> None:
    limits = {"min_power_w": 10_000, "min_current_ma": 16_000}
    fast, slow = charged(5, current_a=32, power_w=22_000), charged(5, current_a=10, power_w=22_000)
    assert cost(limits, (10, fast), (20, slow), (5, fast)) == 15


@pytest.mark.parametrize(
    ("at", "minutes"),
    [
        (local(2026, 3, 2, 21, 30), 30),
        (local(2026, 3, 2, 23, 30), 60),
        (local(2026, 3, 3, 5, 30), 30),
        (local(2026, 3, 3, 12, 0), 0),
    ],
)
def test_a_night_price_wraps_midnight(at: datetime, minutes: int) -> None:
    night = {"start_minute": 22 * 60, "end_minute": 6 * 60}
    assert cost(night, (60, charged(5)), start=at) == minutes


def test_clocks_are_those_of_the_place() -> None:
    evening = {"start_minute": 18 * 60, "end_minute": 24 * 60}
    start = datetime(2026, 3, 2, 17, 30, tzinfo=UTC)
    assert cost(evening, (60, charged(5)), start=start, zone="Europe/Berlin") == 60
    assert cost(evening, (60, charged(5)), start=start, zone="Europe/Lisbon") == 30
    assert cost(evening, (60, charged(5)), start=start, zone="America/New_York") == 0


def test_dates_begin_inclusive_and_end_exclusive() -> None:
    day = {"start_date": "2026-03-03", "end_date": "2026-03-04"}
    around = local(2026, 3, 2, 23, 30)
    assert cost(day, (60, charged(5)), start=around) == 30
    assert cost(day, (60, charged(5)), start=around + timedelta(days=1)) == 30
    assert cost(day, (60, charged(5)), start=around + timedelta(days=2)) == 0


def test_weekdays_change_at_midnight_of_the_place() -> None:
    weekend = {"weekdays": [6, 7]}
    assert cost(weekend, (60, charged(5)), start=local(2026, 3, 6, 23, 40)) == 40
    assert cost(weekend, (60, charged(5)), start=local(2026, 3, 8, 23, 40)) == 20


CLOCK_CHANGES = [
    # Clocks go from 02:00 to 03:00: the hour from 2 to 3 does not exist, the night has three.
    (local(2026, 3, 29, 0, 0), 2 * 60, 3 * 60, 0),
    (local(2026, 3, 29, 0, 0), 0, 4 * 60, 180),
    (local(2026, 3, 29, 0, 0), 2 * 60 + 30, 3 * 60 + 30, 30),
    # Clocks go from 03:00 to 02:00: the hour from 2 to 3 comes twice.
    (local(2026, 10, 25, 0, 0), 2 * 60, 3 * 60, 120),
    (local(2026, 10, 25, 0, 0), 0, 4 * 60, 300),
    (local(2026, 10, 25, 0, 0), 2 * 60 + 30, 3 * 60 + 30, 90),
]


@pytest.mark.parametrize(("start", "first", "end", "minutes"), CLOCK_CHANGES)
def test_days_on_which_clocks_are_changed_have_the_hours_that_they_have(
    start: datetime, first: int, end: int, minutes: int
) -> None:
    limits = {"start_minute": first, "end_minute": end}
    assert cost(limits, (600, charged(5)), start=start) == minutes


def test_an_edge_of_a_clock_is_where_its_display_changes() -> None:
    start, end = local(2026, 10, 25, 0, 0), local(2026, 10, 25, 6, 0)
    found = sorted(edges(start, end, BERLIN, {150}))
    shown = [at.astimezone(BERLIN).strftime("%H:%M") for at in found]
    assert shown == ["02:30", "02:00", "02:30"]
    assert all(a < b for a, b in pairwise(found))
    assert has_clock_change(start, end, BERLIN)
    assert not has_clock_change(start, start + timedelta(hours=1), BERLIN)


def test_a_fixed_fee_is_paid_once_by_the_first_that_applies() -> None:
    given = tariff(price("FLAT", 5, min_duration_s=1800), price("FLAT", 2, max_duration_s=600))
    assert rate(session(given, [(60, charged(5)), (60, parked())])).without_tax_micros == 2_000_000


def test_parking_alone_is_stepped_by_its_own_step() -> None:
    given = tariff(price("PARKING_TIME", 60, step=900))
    rating = rate(session(given, [(60, charged(5)), (16, parked())]))
    assert rating.without_tax_micros == 30_000_000


def test_the_step_is_that_of_the_last_priced_time() -> None:
    given = tariff(price("TIME", 60, step=3600), price("PARKING_TIME", 60, max_duration_s=1))
    rating = rate(session(given, [(50, charged(5)), (16, parked())]))
    assert rating.without_tax_micros == 60_000_000


def reservation(kind: str, amount: int, pricing: int) -> tariff_pb2.PriceComponent:
    component = price(kind, amount)
    component.restriction.reservation = pricing  # type: ignore[assignment]  # value of the enum
    return component


def test_reservations_are_priced_by_their_own_components_only() -> None:
    given = tariff(
        reservation("TIME", 60, tariff_pb2.RESERVATION_PRICING_RESERVATION),
        reservation("FLAT", 4, tariff_pb2.RESERVATION_PRICING_RESERVATION),
        reservation("FLAT", 100, tariff_pb2.RESERVATION_PRICING_RESERVATION_EXPIRES),
        price("TIME", 120),
    )
    reserved = [PeriodDimension(reservation_time_ms=600_000)]
    rating = rate(session(given, [(10, reserved), (30, charged(5))]))
    assert rating.without_tax_micros == (10 + 4 + 60) * 1_000_000
    assert rate(session(given, [(30, charged(5))])).without_tax_micros == 60_000_000


def test_stated_times_count_instead_of_the_period() -> None:
    given = tariff(price("TIME", 60), price("PARKING_TIME", 6))
    both = [PeriodDimension(charging_time_ms=1_200_000), PeriodDimension(parking_time_ms=600_000)]
    assert rate(session(given, [(30, both)])).without_tax_micros == 21_000_000


def test_lines_say_when_and_how_much() -> None:
    given = tariff(price("ENERGY", 1, max_energy_wh=3_000), price("ENERGY", 2))
    rating = rate(session(given, [(30, charged(2)), (30, charged(2))]))
    seen = [(line.start_s, line.end_s, line.quantity) for line in rating.lines]
    assert [tuple(map(int, line)) for line in seen] == [(0, 2700, 3000), (2700, 3600, 1000)]
    assert [line.component.index for line in rating.lines if line.component] == [0, 1]


def test_periods_may_have_tariffs_of_their_own() -> None:
    made = record(tariff(price("ENERGY", 1)), [(30, charged(2)), (30, charged(2))])
    second = tariff(price("ENERGY", 3))
    second.tariff_id = "T2"
    made.tariffs.append(second)
    made.charging_periods[1].tariff_id = "T2"
    assert rate(read_session(made)).without_tax_micros == 8_000_000


def broken(name: str) -> Rating:
    made = record(tariff(price("ENERGY", 1)), [(30, charged(2)), (30, charged(2))])
    if name == "end before start":
        made.end_time.FromDatetime(START - timedelta(seconds=1))
    elif name == "no start":
        made.ClearField("start_time")
    elif name == "no end":
        made.ClearField("end_time")
    elif name == "a time that is none":
        made.end_time.seconds = 2**62
    elif name == "too long":
        made.end_time.FromDatetime(START + timedelta(days=101))
    elif name == "period after the end":
        made.charging_periods[1].start_time.FromDatetime(START + timedelta(days=1))
    elif name == "unknown tariff":
        made.charging_periods[1].tariff_id = "nobody's"
    elif name == "unknown zone":
        made.location.time_zone = "Europe/Atlantis"
    return rate(read_session(made))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("end before start", "end_time"),
        ("no start", "start_time"),
        ("no end", "end_time"),
        ("a time that is none", "end_time"),
        ("too long", "end_time"),
        ("period after the end", "charging_periods[1].start_time"),
        ("unknown tariff", "charging_periods[1].tariff_id"),
        ("unknown zone", "location.time_zone"),
    ],
)
def test_what_cannot_be_rated_is_refused_with_the_field(name: str, field: str) -> None:
    with pytest.raises(NotRateableError) as refused:
        broken(name)
    assert refused.value.field == field


def test_negative_quantities_are_no_income() -> None:
    made = record(tariff(price("ENERGY", 1)), [(30, charged(-5))])
    assert rate(read_session(made)).without_tax_micros == 0


def test_a_period_says_its_power_only_where_it_has_time() -> None:
    made = session(tariff(price("ENERGY", 1)), [(0, charged(1)), (30, charged(1))])
    assert made.periods[0].mean_power_w() is None
    assert made.periods[1].mean_power_w() == Fraction(2000)
    assert made.periods[1].quantity(Dimension.PARKING_TIME) == 0


def test_a_session_whose_rating_would_take_long_is_refused() -> None:
    edges_of_day = [
        price("ENERGY", 1, start_minute=minute, end_minute=minute + 1) for minute in range(1, 100)
    ]
    # A day of such a tariff is rated; for 99 days of it nobody waits.
    assert rate(session(tariff(*edges_of_day), [(1440, charged(5))])).lines
    with pytest.raises(NotRateableError) as refused:
        rate(session(tariff(*edges_of_day), [(1440 * 99, charged(5))]))
    assert refused.value.field == "tariffs"


@pytest.mark.parametrize(
    "dimension",
    [PeriodDimension(energy_milli_wh=2**62), PeriodDimension(charging_time_ms=2**62)],
)
def test_quantities_whose_price_no_amount_holds_are_refused(dimension: PeriodDimension) -> None:
    with pytest.raises(NotRateableError) as refused:
        session(tariff(price("ENERGY", 1_000_000)), [(60, [dimension])])
    assert refused.value.field == "charging_periods"


def test_the_greatest_session_at_the_greatest_price_has_an_amount() -> None:
    dearest = [price(kind, 1_000_000, 100) for kind in ("ENERGY", "TIME", "PARKING_TIME", "FLAT")]
    for component in dearest:
        component.step_wh = component.step_s = 2**31 - 1
    made = record(tariff(*dearest), [(144_000, charged(1_000_000))])
    message = message_of(rate(read_session(made)), START)
    assert message.with_tax_micros == 2 * message.without_tax_micros > 10**18
