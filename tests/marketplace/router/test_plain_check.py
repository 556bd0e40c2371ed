"""The quick check of answers never shows as valid what protovalidate finds a fault in."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.router.method_rules import MethodRules
from marketplace.router.remembered import ENTRIES_MAX, LENGTH_MAX, Remembered
from tests.interfaces import ASK, ONE, method, rpc, service

BODY = """
enum Kind { KIND_UNSPECIFIED = 0; KIND_A = 1; KIND_B = 2; }
message Ask { }
message Point {
  sint32 x = 1 [(buf.validate.field).sint32 = { gte: -9 lt: 9 }];
  uint64 y = 2 [(buf.validate.field).uint64 = { gt: 3 }];
}
message Money {
  int64 micros = 1;
  string currency = 2 [(buf.validate.field).string.pattern = "^[A-Z]{3}$"];
}
message Range {
  option (buf.validate.message).cel = { id: "a" message: "a" expression: "this.a <= this.b" };
  int32 a = 1;
  int32 b = 2;
}
message Tariff {
  string currency = 1 [(buf.validate.field).string.len = 3];
  repeated Money prices = 2 [(buf.validate.field).repeated = { min_items: 1 max_items: 2 }];
  repeated int32 days = 3 [(buf.validate.field).repeated = {
    max_items: 3 items: { int32: { gte: 1 lte: 7 } }
  }];
}
message Item {
  string id = 1 [(buf.validate.field).string = { min_len: 1 max_len: 4 }];
  Point at = 2 [(buf.validate.field).required = true];
  Kind kind = 3 [(buf.validate.field).enum = { defined_only: true not_in: [2] }];
  repeated Tariff tariffs = 4 [(buf.validate.field).repeated.max_items = 2];
  optional int32 level = 5 [(buf.validate.field).int32 = { gte: 1 lte: 3 }];
  Range range = 6;
  repeated Range ranges = 7;
  double share = 8 [(buf.validate.field).double = { gte: 0 lte: 1 }];
  oneof which {
    option (buf.validate.oneof).required = true;
    string text = 9 [(buf.validate.field).string.max_len = 2];
    Money money = 10;
    string note = 20 [(buf.validate.field) = { ignore: IGNORE_IF_ZERO_VALUE string: { len: 2 } }];
  }
  repeated string tags = 11 [(buf.validate.field).repeated = {
    min_items: 1 max_items: 2 items: { string: { min_len: 1 } }
  }];
  bytes blob = 12 [(buf.validate.field).bytes.max_len = 2];
  int32 outside = 13 [(buf.validate.field).int32 = { gt: 5 lt: 3 }];
  Item part = 14;
  string skipped = 15 [(buf.validate.field) = { ignore: IGNORE_ALWAYS string: { len: 9 } }];
  string maybe = 16 [(buf.validate.field) = { ignore: IGNORE_IF_ZERO_VALUE string: { len: 2 } }];
  string by = 17 [(gem.options.v1.stamp) = STAMP_PROVIDER_ID];
  optional int32 spare = 18 [(buf.validate.field) = {
    ignore: IGNORE_IF_ZERO_VALUE int32: { gte: 5 }
  }];
  double gain = 19 [(buf.validate.field) = { ignore: IGNORE_IF_ZERO_VALUE double: { gt: 0 } }];
  repeated int32 pair = 21 [(buf.validate.field).repeated.min_items = 2];
}
message Found {
  repeated Item items = 1 [(buf.validate.field).repeated.max_items = 4];
  repeated gem.mesh.v1.ProviderAnswer answers = 2;
  Money total = 3 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
  Tariff common = 4 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
  repeated Money sums = 5;
}
message Mapped { map<string, int32> map = 1; repeated Item items = 2; }
message Solo { Item item = 1; }
""" + service(
    rpc(),
    rpc("Other", "ROUTE_ONE", response="Mapped"),
    rpc("Single", "ROUTE_ONE", response="Solo"),
)

TEXTS = st.sampled_from(["", "a", "EUR", "eur", "abcde", "ab"])
NUMBERS = st.sampled_from([0, 1, 3, 4, 7, 8, 9, -9, -10, 100])
SMALL = st.integers(0, 3)


def message_of(required: dict[str, Any], optional: dict[str, Any]) -> Any:
    return st.fixed_dictionaries(required, optional=optional)


POINTS = message_of({}, {"x": NUMBERS, "y": NUMBERS.map(abs)})
MONEYS = message_of({}, {"micros": NUMBERS, "currency": TEXTS})
RANGES = message_of({}, {"a": SMALL, "b": SMALL})
TARIFFS = message_of(
    {},
    {
        "currency": TEXTS,
        "prices": st.lists(MONEYS, max_size=3),
        "days": st.lists(NUMBERS, max_size=4),
    },
)
ITEMS = message_of(
    {},
    {
        "id": TEXTS,
        "at": POINTS,
        "kind": SMALL,
        "tariffs": st.lists(TARIFFS, max_size=3),
        "level": NUMBERS,
        "range": RANGES,
        "ranges": st.lists(RANGES, max_size=2),
        "share": st.sampled_from([0.0, 0.5, 2.0, float("nan")]),
        "text": TEXTS,
        "tags": st.lists(TEXTS, max_size=3),
        "blob": TEXTS.map(str.encode),
        "outside": NUMBERS,
        "part": message_of({}, {"id": TEXTS}),
        "skipped": TEXTS,
        "maybe": TEXTS,
        "note": TEXTS,
        "spare": NUMBERS,
        "gain": st.sampled_from([0.0, -0.0, 0.5]),
        "pair": st.lists(NUMBERS, max_size=3),
    },
)
VALID_ITEM: dict[str, Any] = {
    "id": "a",
    "at": {"x": 1, "y": 4},
    "text": "ab",
    "tags": ["a"],
    "pair": [1, 2],
    "outside": 9,
    "tariffs": [
        {"currency": "EUR", "prices": [{"currency": "EUR"}], "days": [1, 2]},
        {"currency": "USD", "prices": [{"currency": "USD"}, {"currency": "EUR"}], "days": [7]},
    ],
    "ranges": [{"a": 1, "b": 2}],
}
#: One change to a valid item; many of these answers are valid, so that both sides are tried.
CHANGED = st.builds(
    lambda change: {**VALID_ITEM, **change}, ITEMS.map(lambda d: dict([*d.items()][:1]))
)


def search() -> MethodRules:
    return method(BODY)


def shown(rules: MethodRules, *messages: Any) -> bool:
    """Check answers together, with the length of the longest element where there are some."""
    raw = b"".join(message.SerializeToString() for message in messages)
    sizes = [
        item.ByteSize()
        for message in messages
        for field, items in message.ListFields()
        if field.is_repeated and field.message_type is not None
        for item in items
    ]
    found = rules.plain_check(raw, messages, max(sizes, default=0))
    alone = rules.plain_check(raw, messages)
    assert found is None or alone is not None, "a bound of the length only saves a look"
    return found is not None


def is_valid(rules: MethodRules, message: Message) -> bool:
    return not rules.validator.collect_violations(message)


@settings(max_examples=400)
@given(
    st.lists(st.one_of(CHANGED, CHANGED, ITEMS), max_size=5),
    message_of({}, {"total": MONEYS, "common": TARIFFS, "sums": st.lists(MONEYS, max_size=2)}),
)
def test_what_is_shown_as_valid_is_valid(items: list[Any], others: dict[str, Any]) -> None:
    answer = search().response_class(items=items, **others)
    if shown(search(), answer):
        assert is_valid(search(), answer)


@settings(max_examples=400)
@given(st.lists(st.lists(st.one_of(CHANGED, CHANGED, ITEMS), max_size=3), min_size=1, max_size=3))
def test_answers_that_are_shown_as_valid_together_are_each(answers: list[list[Any]]) -> None:
    messages = [search().response_class(items=items) for items in answers]
    if shown(search(), *messages):
        assert all(is_valid(search(), message) for message in messages)


@pytest.mark.parametrize("many", [5, 9])
def test_an_answer_with_too_much_is_not_hidden_by_one_with_little(many: int) -> None:
    full, empty = search().response_class(items=[VALID_ITEM] * many), search().response_class()
    assert not shown(search(), full, empty)
    assert shown(search(), search().response_class(items=[VALID_ITEM] * 4), empty)


def test_a_needed_field_that_one_answer_lacks_is_not_made_up_by_another() -> None:
    lacks = search().response_class(items=[VALID_ITEM | {"id": ""}])
    assert not shown(search(), search().response_class(items=[VALID_ITEM]), lacks)


OTHERS: dict[str, dict[str, Any]] = {
    "a needed text of a message is missing": {"total": {"micros": 1}},
    "a list inside a message is empty": {"common": {"currency": "EUR"}},
    "a list inside a message is too long": {
        "common": {"currency": "EUR", "prices": [{"currency": "EUR"}] * 3}
    },
    "a needed text of one of several is missing": {"sums": [{"currency": "EUR"}, {"micros": 1}]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_shown_of_an_answer_in_which(name: str) -> None:
    answer = search().response_class(items=[VALID_ITEM], **OTHERS[name])
    assert not is_valid(search(), answer)
    assert not shown(search(), answer)


BREAKS: dict[str, dict[str, Any]] = {
    "a needed text is missing": {"id": ""},
    "a text is too long": {"id": "abcde"},
    "a needed message is missing": {"at": None},
    "a number is too small": {"at": {"x": -10, "y": 4}},
    "a number reaches an excluded bound": {"at": {"x": 9, "y": 4}},
    "a number without a valid default is missing": {"at": {"x": 1}},
    "a range turned round is hit inside": {"outside": 4},
    "an enum has an unknown value": {"kind": 77},
    "an enum has an excluded value": {"kind": 2},
    "a list is too long": {"tariffs": VALID_ITEM["tariffs"] * 2},
    "a list of texts is too long": {"tags": ["a", "b", "c"]},
    "a list of texts is empty": {"tags": []},
    "an item of a list is empty": {"tags": [""]},
    "a list deep inside is empty": {"tariffs": [{"currency": "EUR"}]},
    "a list deep inside is too long": {
        "tariffs": [{"currency": "EUR", "prices": [{"currency": "EUR"}] * 3}]
    },
    "a pattern does not match": {"tariffs": [{"currency": "EUR", "prices": [{"currency": "eur"}]}]},
    "a needed text deep inside is missing": {
        "tariffs": [{"currency": "EUR", "prices": [{"micros": 1}, {"currency": "EUR"}]}]
    },
    "a value of a list deep inside is wrong": {
        "tariffs": [{"currency": "EUR", "prices": [{"currency": "EUR"}], "days": [8]}]
    },
    "a list of values deep inside is too long": {
        "tariffs": [{"currency": "EUR", "prices": [{"currency": "EUR"}], "days": [1, 2, 3, 4]}]
    },
    "a set field is out of range": {"level": 4},
    "a set field is zero": {"level": 0},
    "a rule across fields is broken": {"range": {"a": 2, "b": 1}},
    "a rule across fields is broken in a list": {"ranges": [{"a": 1, "b": 2}, {"a": 2, "b": 1}]},
    "a float is out of range": {"share": 2.0},
    "a float is no number": {"share": float("nan")},
    "no member of a oneof is set": {"text": None},
    "bytes are too long": {"blob": b"abc"},
    "a message inside its own type is wrong": {"part": {}},
    "a text that may be empty is wrong": {"maybe": "a"},
    "a zero is set where none may be but none need be": {"spare": 0},
    "a member of a oneof is set to nothing": {"text": None, "note": ""},
    "a number that may be zero is minus zero": {"gain": -0.0},
    "a list is too short": {"pair": [1]},
}


@pytest.mark.parametrize("name", BREAKS)
def test_nothing_is_shown_when(name: str) -> None:
    broken = {key: value for key, value in (VALID_ITEM | BREAKS[name]).items() if value is not None}
    items = [VALID_ITEM, broken, VALID_ITEM]
    answer = search().response_class(items=items)
    assert not is_valid(search(), answer)
    assert not shown(search(), answer)


def test_too_many_elements_are_not_shown() -> None:
    assert not shown(search(), search().response_class(items=[VALID_ITEM] * 5))


def test_a_verdict_that_time_changes_is_not_remembered() -> None:
    body = BODY.replace(
        "message Range {",
        "message Until { google.protobuf.Timestamp at = 1 [(buf.validate.field).timestamp.gt_now ="
        " true]; } message Range { Until until = 3;",
    )
    rules = method(body)
    soon_s = time.time() + 0.3
    at = {"seconds": int(soon_s), "nanos": int(soon_s % 1 * 1e9)}
    answer = rules.response_class(items=[VALID_ITEM | {"range": {"until": {"at": at}}}])
    assert shown(rules, answer)
    time.sleep(0.4)
    assert not shown(rules, answer)


def test_only_so_much_is_remembered() -> None:
    asked: list[str] = []

    def are_valid(values: Collection[str]) -> bool:
        asked.extend(values)
        return not any("bad" in value for value in values)

    remembered = Remembered(are_valid)
    assert remembered(["a", "b", "a"])
    assert remembered(["a", "b"])
    assert sorted(asked) == ["a", "b"]
    assert not remembered(["a", "bad"])
    assert not remembered(["bad"])
    long = "x" * (LENGTH_MAX + 1)
    assert remembered([long])
    assert remembered([long])
    assert asked.count(long) == 2
    for number in range(3 * ENTRIES_MAX):
        assert remembered([str(number)])
    assert len(remembered._valid) <= ENTRIES_MAX


def test_a_short_text_after_a_long_one_makes_room_for_many() -> None:
    """How many texts an element can hold follows from the shortest text, not from the last."""
    texts = (
        "repeated string texts = 1 [(buf.validate.field).repeated = "
        '{ max_items: 3 items: { string: { pattern: "^a*$" } } }];'
    )
    item = f"message Item {{ {texts} }}"
    rules = method(f"{ASK}{item} message Found {{ repeated Item items = 1; }} {ONE}")
    answer = rules.response_class(items=[{"texts": ["a" * 20]}, {"texts": ["a"] * 6}])
    assert not is_valid(rules, answer)
    assert not shown(rules, answer)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_valid_answers_are_shown_as_valid(count: int) -> None:
    """Else the quick check would be of no use, and nobody would notice."""
    assert shown(search(), search().response_class(items=[VALID_ITEM] * count))


def test_rules_of_stamped_fields_do_not_count_for_the_router_writes_them() -> None:
    body = BODY.replace("string by = 17 [", "string by = 17 [(buf.validate.field).string.len = 9, ")
    rules = method(body)
    assert shown(rules, rules.response_class(items=[VALID_ITEM | {"by": "short"}]))


@pytest.mark.parametrize(
    ("path", "is_shown"),
    [
        ("items", True),
        ("items.at", True),
        ("total", True),
        ("sums", True),
        ("items.tariffs", False),
        ("items.tariffs.prices", False),
        ("items.ranges", False),
        ("common", False),
    ],
)
def test_unknown_fields_of_what_is_shown_as_valid_are_noticed(path: str, *, is_shown: bool) -> None:
    rules = search()
    money = {"currency": "EUR"}
    common = {"currency": "EUR", "prices": [money]}
    answer: Any = rules.response_class(items=[VALID_ITEM], total=money, common=common, sums=[money])
    place = answer
    for name in path.split("."):
        inner = getattr(place, name)
        place = inner[0] if hasattr(inner, "append") else inner
    place.MergeFromString(b"\xfa\x3e\x06secret")
    assert len(UnknownFieldSet(place)) == 1
    found = rules.plain_check(answer.SerializeToString(), (answer,))
    assert (found is not None and found.has_unknown_fields) is is_shown
    assert found is not None or not is_shown


@pytest.mark.parametrize("name", ["Other", "Single"])
def test_where_columns_do_not_help_nothing_is_shown(name: str) -> None:
    rules = method(BODY, name)
    assert not shown(rules, rules.response_class())
