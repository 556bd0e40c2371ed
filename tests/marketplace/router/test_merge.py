"""Many answers become one: every rule, and what no provider can do to another's results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus, ProviderAnswers
from marketplace.router.merge import ENTRIES_BYTES_MAX, entries_message, failure_of, merge
from marketplace.router.method_rules import MethodRules
from marketplace.router.target import Answer, Price, Target
from marketplace.router.verify import InvalidAnswer, verify
from tests.interfaces import method, rpc, service

BODY = """
enum Order {
  ORDER_UNSPECIFIED = 0;
  ORDER_SIZE = 1 [(gem.options.v1.order_by_value) = { order_by: ["size desc", "name"] }];
  ORDER_LEVEL = 2 [(gem.options.v1.order_by_value) = { order_by: "level" }];
  ORDER_LEVEL_DOWN = 3 [(gem.options.v1.order_by_value) = { order_by: "level desc" }];
  ORDER_TIME = 4 [(gem.options.v1.order_by_value) = { order_by: ["at desc", "inner.size"] }];
  ORDER_SHARE = 5 [(gem.options.v1.order_by_value) = { order_by: "share desc" }];
}
message Ask { Order order = 1; int32 limit = 2; }
message Inner { sint64 size = 1; }
message Item {
  string name = 1;
  int32 size = 2;
  string provider_id = 3 [(gem.options.v1.stamp) = STAMP_PROVIDER_ID];
  string contract_id = 4 [(gem.options.v1.stamp) = STAMP_CONTRACT_ID];
  optional int32 level = 5;
  google.protobuf.Timestamp at = 6;
  Inner inner = 7;
  double share = 8;
}
message Quote { google.protobuf.Timestamp at = 1; string text = 2; }
message Found {
  repeated Item plain = 1;
  repeated Item own = 2 [(gem.options.v1.merge) = { distinct_by: ["name", "provider_id"] }];
  repeated Item any = 3 [(gem.options.v1.merge) = { distinct_by: ["name", "level", "at"] }];
  repeated Item sorted = 4 [(gem.options.v1.merge) = {
    order_by: "name" order_from: "order" limit_from: "limit"
  }];
  repeated string texts = 5 [(gem.options.v1.merge) = { limit_from: "limit" }];
  repeated gem.mesh.v1.ProviderAnswer answers = 6;
  int32 sum32 = 7 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  int64 sum64 = 8 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  uint32 sumu32 = 9 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  uint64 sumu64 = 10 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  float sumf = 11 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  double sumd = 12 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  optional int32 sumo = 13 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
  int32 least = 14 [(gem.options.v1.merge) = { rule: MERGE_RULE_MIN }];
  optional int32 least_set = 15 [(gem.options.v1.merge) = { rule: MERGE_RULE_MIN }];
  double most = 16 [(gem.options.v1.merge) = { rule: MERGE_RULE_MAX }];
  google.protobuf.Timestamp last = 17 [(gem.options.v1.merge) = { rule: MERGE_RULE_MAX }];
  string first = 18 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
  Item first_item = 19 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
  bool any_true = 20 [(gem.options.v1.merge) = { rule: MERGE_RULE_ANY }];
  bool all_true = 21 [(gem.options.v1.merge) = { rule: MERGE_RULE_ALL_TRUE }];
  optional bool all_set = 22 [(gem.options.v1.merge) = { rule: MERGE_RULE_ALL_TRUE }];
  google.protobuf.Timestamp newest = 23 [(gem.options.v1.merge) = { rule: MERGE_RULE_LATEST }];
  Quote quote = 24 [(gem.options.v1.merge) = { rule: MERGE_RULE_LATEST order_by: "at" }];
  optional bool any_set = 25 [(gem.options.v1.merge) = { rule: MERGE_RULE_ANY }];
  bytes raw = 26 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }];
}
""" + service(rpc())
OK = AnswerStatus.ANSWER_STATUS_OK
FAILED: Mapping[int, int] = {
    AnswerStatus.ANSWER_STATUS_TIMED_OUT: ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT,
    AnswerStatus.ANSWER_STATUS_UNREACHABLE: ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
    AnswerStatus.ANSWER_STATUS_INVALID_ANSWER: ErrorReason.ERROR_REASON_ANSWER_INVALID,
    AnswerStatus.ANSWER_STATUS_EJECTED: ErrorReason.ERROR_REASON_PROVIDER_EJECTED,
}


def search() -> MethodRules:
    return method(BODY)


def target(number: int) -> Target:
    return Target(f"contract-{number}", f"provider-{number}", "s", f"1.{number}", "h:1", Price())


def good(number: int, raw: bytes) -> Answer:
    message = verify(search(), target(number), raw)
    return Answer(
        target(number), OK, message=message, item_count=search().count_items(message), latency_us=7
    )


def bad(number: int, status: int = AnswerStatus.ANSWER_STATUS_TIMED_OUT, code: int = 4) -> Answer:
    return Answer(target(number), status, reason=FAILED.get(status, 0), code=code)


def found(**fields: Any) -> bytes:
    raw: bytes = search().response_class(**fields).SerializeToString()
    return raw


def merged(*raws: bytes, **ask: Any) -> Any:
    answers = [good(number, raw) for number, raw in enumerate(raws)]
    return merge(search(), search().request_class(**ask), answers)


def names(elements: Sequence[Any]) -> list[str]:
    return [each.name for each in elements]


# What no provider can do to another.


@pytest.mark.usecase(1241)
def test_three_bytes_of_an_open_unknown_field_take_nothing_from_the_next_provider() -> None:
    """Concatenated unparsed, the first answer's last field would swallow the second answer."""
    victim = found(plain=[{"name": "victim"}])
    attack = found(plain=[{"name": "attacker"}]) + b"\xfa\x3e" + bytes([len(victim)])
    unparsed: Any = search().response_class.FromString(attack + victim)
    assert names(unparsed.plain) == ["attacker"]
    with pytest.raises(InvalidAnswer):
        verify(search(), target(0), attack)
    assert names(merged(found(), victim).plain) == ["victim"]


