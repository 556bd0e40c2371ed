from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Caller
from marketplace.router.budget import (
    RetryBudget,
    RouterLimits,
    answer_by_s,
    call_metadata,
    target_metadata,
)
from tests.relay_market import target_of

LIMITS = RouterLimits(default_budget_s=10.0, max_call_s=60.0, merge_reserve_s=0.03)
START_S = 1000.0


def call(deadline_s: float = 5.0, **metadata: Any) -> Call:
    return Call(
        wire=None,  # type: ignore[arg-type]  # nothing is read or written here
        method="/a.B/C",
        metadata={key.replace("_", "-"): value for key, value in metadata.items()},
        peer_certificate=None,
        call_id=UUID(int=7),
        started_ns=0,
        started_s=START_S,
        deadline_s=START_S + deadline_s,
        caller=Caller("evsp-one", frozenset(), b""),
    )


def budget_s(a_call: Call, now_s: float = START_S, *, streaming: bool = False) -> float:
    return answer_by_s(a_call, LIMITS, now_s, streaming=streaming) - START_S


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "1e3", " 5", "5 ", "0x10", "99999999", "\u0665", "many", b"100"]
)
def test_a_budget_that_is_no_number_of_milliseconds_is_refused(text: str | bytes) -> None:
    with pytest.raises(MarketError) as refused:
        budget_s(call(gem_budget_ms=text))
    assert refused.value.reason == ErrorReason.ERROR_REASON_METADATA_INVALID
    assert str(text) not in refused.value.message or text == ""


@pytest.mark.parametrize(("deadline_s", "late_s"), [(5.0, 5.0), (5.0, 7.0), (0.0, 0.0)])
def test_a_call_without_time_left_is_refused_before_anybody_is_asked(
    deadline_s: float, late_s: float
) -> None:
    with pytest.raises(MarketError) as refused:
        budget_s(call(deadline_s), START_S + late_s)
    assert refused.value.reason == ErrorReason.ERROR_REASON_BUDGET_EXCEEDED


def test_a_budget_of_nothing_is_used_up_at_once() -> None:
    with pytest.raises(MarketError) as refused:
        budget_s(call(gem_budget_ms="0"))
    assert refused.value.reason == ErrorReason.ERROR_REASON_BUDGET_EXCEEDED


def test_a_reserve_for_merging_is_kept_back_from_the_deadline() -> None:
    assert budget_s(call(5.0)) == pytest.approx(4.97)


def test_a_short_deadline_keeps_back_only_a_share() -> None:
    assert budget_s(call(0.1)) == pytest.approx(0.09)


def test_a_budget_makes_the_answer_earlier_but_never_later_than_the_deadline() -> None:
    assert budget_s(call(5.0, gem_budget_ms="800")) == pytest.approx(0.77)
    assert budget_s(call(5.0, gem_budget_ms="60000")) == pytest.approx(4.97)


def test_a_call_without_a_deadline_of_its_own_gets_the_default_budget() -> None:
    assert budget_s(call(60.0)) == pytest.approx(9.97)
    assert budget_s(call(60.0, gem_budget_ms="20000")) == pytest.approx(19.97)
    assert budget_s(call(60.0), streaming=True) == pytest.approx(59.97)


def test_only_what_the_marketplace_says_and_the_trace_travels_to_a_provider() -> None:
    a_call = call(gem_provider="alpha", gem_budget_ms="5", authorization="secret", tracestate="a=b")
    a_call.traceparent = "00-1-2-01"
    metadata = target_metadata(call_metadata(a_call), target_of("alpha"), a_call.traceparent)
    assert dict(metadata) == {
        "gem-requester": "evsp-one",
        "gem-call": str(UUID(int=7)),
        "gem-contract": "contract-alpha",
        "traceparent": "00-1-2-01",
        "tracestate": "a=b",
    }


def test_the_trace_of_the_ask_replaces_that_of_the_call() -> None:
    a_call = call()
    a_call.traceparent = "00-call"
    metadata = target_metadata(call_metadata(a_call), target_of("alpha"), "00-ask")
    assert [value for key, value in metadata if key == "traceparent"] == ["00-ask"]


def test_an_oversized_trace_does_not_travel() -> None:
    a_call = call(tracestate="x" * 600)
    a_call.traceparent = "0" * 600
    metadata = target_metadata(call_metadata(a_call), target_of("alpha"), a_call.traceparent)
    assert {key for key, _ in metadata} == {"gem-requester", "gem-call", "gem-contract"}


def test_retries_stay_a_small_share_of_the_asks() -> None:
    budget = RetryBudget()
    first = sum(budget.spend() for _ in range(1000))
    assert first == RetryBudget.MOST
    for _ in range(100):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) <= 100 * RetryBudget.EARNED
