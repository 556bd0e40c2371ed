"""OCPI 2.2.1 and 2.3.0: what is wrong is said with its place; nothing is lost either way."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.ocpi_exchange import (
    RECORDS,
    SESSIONS,
    TARIFFS,
    TOKENS,
    OcpiKind,
    OcpiObject,
    object_key,
    read_objects,
    unsaid,
    write_file,
)
from clearinghouse.ocpi_rest import Change, lay_over
from clearinghouse.ocpi_values import write_json
from foundation.import_report import Action, DefectReport, Place
from foundation.ocpi_version import V2_2_1, V2_3_0, VERSIONS, OcpiVersion
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.identification_pb2 import IdentificationKind
from tests.clearinghouse import ocpi_messages as made
from tests.json_values import json_values

pytestmark = pytest.mark.usecase(1511)
KINDS: list[OcpiKind[Any]] = [TOKENS, TARIFFS, SESSIONS, RECORDS]
WHOLE = {"token": made.token, "tariff": made.tariff, "session": made.session, "cdr": made.cdr}
MESSAGES = {
    "token": made.contracts,
    "tariff": made.tariff_versions,
    "session": made.sessions,
    "cdr": made.records,
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
EVERY_VERSION = pytest.mark.parametrize("version", VERSIONS.values(), ids=lambda v: v.name)


def read(
    kind: OcpiKind[Any], content: Any, version: OcpiVersion = V2_3_0
) -> tuple[list[OcpiObject[Any]], DefectReport]:
    report = DefectReport()
    text = content if isinstance(content, str) else json.dumps(content)
    return list(read_objects(kind, text, "file.json", version, report)), report


def only(kind: OcpiKind[Any], content: Any, version: OcpiVersion = V2_3_0) -> OcpiObject[Any]:
    (found,) = read(kind, content, version)[0]
    return found


def again(kind: OcpiKind[Any], found: OcpiObject[Any], version: OcpiVersion) -> Any:
    """Write an object with what was kept aside."""
    text = write_file(kind, [kind.write(found.message, version)], {found.key: found.rest})
    return json.loads(text, parse_float=Decimal)[0]


def exactly(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=Decimal)


SKIPPED: list[tuple[OcpiKind[Any], dict[str, Any], str, str]] = [
    (TOKENS, {"uid": None}, "$[0]", "token.form"),
    (TOKENS, {"contract_id": None}, "$[0]", "token.form"),
    (TOKENS, {"contract_id": "short"}, "$[0]", "token.rules"),
    (TARIFFS, {"party_id": "ABCDE"}, "$[0].party_id", "party_id.value"),
    (TARIFFS, {"elements": None}, "$[0].elements", "elements.missing"),
    (TARIFFS, {"currency": "euro"}, "$[0].currency", "currency.length"),
    (TARIFFS, {"start_date_time": "tomorrow"}, "$[0].start_date_time", "start_date_time.value"),
    (SESSIONS, {"status": "ASLEEP"}, "$[0].status", "status.unknown"),
    (SESSIONS, {"status": None}, "$[0].status", "status.missing"),
    (SESSIONS, {"evse_uid": None}, "$[0].evse_uid", "evse_uid.missing"),
    (SESSIONS, {"evse_uid": "a b"}, "$[0].evse_uid", "evse_uid.value"),
    (RECORDS, {"id": None}, "$[0]", "cdr.form"),
    (RECORDS, {"country_code": "D"}, "$[0].country_code", "country_code.value"),
]


@pytest.mark.parametrize(("kind", "changes", "path", "rule"), SKIPPED)
def test_what_means_nothing_is_skipped_and_the_good_is_read(
    kind: OcpiKind[Any], changes: dict[str, Any], path: str, rule: str
) -> None:
    whole = WHOLE[kind.name]
    found, report = read(kind, [whole(**changes), whole()])
    assert [each.at.path for each in found] == ["$[1]"]
    assert report.skipped == 1
    assert (path, rule) in {(each.path, each.rule) for each in report.defects}


KEPT: list[tuple[OcpiKind[Any], dict[str, Any], str, str]] = [
    (TOKENS, {"party_id": "ABCDE"}, "$.party_id", "not_carried"),
    (TOKENS, {"issuer": "Somebody"}, "$.issuer", "not_carried"),
    (TOKENS, {"type": "BRAIN"}, "$.type", "type.unknown"),
    (TOKENS, {"whitelist": "SOMETIMES"}, "$.whitelist", "whitelist.unknown"),
    (TOKENS, {"valid": "yes"}, "$.valid", "valid.type"),
    (TOKENS, {"last_updated": "2026-02-30T00:00:00Z"}, "$.last_updated", "last_updated.value"),
    (TARIFFS, {"tax_included": None}, "$.tax_included", "tax_included.missing"),
    (TARIFFS, {"min_price": {}}, "$.min_price.before_taxes", "before_taxes.missing"),
    (TARIFFS, {"min_price": {"excl_vat": 1}}, "$.min_price.excl_vat", "excl_vat.name"),
    (SESSIONS, {"evse_uid": "3256"}, "$.evse_uid", "evse_uid.made"),
    (SESSIONS, {"kwh": 0.00000049}, "$.kwh", "kwh.precision"),
    (SESSIONS, {"kwh": "10"}, "$.kwh", "kwh.type"),
    (SESSIONS, {"last_updated": None}, "$.last_updated", "last_updated.missing"),
    (RECORDS, {"cdr_token": None}, "$.cdr_token", "cdr_token.missing"),
    (RECORDS, {"auth_method": "NODDING"}, "$.auth_method", "auth_method.unknown"),
    (RECORDS, {"total_energy": 1e300}, "$.total_energy", "total_energy.type"),
    (RECORDS, {"total_cost": {}}, "$.total_cost.before_taxes", "before_taxes.missing"),
    (RECORDS, {"total_cost": {"excl_vat": 1}}, "$.total_cost.excl_vat", "excl_vat.name"),
    (RECORDS, {"credit": True}, "$.credit", "credit.reference"),
    (RECORDS, {"tariffs": [{"id": "T"}]}, "$.tariffs[0]", "tariff"),
    (RECORDS, {"home_charging_compensation": True}, "$.home_charging_compensation", "not_carried"),
    (RECORDS, {"charging_periods": [{}]}, "$.charging_periods[0].dimensions", "dimensions.missing"),
]


@pytest.mark.parametrize(("kind", "changes", "path", "rule"), KEPT)
def test_what_is_wrong_or_has_no_field_is_told_and_kept_aside(
    kind: OcpiKind[Any], changes: dict[str, Any], path: str, rule: str
) -> None:
    source = WHOLE[kind.name](**changes)
    found, report = read(kind, source)
    assert (path, rule) in {(each.path, each.rule) for each in report.defects}
    assert {each.action for each in report.defects} == {Action.KEPT}
    assert again(kind, found[0], V2_3_0) == exactly(source)


def test_a_type_of_another_version_is_taken_and_told() -> None:
    found, report = read(TOKENS, made.token(type="EMAID"), V2_2_1)
    kind = IdentificationKind.IDENTIFICATION_KIND_PLUG_AND_CHARGE
    assert found[0].message.tokens[0].kind == kind
    assert "type.version" in {each.rule for each in report.defects}
    assert again(TOKENS, found[0], V2_2_1)["type"] == "EMAID"


def test_a_signature_that_is_too_long_is_left_out_whole_and_kept_aside() -> None:
    value = {"nature": "Start", "plain_data": "x" * 513, "signed_data": "y"}
    source = made.cdr(signed_data={"encoding_method": "OCMF", "signed_values": [value]})
    found, report = read(RECORDS, source)
    assert not found[0].message.HasField("signed_meter_data")
    path = "$.signed_data.signed_values[0]"
    assert (path, "signed_value.length") in {(d.path, d.rule) for d in report.defects}
    assert again(RECORDS, found[0], V2_3_0) == exactly(source)


def test_no_member_that_a_file_brings_is_repeated_where_it_could_be_anything() -> None:
    _, report = read(TOKENS, made.token(**{"[red]\x1b": 1, "x" * 99: 2}))
    shown = {each.path for each in report.defects} - {"$.issuer", "$.country_code", "$.party_id"}
    assert shown == {'$["?"]'}


@EVERY_KIND
@EVERY_VERSION
@settings(max_examples=12)
@given(data=st.data())
def test_a_message_is_the_same_after_a_way_through_ocpi(
    kind: OcpiKind[Any], version: OcpiVersion, data: st.DataObject
) -> None:
    message = data.draw(MESSAGES[kind.name](version))
    text = write_json(kind.write(message, version))
    report = DefectReport()
    (found,) = read_objects(kind, text, "", version, report)
    assert found.message == message
    assert found.rest == ()
    assert unsaid(kind, message, kind.write(message, version), version) == set()


@EVERY_KIND
@EVERY_VERSION
@settings(max_examples=12)
@given(data=st.data())
def test_an_object_is_the_same_after_a_way_through_messages(
    kind: OcpiKind[Any], version: OcpiVersion, data: st.DataObject
) -> None:
    source = WHOLE[kind.name]()
    for _ in range(data.draw(st.integers(1, 3))):
        spoil(source, data)
    report = DefectReport()
    for found in read_objects(kind, json.dumps(source), "", version, report):
        assert again(kind, found, version) == exactly(source)


def spoil(source: Any, data: st.DataObject) -> None:
    """Put anything in the place of a member, or add one, anywhere in an object."""
    while isinstance(source, dict | list) and source:
        names = sorted(source) if isinstance(source, dict) else list(range(len(source)))
        name: Any = data.draw(st.sampled_from(names))
        if isinstance(source, dict) and data.draw(st.booleans()):
            name = data.draw(st.sampled_from([name, "else", "taxes", "excl_vat", "a/b~c"]))
        inner = source[name] if isinstance(source, list) else source.get(name)
        if not isinstance(inner, dict | list) or data.draw(st.booleans()):
            source[name] = data.draw(json_values())
            return
        source = inner


@EVERY_KIND
@settings(max_examples=15)
@given(json_values())
def test_no_json_makes_the_reader_fail(kind: OcpiKind[Any], value: Any) -> None:
    for form in (value, [value], {"data": [value], "status_code": value}):
        read(kind, form)


def test_what_ocpi_cannot_say_is_named() -> None:
    message = only(RECORDS, made.cdr()).message
    message.vehicle_id, message.evsp_session_id = "WVWZZZ1JZ3W386752", "E-1"
    message.carbon_intensity_g_per_kwh = 120
    names = unsaid(RECORDS, message, RECORDS.write(message, V2_3_0), V2_3_0)
    assert names == {"vehicle_id", "evsp_session_id", "carbon_intensity_g_per_kwh"}
    assert "total_cost" in unsaid(RECORDS, message, RECORDS.write(message, V2_2_1), V2_2_1)


def test_a_cost_without_told_taxes_is_written_with_one_where_the_version_lists_them() -> None:
    message = ChargeDetailRecord(cdr_id="C", operator_id="DE*ABC", operator_session_id="S")
    message.total_cost.without_tax_micros, message.total_cost.with_tax_micros = 5_000_000, 5_500_000
    newer, older = RECORDS.write(message, V2_3_0), RECORDS.write(message, V2_2_1)
    assert newer["total_cost"] == {
        "before_taxes": 5,
        "taxes": [{"name": "VAT", "amount": Decimal("0.5")}],
    }
    assert older["total_cost"] == {"excl_vat": 5, "incl_vat": Decimal("5.5")}


def test_a_token_that_is_known_by_its_hash_is_named_by_it() -> None:
    message = only(TOKENS, made.token()).message
    message.tokens[0].token_uid, message.tokens[0].token_hash = "", b"\xab" * 32
    written = TOKENS.write(message, V2_3_0)
    assert written["uid"] == "ab" * 18


def test_a_file_of_any_form_and_size_is_written_with_every_decimal() -> None:
    source = [made.tariff(id=f"T{number}") for number in range(3)]
    found, _ = read(TARIFFS, {"status_code": 1000, "data": source})
    written = [TARIFFS.write(each.message, V2_3_0) for each in found]
    text = write_file(TARIFFS, written, {each.key: each.rest for each in found})
    assert json.loads(text) == source
    large = write_json({"a": Decimal("999999999999.123456"), "b": [], "c": {}, "d": "ü\n"})
    assert json.loads(large, parse_float=Decimal)["a"] == Decimal("999999999999.123456")
    assert "1E" not in write_json([Decimal("1E+9"), Decimal("0.000001")])


def test_what_was_kept_aside_is_left_out_where_its_place_is_gone() -> None:
    changes = [
        Change("add", "/a/b/c", 1),
        Change("remove", "/x"),
        Change("replace", "/list/7", 1),
        Change("replace", "/list/0", 2),
    ]
    assert lay_over({"list": [1]}, changes) == {"list": [2]}
    assert lay_over({"a": 1}, [Change("replace", "", [])]) == []


def test_an_operation_of_a_patch_is_read_as_it_was_written() -> None:
    for change in (Change("add", "/a", 1), Change("remove", "/b"), Change("replace", "/c", None)):
        assert Change.of_json(change.as_json()) == change
    for wrong in ({}, {"op": "move", "path": "/a"}, {"op": "add", "path": 1}):
        with pytest.raises(ValueError, match="operation"):
            Change.of_json(wrong)


def test_keys_of_tokens_are_their_type_and_uid() -> None:
    assert object_key(TOKENS, made.token(uid="ab")) == "RFID/AB"
    assert only(TOKENS, made.token(uid="ab")).at == Place("file.json", "$")
