"""Files of OCPI in all their forms, their times, and the limits of a tariff by version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.import_report import Action, DefectReport, Place
from foundation.json_reader import Node
from foundation.ocpi_connector import COUNTRIES, PLUGS, POWER_TYPES
from foundation.ocpi_file import minute_of, ocpi_objects, timestamp_of
from foundation.ocpi_tariff import read_tariff
from foundation.ocpi_version import V2_2_1, V2_3_0, VERSIONS, OcpiVersion
from gem.charging.v1 import evse_pb2
from gem.charging.v1.tariff_pb2 import Tariff


def objects(content: Any) -> tuple[list[str], list[tuple[str, str, Action]]]:
    """Read a file; give the places of its objects, and of its defects with rule and action."""
    report = DefectReport()
    found = [node.at.path for node in ocpi_objects(json.dumps(content), "f", report)]
    return found, [(each.path, each.rule, each.action) for each in report.defects]


@pytest.mark.parametrize(
    ("content", "defects"),
    [
        (7, [("$", "file.form", Action.SKIPPED)]),
        (
            [7, "x"],
            [("$[0]", "object.type", Action.SKIPPED), ("$[1]", "object.type", Action.SKIPPED)],
        ),
        ({"status_code": 2000}, [("$.status_code", "response.status", Action.KEPT)]),
        (
            {"data": "x"},
            [
                ("$.status_code", "response.status", Action.KEPT),
                ("$.data", "file.form", Action.SKIPPED),
            ],
        ),
    ],
)
def test_what_is_no_object_is_noted(content: Any, defects: list[Any]) -> None:
    assert objects(content) == ([], defects)


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({"id": 1}, ["$"]),
        ([{"id": 1}, {}], ["$[0]", "$[1]"]),
        ({"status_code": 1000, "data": {"id": 1}}, ["$.data"]),
        ({"status_code": 1000, "data": [{"id": 1}]}, ["$.data[0]"]),
        ({"status_code": 1000, "data": []}, []),
    ],
)
def test_an_object_a_list_and_a_response_are_read(content: Any, places: list[str]) -> None:
    assert objects(content) == (places, [])


def time(text: Any) -> tuple[int, int] | None:
    report = DefectReport()
    found = timestamp_of(Node({"at": text}, Place("f"), report), "at")
    assert (found is None) == bool(report.defects)
    return None if found is None else (found.seconds, found.nanos)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02",
        "2026-03-02T09:00Z",
        "2026-03-02T09:00:00+01:00",
        "2026-02-30T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-01-01T00:00:00Z",
        "2026-03-02T09:00:00.Z",
        7,
    ],
)
def test_what_is_no_time_in_utc_is_none(text: Any) -> None:
    assert time(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-02T09:00:00Z", (1_772_442_000, 0)),
        ("2026-03-02T09:00:00", (1_772_442_000, 0)),
        ("2026-03-02T09:00:00.25+00:00", (1_772_442_000, 250_000_000)),
        ("2026-03-02T09:00:00.000000001Z", (1_772_442_000, 1)),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: str, expected: tuple[int, int]) -> None:
    assert time(text) == expected


@given(st.text(max_size=8))
def test_a_clock_time_is_a_minute_of_the_day_or_none(text: str) -> None:
    minute = minute_of(text)
    assert minute is None or text == f"{minute // 60:02d}:{minute % 60:02d}"


def test_clock_times_go_up_to_midnight() -> None:
    assert [minute_of(text) for text in ("00:00", "23:59", "24:00")] == [0, 1439, 1440]
    assert [minute_of(text) for text in ("24:01", "12:60", "9:00", "99:99")] == [None] * 4


def tariff(version: OcpiVersion, **members: Any) -> tuple[Tariff | None, list[str]]:
    """Read a tariff without elements; give it with the rules of its defects."""
    report = DefectReport()
    source = {"id": "T", "currency": "EUR", "elements": [], **members}
    read = read_tariff(Node(source, Place("f"), report), version)
    return read, [each.rule for each in report.defects]


@pytest.mark.parametrize(
    ("version", "limit", "rules"),
    [
        (V2_2_1, {"excl_vat": 1, "incl_vat": 2}, []),
        (V2_3_0, {"before_taxes": 1, "after_taxes": 2}, []),
        (V2_2_1, {"before_taxes": 1, "after_taxes": 2}, ["before_taxes.name", "after_taxes.name"]),
        (V2_3_0, {"excl_vat": 1, "incl_vat": 2}, ["excl_vat.name", "incl_vat.name"]),
        (V2_3_0, {"before_taxes": 1, "taxes": [{"amount": 1}]}, ["taxes.name"]),
    ],
)
def test_limits_have_the_names_of_the_version_and_others_are_noted(
    version: OcpiVersion, limit: dict[str, Any], rules: list[str]
) -> None:
    says_tax = {"tax_included": "NO"} if version.tariff_says_tax else {}
    read, noted = tariff(version, max_price=limit, **says_tax)
    assert read is not None
    assert read.max_price.amount_micros == 1_000_000
    assert read.max_price_with_tax.amount_micros == 2_000_000
    assert noted == rules


@pytest.mark.parametrize("version", VERSIONS.values(), ids=lambda version: version.name)
@pytest.mark.parametrize(
    "limit",
    [5, {"excl_vat": -1}, {"before_taxes": "1"}, {"before_taxes": 1, "taxes": [{"amount": -1}]}],
)
def test_a_limit_that_is_wrong_makes_the_tariff_none(version: OcpiVersion, limit: Any) -> None:
    assert tariff(version, min_price=limit)[0] is None


def test_only_one_version_says_whether_prices_contain_tax() -> None:
    assert tariff(V2_2_1)[1] == []
    assert tariff(V2_3_0)[1] == ["tax_included.missing"]
    assert tariff(V2_3_0, tax_included="PERHAPS") == (None, ["tax_included.unknown"])


def test_every_plug_power_type_and_country_has_a_word() -> None:
    known = {number for number in evse_pb2.PlugType.values() if number}
    assert set(PLUGS.values()) == known
    assert {phases for _, phases in POWER_TYPES.values()} == {0, 1, 2, 3}
    assert len(set(COUNTRIES.values())) == len(COUNTRIES)
