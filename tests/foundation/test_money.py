from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.money import LARGEST_MICROS, Money, Rounding, decimals_of, divide, total
from tests.strategies import amounts_micros


@pytest.mark.parametrize("code", ["", "eur", "EURO", "EU", "EU1", "EUR\n"])
def test_a_currency_that_is_none_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="currency"):
        Money(1, code)


@pytest.mark.parametrize("text", ["", ".5", "1.", "1,5", "1e3", "NaN", "0.1234567", "1" * 13, "+1"])
def test_an_amount_that_is_not_exact_in_micros_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        Money.parse(text, "EUR")


def test_an_amount_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond"):
        Money(LARGEST_MICROS, "EUR") + Money(1, "EUR")


def test_amounts_of_different_currencies_do_not_mix() -> None:
    with pytest.raises(ValueError, match="currencies"):
        Money(1, "EUR") + Money(1, "CHF")
    with pytest.raises(ValueError, match="currencies"):
        total([Money(1, "EUR")], "CHF")


@pytest.mark.parametrize(
    ("text", "micros", "shown"),
    [
        ("0.25", 250_000, "0.25 EUR"),
        ("-5.5", -5_500_000, "-5.50 EUR"),
        ("0.000001", 1, "0.000001 EUR"),
        ("12", 12_000_000, "12.00 EUR"),
    ],
)
def test_amounts_are_read_and_shown_exactly(text: str, micros: int, shown: str) -> None:
    money = Money.parse(text, "EUR")
    assert money.amount_micros == micros
    assert str(money) == shown


def test_a_currency_is_shown_with_its_own_decimals() -> None:
    assert (decimals_of("JPY"), decimals_of("EUR"), decimals_of("KWD")) == (0, 2, 3)
    assert str(Money.parse("120", "JPY")) == "120 JPY"
    assert str(Money.parse("1.5", "KWD")) == "1.500 KWD"


@pytest.mark.parametrize(
    ("micros", "rounding", "rounded"),
    [
        (125_000, Rounding.HALF_UP, 130_000),
        (125_000, Rounding.HALF_EVEN, 120_000),
        (135_000, Rounding.HALF_EVEN, 140_000),
        (129_999, Rounding.FLOOR, 120_000),
        (-125_000, Rounding.HALF_UP, -130_000),
        (-125_000, Rounding.HALF_EVEN, -120_000),
        (-121_000, Rounding.FLOOR, -130_000),
        (124_999, Rounding.HALF_UP, 120_000),
        (125_001, Rounding.HALF_EVEN, 130_000),
    ],
)
def test_rounding_to_cents_goes_where_its_name_says(
    micros: int, rounding: Rounding, rounded: int
) -> None:
    assert Money(micros, "EUR").to_smallest_unit(rounding).amount_micros == rounded


def test_energy_at_a_price_costs_what_a_meter_says() -> None:
    per_kwh = Money.parse("0.25", "EUR")
    assert per_kwh.times(20_000, 1_000, Rounding.HALF_UP) == Money.parse("5.00", "EUR")


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**9), st.sampled_from(Rounding))
def test_division_errs_by_no_more_than_its_rounding_allows(
    numerator: int, denominator: int, rounding: Rounding
) -> None:
    error = divide(numerator, denominator, rounding) - Fraction(numerator, denominator)
    if rounding is Rounding.FLOOR:
        assert -1 < error <= 0
    else:
        assert abs(error) <= Fraction(1, 2)


@given(st.integers(0, 10**20), st.integers(1, 10**9))
def test_rounding_half_up_treats_debits_as_credits(numerator: int, denominator: int) -> None:
    credit = divide(-numerator, denominator, Rounding.HALF_UP)
    assert credit == -divide(numerator, denominator, Rounding.HALF_UP)


@given(st.lists(amounts_micros(), max_size=20))
def test_a_total_is_the_sum_and_its_reversal_cancels_it(micros: list[int]) -> None:
    amounts = [Money(one, "EUR") for one in micros]
    assert total(amounts, "EUR").amount_micros == sum(micros)
    assert total([*amounts, *(-one for one in amounts)], "EUR") == Money(0, "EUR")


@given(amounts_micros())
def test_what_is_shown_can_be_read_again(micros: int) -> None:
    shown, code = str(Money(micros, "EUR")).split()
    assert Money.parse(shown, code).amount_micros == micros