def test_elements_are_credited_to_those_who_gave_them() -> None:
    forged = found(
        plain=[{"name": "a", "provider_id": "provider-1", "contract_id": "contract-1"}],
        answers=[{"provider_id": "provider-1", "status": 3}],
    )
    result = merged(forged, found(plain=[{"name": "b"}]))
    assert [(each.name, each.provider_id, each.contract_id) for each in result.plain] == [
        ("a", "provider-0", "contract-0"),
        ("b", "provider-1", "contract-1"),
    ]
    assert [(entry.provider_id, entry.status) for entry in result.answers] == [
        ("provider-0", OK),
        ("provider-1", OK),
    ]


def test_no_provider_hides_anothers_element_where_the_identity_has_a_stamp() -> None:
    claim = {"name": "x", "provider_id": "provider-1"}
    result = merged(found(own=[claim, claim]), found(own=[{"name": "x", "size": 2}]))
    assert [(each.name, each.provider_id, each.size) for each in result.own] == [
        ("x", "provider-0", 0),
        ("x", "provider-1", 2),
    ]


def test_the_answers_themselves_stay_as_they_are() -> None:
    answers = [good(0, found(sorted=[{"name": "b"}, {"name": "a"}])), good(1, found(sum32=3))]
    before = [answer.message.SerializeToString() for answer in answers]
    merge(search(), search().request_class(limit=1), answers)
    assert [answer.message.SerializeToString() for answer in answers] == before


ELEMENTS = st.fixed_dictionaries(
    {"name": st.sampled_from("abc"), "size": st.integers(-3, 3)},
    optional={"level": st.integers(-2, 2), "share": st.floats(width=32), "at": st.just({})},
)
LISTS = st.lists(ELEMENTS, max_size=4)
ANSWERS = st.one_of(
    st.sampled_from(sorted(FAILED)),
    st.fixed_dictionaries(
        {},
        optional={
            "plain": LISTS,
            "own": LISTS,
            "any": LISTS,
            "sorted": LISTS,
            "sumd": st.floats(),
            "sum64": st.integers(-(2**63), 2**63 - 1),
            "most": st.floats(),
            "quote": st.fixed_dictionaries({"text": st.sampled_from("xyz")}),
        },
    ),
)


