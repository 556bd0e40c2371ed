"""Answers that wait are verified at the end; each has its own verdict, by either way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foundation.errors import MarketError, reason_name
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.ask import CANCELLED, INVALID_ANSWER, OK, TIMED_OUT, pending
from marketplace.router.method_rules import MethodRules
from marketplace.router.settle import merged_answer, verify_waiting
from marketplace.router.target import Answer
from marketplace.router.verify import ANSWER_BYTES_MAX
from tests.relay_market import items, method_of, query, target_of

_NO_MESSAGE = b"\x0f"


class Span:
    """Remembers what it was told."""

    traceparent: str | None = None

    def __init__(self) -> None:
        self.ends: list[int] = []

    def answered(self) -> None:
        raise AssertionError("that was said when the answer came")

    def end(self, status: int) -> None:
        self.ends.append(status)


@pytest.fixture(params=["at once", "each alone"])
def rules(request: pytest.FixtureRequest) -> MethodRules:
    """Give the method that merges all answers, by either way of verifying them."""
    found = method_of("Search")
    assert found.merge_plan is not None
    assert found.merge_plan.rows is not None
    if request.param == "at once":
        return found
    return replace(found, merge_plan=replace(found.merge_plan, rows=None))


def waiting(name: str, raw: bytes) -> Answer:
    """Give the answer of a provider that is still to be verified."""
    answer = pending(target_of(name), 1_000)
    answer.raw, answer.span = raw, Span()
    return answer


def merged(rules: MethodRules, *answers: Answer) -> Any:
    """Give the merged answer as a message."""
    request = rules.request_class.FromString(query("Search"))
    return rules.response_class.FromString(merged_answer(rules, request, answers))


def test_a_call_without_one_valid_answer_fails_with_the_reason(rules: MethodRules) -> None:
    answers = [waiting("alpha", _NO_MESSAGE), waiting("beta", _NO_MESSAGE)]
    with pytest.raises(MarketError) as refused:
        merged(rules, *answers)
    assert reason_name(refused.value.reason) == "ANSWER_INVALID"
    assert [answer.status for answer in answers] == [INVALID_ANSWER] * 2


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (_NO_MESSAGE, ErrorReason.ERROR_REASON_ANSWER_INVALID),
        (bytes(ANSWER_BYTES_MAX + 1), ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE),
    ],
)
def test_a_bad_answer_takes_nothing_from_the_good_ones(
    rules: MethodRules, raw: bytes, reason: int
) -> None:
    bad, good = waiting("alpha", raw), waiting("beta", items("Search", "x", "y"))
    silent = pending(target_of("gamma"), 1_000)
    silent.fail(TIMED_OUT, 1, 4)
    found = merged(rules, bad, good, silent)
    assert [(item.name, item.provider_id) for item in found.items] == [("x", "beta"), ("y", "beta")]
    entries = [(each.status, each.item_count) for each in found.provider_answers]
    assert entries == [(INVALID_ANSWER, 0), (OK, 2), (TIMED_OUT, 0)]
    assert (bad.reason, bad.message, bad.raw, good.raw) == (reason, None, None, None)


def test_each_span_ends_once_with_the_verdict(rules: MethodRules) -> None:
    answers = [waiting("alpha", items("Search", "a")), waiting("beta", _NO_MESSAGE)]
    spans = [answer.span for answer in answers]
    merged(rules, *answers)
    verify_waiting(rules, answers)
    assert [span.ends for span in spans if isinstance(span, Span)] == [[OK], [INVALID_ANSWER]]


def test_what_another_provider_s_name_stands_on_is_written_over(rules: MethodRules) -> None:
    claims = [{"name": "a", "provider_id": "beta"}, {"name": "b", "provider_id": "gamma"}]
    forged = rules.response_class(items=claims).SerializeToString()
    found = merged(rules, waiting("alpha", forged), waiting("beta", items("Search", "b")))
    assert [item.provider_id for item in found.items] == ["alpha", "alpha", "beta"]


def test_what_is_settled_stays_as_it_is(rules: MethodRules) -> None:
    answer = pending(target_of("alpha"), 1_000)
    verify_waiting(rules, [answer])
    assert answer.status == CANCELLED
