"""Many answers become one list, and what no provider can do to another's results."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.router.ask import CANCELLED
from marketplace.router.merge import entries_message, merge
from marketplace.router.settle import merged_answer, verify_waiting
from marketplace.router.target import Answer
from marketplace.router.verify import InvalidAnswer, verify
from tests.interfaces import method, rpc, service
from tests.merging import BODY, FAILED, OK, bad, found, good, merged, names, search, target


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


ROWS = (
    BODY[: BODY.index("message Quote")]
    # Behind all other fields, as the quick way writes them.
    .replace("string provider_id = 3", "string provider_id = 20")
    .replace("string contract_id = 4", "string contract_id = 21")
    + """
message Found {
  repeated Item items = 1 [(gem.options.v1.merge) = {
    distinct_by: ["DISTINCT"] order_by: "name" order_from: "order" limit_from: "limit"
  }];
  repeated gem.mesh.v1.ProviderAnswer answers = 2;
  bool truncated = 3 [(gem.options.v1.merge) = { rule: MERGE_RULE_ANY }];
}
"""
    + service(rpc())
)
#: What a provider may add to the bytes of its answer.
ODDITIES = st.sampled_from(
    [
        b"",
        b"\xfa\x3e\x01x",  # an unknown field
        b"\x0a\x07\x0a\x01a\xfa\x3e\x01y",  # an element with one
        b"\x0a\x10\x0a\x01b\xa2\x01\x0aprovider-0",  # an element with another's stamp
        b"\xfa\x3e\x09",  # what does not parse
    ]
)


@pytest.mark.parametrize("distinct", ['name", "provider_id', 'name", "size', 'name", "level'])
@given(
    st.lists(st.tuples(LISTS, st.booleans(), ODDITIES), min_size=1, max_size=4),
    st.integers(0, 6),
    st.integers(0, 4),
)
def test_merging_all_answers_at_once_gives_the_bytes_that_merging_messages_gives(
    distinct: str, given_answers: list[Any], order: int, limit: int
) -> None:
    rules = method(ROWS.replace("DISTINCT", distinct))
    assert rules.merge_plan is not None
    assert rules.merge_plan.rows is not None
    each_alone, at_once = [bad(9)], [bad(9)]
    for number, (items, truncated, oddity) in enumerate(given_answers):
        message = rules.response_class(items=items, truncated=truncated)
        raw = message.SerializeToString() + oddity
        for answers in (each_alone, at_once):
            answers.append(Answer(target(number), CANCELLED, raw=raw))
    verify_waiting(rules, each_alone)
    request = rules.request_class(order=order, limit=limit)
    if all(answer.status != OK for answer in each_alone):
        with pytest.raises(MarketError):
            merged_answer(rules, request, at_once)
        return
    slow = merge(rules, request, each_alone).SerializeToString(deterministic=True)
    assert merged_answer(rules, request, at_once) == slow
    outcome = [(answer.status, answer.reason, answer.item_count) for answer in each_alone]
    assert [(answer.status, answer.reason, answer.item_count) for answer in at_once] == outcome
    assert all(answer.raw is None for answer in at_once)


@pytest.mark.parametrize(
    "change",
    [
        ("string name = 1", "Item part = 30; string name = 1"),
        (
            "int64 size = 1",
            "int64 size = 1; string by = 2 [(gem.options.v1.stamp) = STAMP_PROVIDER_ID]",
        ),
        ('"name" order_from', '"inner.size" order_by: "provider_id" order_from'),
        (
            "bool truncated",
            "Item best = 4 [(gem.options.v1.merge) = { rule: MERGE_RULE_FIRST }]; bool truncated",
        ),
    ],
)
def test_answers_are_not_merged_as_rows_where_stamps_are_elsewhere(change: tuple[str, str]) -> None:
    body = ROWS.replace("DISTINCT", 'name", "provider_id')
    assert change[0] in body
    plan = method(body.replace(*change)).merge_plan
    assert plan is not None
    assert plan.rows is None
