"""Numbers, times, parties and costs in the words of each version of OCPI."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.ocpi_values import (
    decimal_of,
    hours_of,
    kind_word,
    method_word,
    party_of,
    read_cost,
    read_identification,
    read_operator_id,
    time_text,
    write_cost,
    write_identification,
    write_json,
)
from foundation.import_report import DefectReport, Place
from foundation.json_reader import Node
from foundation.ocpi_version import V2_2_1, V2_3_0, OcpiVersion
from gem.roaming.v1.authorization_pb2 import AuthorizationMethod
from gem.roaming.v1.charge_detail_record_pb2 import Cost
from gem.roaming.v1.identification_pb2 import IdentificationKind
from tests.json_values import json_values


def node(**members: Any) -> Node:
    return Node(members, Place("file.json"), DefectReport())


def rules(of: Node) -> list[str]:
    return [defect.rule for defect in of.report.defects]


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"country_code": "D", "party_id": "ABC"},
        {"country_code": "D1", "party_id": "ABC"},
        {"country_code": "DE", "party_id": "ABCDE"},
        {"country_code": "DE", "party_id": "A-C"},
        {"country_code": 7, "party_id": "ABC"},
    ],
)
def test_what_is_no_party_is_noted(members: dict[str, Any]) -> None:
    read = node(**members)
    assert read_operator_id(read) is None
    assert rules(read)


def test_a_party_is_compared_in_capitals() -> None:
    assert read_operator_id(node(country_code="de", party_id="abc")) == "DE*ABC"
    for identifier in ("DE*ABC", "de-abc", "DEABC", "DE-ABC-C00122045-K"):
        assert party_of(identifier) == {"country_code": "DE", "party_id": "ABC"}
    assert party_of("?") == {}


@given(st.integers(-(10**13), 10**13))
def test_hours_are_read_back_to_the_millisecond(time_ms: int) -> None:
    hours = json.loads(write_json(hours_of(time_ms)), parse_float=Decimal)
    assert node(hours=hours).rounded("hours", 3_600_000, 10**9, tell=False) == time_ms


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [(0, "0"), (3_600_000, "1"), (2_584_800, "0.718"), (360, "0.0001"), (1_200_000, "0.33333333")],
)
def test_hours_have_no_more_decimals_than_it_takes(time_ms: int, text: str) -> None:
    written = write_json(hours_of(time_ms))
    assert text.startswith(written)
    assert len(written) <= len(text)


@given(st.integers(-(10**18), 10**18), st.sampled_from([1, 1000, 10**6]))
def test_a_quantity_is_written_exactly(number: int, factor: int) -> None:
    written = json.loads(write_json(decimal_of(number, factor)), parse_float=Decimal)
    assert Decimal(written) * factor == number


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "2026-03-02T09:00:00Z"),
        (500_000_000, "2026-03-02T09:00:00.5Z"),
        (1, "2026-03-02T09:00:00.000000001Z"),
    ],
)
def test_a_time_has_the_decimals_that_it_needs(nanos: int, text: str) -> None:
    assert time_text(Timestamp(seconds=1_772_442_000, nanos=nanos)) == text


@pytest.mark.parametrize(
    ("version", "kind", "word"),
    [
        (V2_2_1, IdentificationKind.IDENTIFICATION_KIND_RFID, "RFID"),
        (V2_2_1, IdentificationKind.IDENTIFICATION_KIND_PLUG_AND_CHARGE, "OTHER"),
        (V2_3_0, IdentificationKind.IDENTIFICATION_KIND_PLUG_AND_CHARGE, "EMAID"),
        (V2_3_0, IdentificationKind.IDENTIFICATION_KIND_GUEST, "AD_HOC_USER"),
        (V2_3_0, IdentificationKind.IDENTIFICATION_KIND_PREPAID, "OTHER"),
    ],
)
def test_kinds_of_tokens_have_the_words_of_the_version(
    version: OcpiVersion, kind: IdentificationKind.ValueType, word: str
) -> None:
    assert kind_word(kind, version) == word


def test_methods_that_ocpi_does_not_know_have_no_word() -> None:
    assert method_word(AuthorizationMethod.AUTHORIZATION_METHOD_COMMAND) == "COMMAND"
    assert method_word(AuthorizationMethod.AUTHORIZATION_METHOD_CALL_CENTRE) is None


def test_who_charged_is_written_with_the_party_of_the_contract() -> None:
    members = {"uid": "AB", "type": "RFID", "contract_id": "NL-TNM-C00122045-K"}
    read = read_identification(node(country_code="NL", party_id="TNM", **members), V2_3_0)
    written = write_identification(read, V2_3_0)
    assert written == {"country_code": "NL", "party_id": "TNM", **members}


COSTS: list[tuple[OcpiVersion, dict[str, Any], Cost]] = [
    (V2_2_1, {"excl_vat": 5}, Cost(without_tax_micros=5_000_000)),
    (
        V2_2_1,
        {"excl_vat": 5, "incl_vat": 6},
        Cost(without_tax_micros=5_000_000, with_tax_micros=6_000_000),
    ),
    (V2_3_0, {"before_taxes": -5}, Cost(without_tax_micros=-5_000_000)),
]


@pytest.mark.parametrize(("version", "members", "cost"), COSTS)
def test_a_cost_is_read_and_written_in_the_words_of_the_version(
    version: OcpiVersion, members: dict[str, Any], cost: Cost
) -> None:
    source = node(**members)
    assert read_cost(source, version) == cost
    assert rules(source) == []
    assert write_cost(cost, version) == members


def test_taxes_are_told_apart_where_the_version_can() -> None:
    taxes = [{"name": "GST", "percentage": 5, "amount": 0.5}, {"name": "QST", "amount": 1}]
    source = node(before_taxes=10, taxes=json.loads(json.dumps(taxes), parse_float=Decimal))
    cost = read_cost(source, V2_3_0)
    assert cost is not None
    assert (cost.with_tax_micros, cost.taxes[0].rate_ppm) == (11_500_000, 50_000)
    assert not cost.taxes[1].HasField("rate_ppm")
    assert write_cost(cost, V2_2_1) == {"excl_vat": 10, "incl_vat": Decimal("11.5")}
    assert write_cost(cost, V2_3_0)["taxes"] == source.value["taxes"]


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({}, "before_taxes.missing"),
        ({"before_taxes": "5"}, "before_taxes.type"),
        ({"before_taxes": 10**10}, "before_taxes.range"),
        ({"before_taxes": Decimal("0.0000001")}, "before_taxes.precision"),
        ({"before_taxes": 5, "taxes": [{"name": "VAT"}]}, "amount.missing"),
        ({"before_taxes": 5, "taxes": [{"amount": 1}]}, "name.missing"),
        ({"before_taxes": 5, "taxes": {"VAT": 1}}, "taxes.type"),
        ({"excl_vat": 5}, "excl_vat.name"),
    ],
)
def test_what_is_wrong_with_a_cost_is_noted(members: dict[str, Any], rule: str) -> None:
    source = node(**members)
    read_cost(source, V2_3_0)
    assert rule in rules(source)


@given(json_values())
def test_what_is_written_is_json_that_says_the_same(value: Any) -> None:
    plain = json.loads(json.dumps(value), parse_float=Decimal)
    assert json.loads(write_json(plain), parse_float=Decimal) == plain


def test_what_is_no_json_is_an_error_of_the_programmer() -> None:
    with pytest.raises(TypeError, match="not a value"):
        write_json({"a": 0.5})
