"""A rating beside what the operator says, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.rateable import read_session
from clearinghouse.rating import rate
from clearinghouse.rating_comparison import compare, message_of
from foundation.validation import violations
from gem.charging.v1.tariff_pb2 import Tariff
from gem.common.v1.money_pb2 import Money
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.rating_pb2 import RatingComparison, RatingLineKind
from tests.clearinghouse_records import START, charged, parked, plausible, price, record, tariff


def compared(made: ChargeDetailRecord, tolerance_micros: int = 0) -> RatingComparison:
    return compare(rate(read_session(made)), made, START, tolerance_micros)


def kinds(comparison: RatingComparison, within: bool) -> list[str]:
    """Give the kinds that are within tolerance, or not; the total is `UNSPECIFIED`."""
    return [
        RatingLineKind.Name(each.kind).removeprefix("RATING_LINE_KIND_")
        for each in comparison.differences
        if each.within_tolerance == within
    ]


def test_what_the_operator_says_rightly_has_no_difference() -> None:
    comparison = compared(plausible())
    assert comparison.within_tolerance
    assert kinds(comparison, within=True) == ["ENERGY", "PARKING_TIME", "UNSPECIFIED"]
    total = comparison.differences[-1]
    assert (total.rated_without_tax_micros, total.rated_with_tax_micros) == (6_000_000, 7_200_000)
    assert not violations(comparison)


def test_each_line_has_its_own_difference() -> None:
    made = plausible()
    made.total_energy_cost.without_tax_micros -= 1_000_000
    made.total_parking_cost.without_tax_micros += 1_000_000
    comparison = compared(made)
    assert kinds(comparison, within=False) == ["ENERGY", "PARKING_TIME"]
    assert kinds(comparison, within=True) == ["UNSPECIFIED"]
    assert not comparison.within_tolerance
    energy = comparison.differences[0]
    assert energy.submitted_without_tax_micros - energy.rated_without_tax_micros == -1_000_000


def test_a_cost_that_the_tariff_does_not_have_is_a_difference() -> None:
    made = plausible()
    made.total_fixed_cost.without_tax_micros = 1_000_000
    assert kinds(compared(made), within=False) == ["FLAT"]


def test_a_part_that_the_operator_does_not_say_is_no_difference() -> None:
    made = plausible()
    made.ClearField("total_energy_cost")
    comparison = compared(made)
    assert comparison.within_tolerance
    assert not comparison.differences[0].HasField("submitted_without_tax_micros")


@pytest.mark.parametrize(
    ("difference_micros", "tolerance_micros", "within"),
    [
        (5_000, 0, True),
        (5_001, 0, False),
        (10_000, 0, False),
        (15_000, 10_000, True),
        (-15_001, 10_000, False),
    ],
)
def test_half_a_coin_and_the_tolerance_are_no_difference(
    difference_micros: int, tolerance_micros: int, within: bool
) -> None:
    made = plausible()
    made.total_cost.with_tax_micros += difference_micros
    assert compared(made, tolerance_micros).within_tolerance == within


def all_kinds() -> Tariff:
    limit = Money(amount_micros=1_000_000_000, currency_code="EUR")
    return tariff(
        price("FLAT", 1, 20),
        price("ENERGY", "0.333", 7, step=1000),
        price("TIME", 2, 19, step=900),
        price("PARKING_TIME", 3, 19, step=900),
        min_price=limit,
    )


def test_a_rating_becomes_a_message_whose_lines_add_up() -> None:
    made = record(all_kinds(), [(31, charged("7.7")), (14, parked())])
    message = message_of(rate(read_session(made)), START)
    assert not violations(message)
    assert sum(line.without_tax_micros for line in message.lines) == message.without_tax_micros
    assert sum(line.with_tax_micros for line in message.lines) == message.with_tax_micros
    by_kind = {RatingLineKind.Name(line.kind)[17:]: line for line in message.lines}
    assert by_kind["ENERGY"].energy_milli_wh == 8_000_000
    assert by_kind["TIME"].time_ms == 31 * 60_000
    assert by_kind["PARKING_TIME"].time_ms == 14 * 60_000
    assert by_kind["PARKING_TIME"].start_time.seconds == START.timestamp() + 31 * 60
    assert by_kind["FLAT"].component_index == 0
    assert by_kind["ENERGY"].tariff_id == "T1"
    assert not by_kind["MIN_PRICE"].HasField("component_index")
    assert message.without_tax_micros == 1_000_000_000


@settings(max_examples=40, deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(0, 10**8))
def test_a_difference_is_one_exactly_beyond_the_tolerance(off: int, tolerance: int) -> None:
    made = plausible()
    made.total_cost.without_tax_micros += off
    comparison = compared(made, tolerance)
    assert comparison.differences[-1].within_tolerance == (abs(off) <= tolerance + 5_000)