@given(st.lists(ANSWERS, min_size=1, max_size=4), st.integers(0, 5), st.integers(0, 4), st.data())
def test_the_order_of_arrival_changes_no_byte(
    given_answers: list[Any], order: int, limit: int, data: st.DataObject
) -> None:
    """Answers are verified as they arrive; the plan's order alone decides the result."""
    request = search().request_class(order=order, limit=limit)
    outcomes: set[bytes] = set()
    arrivals = list(permutations(range(len(given_answers))))
    for arrival in (arrivals[0], data.draw(st.sampled_from(arrivals))):
        answers: dict[int, Answer] = {}
        for number in arrival:
            each = given_answers[number]
            answers[number] = (
                bad(number, each) if isinstance(each, int) else good(number, found(**each))
            )
        in_plan_order = [answers[number] for number in range(len(given_answers))]
        result = merge(search(), request, in_plan_order)
        outcomes.add(result.SerializeToString(deterministic=True))
    assert len(outcomes) == 1


@given(st.lists(ANSWERS, min_size=1, max_size=5))
def test_as_many_are_in_the_entries_as_were_asked_and_no_plain_element_is_lost(
    given_answers: list[Any],
) -> None:
    answers = [
        bad(number, each) if isinstance(each, int) else good(number, found(**each))
        for number, each in enumerate(given_answers)
    ]
    result = merge(search(), search().request_class(), answers)
    assert [entry.contract_id for entry in result.answers] == [
        f"contract-{number}" for number in range(len(answers))
    ]
    assert [entry.status for entry in result.answers] == [answer.status for answer in answers]
    good_ones = [each for each in given_answers if not isinstance(each, int)]
    assert len(result.plain) == sum(len(each.get("plain", [])) for each in good_ones)
    assert len(result.sorted) == sum(len(each.get("sorted", [])) for each in good_ones)


# Entries.


@pytest.mark.usecase(1491)
def test_an_entry_says_how_asking_one_provider_ended() -> None:
    answers = [good(0, found(plain=[{}, {}], texts=["a"])), bad(1)]
    first, second = merge(search(), search().request_class(), answers).answers
    assert (first.provider_id, first.contract_id, first.service_version) == (
        "provider-0",
        "contract-0",
        "1.0",
    )
    assert (first.status, first.reason, first.code) == (OK, 0, 0)
    assert (first.latency_us, first.item_count) == (7, 3)
    assert second.status == AnswerStatus.ANSWER_STATUS_TIMED_OUT
    assert (second.reason, second.code) == (ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT, 4)


def test_the_last_message_of_a_stream_has_entries_and_nothing_else() -> None:
    last = entries_message(search(), [good(0, found(plain=[{}])), bad(1)])
    assert [entry.contract_id for entry in last.answers] == ["contract-0", "contract-1"]
    assert [field.name for field, _ in last.ListFields()] == ["answers"]


def test_one_provider_alone_has_its_entry_too() -> None:
    assert len(merged(found()).answers) == 1


# Lists.


def test_elements_come_in_contract_order() -> None:
    result = merged(found(plain=[{"name": "b"}, {"name": "a"}]), found(plain=[{"name": "c"}]))
    assert names(result.plain) == ["b", "a", "c"]


def test_the_first_of_equal_things_stays() -> None:
    result = merged(
        found(any=[{"name": "a", "size": 1}, {"name": "a", "level": 0, "size": 2}]),
        found(any=[{"name": "b", "size": 3}, {"name": "a", "size": 4}, {"name": "c", "size": 5}]),
        found(any=[{"name": "a", "level": 0, "size": 6}, {"name": "a", "at": {}, "size": 7}]),
    )
    assert [each.size for each in result.any] == [1, 2, 3, 5, 7]


