"""Tariffs as JSON: read exactly, or refused whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.ocpi_tariff import read_tariff_json
from foundation.validation import violations
from gem.charging.v1 import tariff_pb2

COMPONENT = {"type": "ENERGY", "price": 0.25, "vat": 10.0, "step_size": 1}
WHOLE: dict[str, Any] = {
    "id": "16",
    "currency": "EUR",
    "tax_included": "NO",
    "elements": [
        {
            "price_components": [COMPONENT, {"type": "TIME", "price": 2, "step_size": 60}],
            "restrictions": {
                "start_time": "09:00",
                "end_time": "24:00",
                "start_date": "2026-01-01",
                "end_date": "2027-01-01",
                "day_of_week": ["SUNDAY", "MONDAY"],
                "min_kwh": 1.5,
                "max_kwh": 20,
                "min_current": 6,
                "max_power": 22.1,
                "min_duration": 60,
                "max_duration": 3600,
                "reservation": "RESERVATION",
            },
        },
        {"price_components": [{"type": "FLAT", "price": 0.5, "step_size": 1}]},
    ],
    "min_price": {"before_taxes": 1.0, "taxes": [{"name": "VAT", "amount": 0.2}]},
    "max_price": {"excl_vat": 10, "incl_vat": 12},
}


def read(**changes: Any) -> tariff_pb2.Tariff:
    return read_tariff_json(json.dumps({**WHOLE, **changes}))


def test_a_whole_tariff_is_read() -> None:
    tariff = read()
    assert not violations(tariff)
    assert [each.price_micros for each in tariff.components] == [250_000, 2_000_000, 500_000]
    assert (tariff.components[0].vat_ppm, tariff.components[1].step_s) == (100_000, 60)
    first = tariff.components[0].restriction
    assert (first.start_minute, first.end_minute) == (540, 1440)
    assert list(first.weekdays) == [1, 7]
    assert (first.min_energy_wh, first.max_energy_wh) == (1_500, 20_000)
    assert (first.min_current_ma, first.max_power_w) == (6_000, 22_100)
    assert (first.min_duration_s, first.max_duration_s) == (60, 3_600)
    assert first.reservation == tariff_pb2.RESERVATION_PRICING_RESERVATION
    assert not tariff.components[2].HasField("restriction")
    assert tariff.tax == tariff_pb2.TAX_TREATMENT_EXCLUDED


def test_limits_have_an_amount_with_tax_where_the_source_has_one() -> None:
    tariff = read()
    assert tariff.min_price.amount_micros == 1_000_000
    assert tariff.min_price_with_tax.amount_micros == 1_200_000
    assert tariff.max_price.amount_micros == 10_000_000
    assert tariff.max_price_with_tax.amount_micros == 12_000_000
    assert not read(min_price={"before_taxes": 1}).HasField("min_price_with_tax")


def component(**changes: Any) -> list[dict[str, Any]]:
    return [{"price_components": [{**COMPONENT, **changes}]}]


def restricted(**restrictions: Any) -> list[dict[str, Any]]:
    return [{"price_components": [COMPONENT], "restrictions": restrictions}]


DEEP = "[" * 200_000
WRONG: list[dict[str, Any]] = [
    {"currency": "euro"},
    {"currency": None},
    {"tax_included": "MAYBE"},
    {"id": 16},
    {"elements": None},
    {"elements": [{}]},
    {"elements": component(type="HEAT")},
    {"elements": component(price=-1)},
    {"elements": component(price="0.25")},
    {"elements": component(price=True)},
    {"elements": component(price=0.1234567)},
    {"elements": component(price=10**12)},
    {"elements": component(vat=-1)},
    {"elements": component(step_size=0.5)},
    {"elements": component() * 101},
    {"elements": restricted(start_time="9:00")},
    {"elements": restricted(end_time="24:30")},
    {"elements": restricted(start_date="01.01.2026")},
    {"elements": restricted(day_of_week=["SONNTAG"])},
    {"elements": restricted(min_kwh=-1)},
    {"elements": restricted(reservation="RESERVED")},
    {"min_price": {"before_taxes": "much"}},
]


@pytest.mark.parametrize("changes", WRONG)
def test_a_tariff_with_a_wrong_part_is_refused_whole(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(**changes)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"id": NaN}', '{"price": Infinity}', "{", DEEP]
)
def test_what_is_no_tariff_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_tariff_json(text)


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_whatever_stands_for_the_elements_is_read_or_refused(elements: Any) -> None:
    try:
        tariff = read(elements=elements)
    except ValueError:
        return
    assert len(tariff.components) == 0
