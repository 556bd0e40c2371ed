"""JSON of unknown quality: every member is what it should be, or a defect with its place."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.import_report import Action, DefectReport, Place
from foundation.json_reader import Node, number_of, read_json
from tests.json_values import json_values


def node(**members: Any) -> Node:
    return Node(members, Place("file.json", "$[0]"), DefectReport())


def noted(of: Node) -> list[tuple[str, str]]:
    assert all(defect.action is Action.KEPT for defect in of.report.defects)
    return [(defect.path, defect.rule) for defect in of.report.defects]


@pytest.mark.parametrize(
    ("read", "value", "rule"),
    [
        (lambda it: it.text("key", 5), 7, "key.type"),
        (lambda it: it.text("key", 5, required=True), None, "key.missing"),
        (lambda it: it.number("key", 0, 9), "many", "key.type"),
        (lambda it: it.number("key", 0, 9), True, "key.type"),
        (lambda it: it.number("key", 0, 9), 10, "key.range"),
        (lambda it: it.number("key", 0, 9), -1, "key.range"),
        (lambda it: it.flag("key"), "true", "key.type"),
        (lambda it: it.node("key"), [], "key.type"),
        (lambda it: list(it.nodes("key")) or None, {}, "key.type"),
        (lambda it: list(it.texts("key")) or None, "text", "key.type"),
    ],
)
def test_a_member_of_the_wrong_kind_reads_as_none_and_is_noted(
    read: Any, value: Any, rule: str
) -> None:
    object_ = node(key=value)
    assert read(object_) is None
    assert noted(object_) == [("$[0].key", rule)]


def test_elements_of_the_wrong_kind_are_noted_each_with_its_place() -> None:
    object_ = node(key=[{}, 1, {}, "x"])
    assert [each.at.path for each in object_.nodes("key")] == ["$[0].key[0]", "$[0].key[2]"]
    assert noted(object_) == [("$[0].key[1]", "key.type"), ("$[0].key[3]", "key.type")]
    object_ = node(key=["a", 1])
    assert list(object_.texts("key")) == ["a"]
    assert noted(object_) == [("$[0].key[1]", "key.type")]


def test_a_list_that_is_too_long_is_cut() -> None:
    object_ = node(key=[{}] * 5)
    assert len(list(object_.nodes("key", most=3))) == 3
    assert noted(object_) == [("$[0].key", "key.length")]


def test_a_text_that_is_too_long_is_cut_and_control_characters_are_left_out() -> None:
    object_ = node(key="ab\x00c d\ud800efg ")
    assert object_.text("key", 5) == "abc d"
    assert noted(object_) == [("$[0].key", "key.length")]
    assert node(key=" \n ").text("key", 5) is None


def test_a_number_in_a_string_is_taken_and_noted() -> None:
    object_ = node(key="7.5")
    assert object_.number("key", 0, 9) == Decimal("7.5")
    assert object_.integer("key", 0, 9) == 7
    assert noted(object_) == [("$[0].key", "key.type")] * 2


def test_absent_and_null_members_are_none_without_a_defect() -> None:
    for object_ in (node(), node(key=None)):
        assert object_.text("key", 5) is None
        assert object_.number("key", 0, 1) is None
        assert object_.flag("key") is None
        assert object_.node("key") is None
        assert not list(object_.nodes("key"))
        assert not list(object_.texts("key"))
        assert noted(object_) == []


@pytest.mark.parametrize(
    "value",
    [None, True, "", "1e5", "--1", "0x1", [], {}, 10**18, Decimal("1e19"), Decimal("1e-99")],
)
def test_what_is_no_quantity_is_no_number(value: Any) -> None:
    assert number_of(value) is None


@given(json_values())
def test_every_value_is_a_bounded_number_or_none(value: Any) -> None:
    number = number_of(value)
    assert number is None or abs(number) < 10**19


@given(st.binary(max_size=50))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    report = DefectReport()
    value = read_json(data, report, Place("file.json"))
    assert value is None or not report.defects


def test_a_byte_order_mark_and_an_assignment_are_no_part_of_the_json() -> None:
    for text in (b'\xef\xbb\xbf{"a": 1}', 'var a.b = {"a": 1};', 'const x={"a": 1}\n;\n'):
        assert read_json(text, DefectReport(), Place("file.json")) == {"a": 1}


def test_keys_that_are_no_plain_words_are_quoted_in_paths() -> None:
    assert (Place("f") / "tags" / "socket:type2" / 3).path == '$.tags["socket:type2"][3]'


def test_an_exact_number_is_whole_in_its_unit_or_noted() -> None:
    assert node(key=Decimal("0.25")).scaled("key", 100, 9) == 25
    for value, rule in (
        (Decimal("0.255"), "key.precision"),
        ("0.25", "key.type"),
        (Decimal("9.5"), "key.range"),
        (True, "key.type"),
    ):
        object_ = node(key=value)
        assert object_.scaled("key", 100, 9) is None
        assert noted(object_) == [("$[0].key", rule)]


def test_a_number_that_may_be_rounded_is_rounded_half_up_and_noted() -> None:
    object_ = node(key=Decimal("-0.255"))
    assert object_.rounded("key", 100, 9) == -26
    assert noted(object_) == [("$[0].key", "key.precision")]
    silent = node(key=Decimal("0.255"))
    assert silent.rounded("key", 100, 9, tell=False) == 26
    assert noted(silent) == []


def test_members_that_nobody_asked_for_are_told_also_further_in() -> None:
    object_ = node(asked={"inner": 1, "other": 2}, listed=[{"more": 1}], never=None)
    inner = object_.node("asked")
    assert inner is not None
    inner.get("inner")
    list(object_.nodes("listed"))
    paths = [place.path for place in object_.unread()]
    assert paths == ["$[0].never", "$[0].asked.other", "$[0].listed[0].more"]