ITEMS = [
    {"name": "d", "size": 1, "level": 5, "share": 0.5},
    {"name": "a", "size": 2, "share": math.nan, "at": {"seconds": 2, "nanos": 1}},
    {"name": "c", "size": 1, "level": -5, "at": {"seconds": 2}, "inner": {"size": 9}},
    {"name": "b", "size": 2, "level": 0, "share": 2.0, "at": {"seconds": 2}, "inner": {"size": 2}},
]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (0, "abcd"),
        (1, "abcd"),
        (2, "cbda"),
        (3, "dbca"),
        (4, "abcd"),
        (5, "bdca"),
        (99, "abcd"),
    ],
    ids=["own order", "size", "level", "level down", "time", "share", "unknown value"],
)
def test_the_request_chooses_the_order_and_what_is_unset_comes_last(
    order: int, expected: str
) -> None:
    for split in range(5):
        result = merged(found(sorted=ITEMS[:split]), found(sorted=ITEMS[split:]), order=order)
        assert "".join(names(result.sorted)) == expected


def test_what_is_equal_in_the_order_stays_in_contract_order() -> None:
    result = merged(
        found(sorted=[{"name": "x", "size": 1}, {"name": "a", "size": 2}]),
        found(sorted=[{"name": "x", "size": 3}, {"name": "a", "size": 4}]),
    )
    assert [each.size for each in result.sorted] == [2, 4, 1, 3]


@pytest.mark.parametrize(("limit", "length"), [(-1, 3), (0, 3), (1, 1), (2, 2), (3, 3), (99, 3)])
def test_the_limit_cuts_after_sorting(limit: int, length: int) -> None:
    raws = found(sorted=[{"name": "c"}, {"name": "b"}]), found(sorted=[{"name": "a"}])
    result = merged(*raws, limit=limit)
    assert names(result.sorted) == ["a", "b", "c"][:length]
    texts = merged(found(texts=["c", "b"]), found(texts=["a"]), limit=limit).texts
    assert list(texts) == ["c", "b", "a"][:length]


# Singular fields.


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("sum32", [1, 2, 3], 6),
        ("sum32", [2**31 - 1, 1], 2**31 - 1),
        ("sum32", [-(2**31), -1], -(2**31)),
        ("sum32", [2**31 - 1, 5, -(2**31)], 4),
        ("sum64", [2**63 - 1, 2**63 - 1], 2**63 - 1),
        ("sumu32", [2**32 - 1, 1], 2**32 - 1),
        ("sumu64", [2**64 - 1, 1], 2**64 - 1),
        ("sumd", [0.1] * 10, 1.0),
        ("sumd", [1.7e308, 1.7e308], 1.7976931348623157e308),
        ("sumd", [-1.7e308, -1.7e308], -1.7976931348623157e308),
        ("sumd", [1.7e308, 1.7e308, -1.7e308], 1.7e308),
        ("sumf", [3e38, 3e38], 3.4028234663852886e38),
        ("sumo", [None, None], None),
        ("sumo", [None, 0], 0),
        ("least", [5, 0, 3], 3),
        ("least_set", [5, 0, 3], 0),
        ("least_set", [5, None, 3], 3),
        ("most", [1.5, math.nan, 2.5], 2.5),
        ("first", ["", "b", "c"], "b"),
        ("raw", [b"", b"x"], b"x"),
        ("any_true", [False, True], True),
        ("any_true", [False, False], False),
        ("any_set", [None, None], None),
        ("any_set", [None, False], False),
        ("all_true", [True, True], True),
        ("all_true", [True, False], False),
        ("all_set", [True, None], False),
    ],
)
def test_a_rule_makes_one_value_of_many(field: str, values: list[Any], expected: Any) -> None:
    raws = [found(**{field: value}) for value in values]
    result = merged(*raws)
    if expected is None:
        assert not result.HasField(field)
    else:
        value = getattr(result, field)
        assert math.isclose(value, expected) if isinstance(value, float) else value == expected


def test_sums_of_what_is_no_number_are_no_number_and_never_an_error() -> None:
    assert math.isnan(merged(found(sumd=math.nan), found(sumd=1.0)).sumd)
    assert math.isnan(merged(found(sumd=math.inf), found(sumd=-math.inf)).sumd)


