"""Exact numbers, and prices counted in parts of which there is always a whole number."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.exact import Exact, ratio
from clearinghouse.tariff_rules import PARTS_PER_MICRO, read_rules
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent
from tests.clearinghouse_records import price, tariff

NUMBERS: st.SearchStrategy[Exact] = st.integers(-(10**20), 10**20) | st.fractions()
UNITS = {"ENERGY": 1000, "TIME": 3600, "PARKING_TIME": 3600, "FLAT": 1}


@given(NUMBERS, NUMBERS.filter(bool))
def test_a_ratio_is_exact_and_whole_where_it_can_be(numerator: Exact, denominator: Exact) -> None:
    found = ratio(numerator, denominator)
    assert found == Fraction(numerator) / Fraction(denominator)
    assert isinstance(found, int) == (found.denominator == 1)


@pytest.mark.parametrize("kind", UNITS)
@given(
    micros=st.integers(0, 10**12),
    tax_ppm=st.integers(0, 1_000_000),
    tax=st.sampled_from(tariff_pb2.TaxTreatment.values()),
)
def test_prices_are_those_of_the_tariff(kind: str, micros: int, tax_ppm: int, tax: int) -> None:
    component = price(kind, 0)
    component.price_micros, component.vat_ppm = micros, tax_ppm
    (read,) = read_rules(tariff(component, tax=tax)).components
    without = with_tax = Fraction(micros, UNITS[kind])
    factor = 1 + Fraction(tax_ppm, 1_000_000)
    if tax == tariff_pb2.TAX_TREATMENT_INCLUDED:
        without = with_tax / factor
    elif tax != tariff_pb2.TAX_TREATMENT_NOT_APPLICABLE:
        with_tax = without * factor
    assert Fraction(read.without_tax) / PARTS_PER_MICRO == without
    assert Fraction(read.with_tax) / PARTS_PER_MICRO == with_tax
    assert isinstance(read.with_tax, int)
    assert isinstance(read.without_tax, int) or tax == tariff_pb2.TAX_TREATMENT_INCLUDED


def test_a_tariff_is_read_once_and_a_changed_one_again() -> None:
    first = tariff(price("ENERGY", 1))
    rules = read_rules(first)
    assert read_rules(tariff(price("ENERGY", 1))) is rules
    first.components.append(PriceComponent(dimension=tariff_pb2.PRICE_DIMENSION_FLAT))
    assert [len(each.components) for each in (rules, read_rules(first))] == [1, 2]