def test_nobody_saying_anything_is_not_all_true() -> None:
    result = merge(search(), search().request_class(), [bad(0)])
    assert result.all_true is False
    assert not result.HasField("all_set")


def test_the_first_message_that_was_set_is_taken_whole() -> None:
    result = merged(
        found(), found(first_item={"name": "b"}), found(first_item={"name": "c", "size": 3})
    )
    item = result.first_item
    assert (item.name, item.size, item.provider_id) == ("b", 0, "provider-1")


def test_the_latest_is_taken_and_ties_go_to_contract_order() -> None:
    def quote(text: str, **at: int) -> bytes:
        return found(quote={"text": text} | ({"at": at} if at else {}))

    assert merged(quote("a", seconds=1), quote("b", seconds=3), quote("c")).quote.text == "b"
    assert merged(quote("a", seconds=3), quote("b", seconds=3)).quote.text == "a"
    assert merged(quote("a", seconds=3), quote("b", seconds=3, nanos=1)).quote.text == "b"
    assert merged(quote("a"), quote("b", seconds=-5)).quote.text == "b"
    assert merged(quote("a"), quote("b")).quote.text == "a"
    assert not merged(found(), found()).HasField("quote")
    times = [found(newest={"seconds": 1}), found(newest={"seconds": 2}), found()]
    assert merged(*times).newest.seconds == 2
    assert merged(found(last={"nanos": 9}), found(last={"seconds": 1})).last.seconds == 1


# Failure of all.


def failed(reason: int, code: int = 14, number: int = 0) -> Answer:
    return Answer(target(number), AnswerStatus.ANSWER_STATUS_REFUSED, reason=reason, code=code)


REFUSED = ErrorReason.ERROR_REASON_PROVIDER_REFUSED
TIMED_OUT = ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT


@pytest.mark.parametrize(
    ("failures", "reason", "code"),
    [
        ([(TIMED_OUT, 4), (TIMED_OUT, 4)], TIMED_OUT, Code.DEADLINE_EXCEEDED),
        ([(REFUSED, 5), (REFUSED, 5)], REFUSED, Code.NOT_FOUND),
        ([(REFUSED, 5), (REFUSED, 9)], REFUSED, Code.UNAVAILABLE),
        ([(REFUSED, 5), (TIMED_OUT, 4)], REFUSED, Code.UNAVAILABLE),
        ([(REFUSED, 0)], REFUSED, Code.UNKNOWN),
        ([(REFUSED, 77)], REFUSED, Code.UNKNOWN),
        (
            [(REFUSED, 5), (ErrorReason.ERROR_REASON_IN_DOUBT, 2)],
            ErrorReason.ERROR_REASON_IN_DOUBT,
            Code.UNKNOWN,
        ),
        (
            [(ErrorReason.ERROR_REASON_PROVIDER_EJECTED, 14), (TIMED_OUT, 4)],
            TIMED_OUT,
            Code.DEADLINE_EXCEEDED,
        ),
    ],
)
def test_the_most_telling_reason_speaks_for_all(
    failures: list[tuple[int, int]], reason: int, code: Code
) -> None:
    for order in permutations(failures):
        error = failure_of([failed(*each, number) for number, each in enumerate(order)])
        assert (error.reason, error.code) == (reason, code)


def test_every_reason_that_a_provider_can_fail_for_has_words() -> None:
    for reason in range(80, 90):
        if reason != ErrorReason.ERROR_REASON_BUDGET_EXCEEDED:
            assert failure_of([failed(reason)]).reason == reason


def test_a_failure_lists_its_providers_as_far_as_trailers_go() -> None:
    error = failure_of([failed(TIMED_OUT, 4, number) for number in range(3)])
    (details,) = error.details
    assert isinstance(details, ProviderAnswers)
    assert [entry.provider_id for entry in details.provider_answers] == [
        f"provider-{number}" for number in range(3)
    ]
    many = failure_of([failed(TIMED_OUT, 4, number) for number in range(500)])
    assert isinstance(many, MarketError)
    assert many.metadata == {"providers_asked": "500"}
    assert 0 < many.details[0].ByteSize() <= ENTRIES_BYTES_MAX
