from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from foundation.errors import Code
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.ask import (
    CANCELLED,
    EJECTED,
    IN_DOUBT,
    INVALID_ANSWER,
    OK,
    REFUSED,
    TIMED_OUT,
    UNREACHABLE,
    Asker,
    Question,
    pending,
)
from marketplace.router.budget import RetryBudget, RouterLimits
from marketplace.router.ejection import Ejection, EjectionLimits
from marketplace.router.target import Answer
from marketplace.router.transport import ProviderFailure
from tests.relay_market import (
    Behaviour,
    FakeProviders,
    Market,
    fails,
    gives,
    hangs,
    items,
    method_of,
    query,
    refused,
    target_of,
    timed_out,
    unreachable,
    until,
)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Asking:
    """One asker with one provider, and a clock that stands still."""

    def __init__(self, behaviour: Behaviour, telemetry: Any = None) -> None:
        self.clock = Clock()
        self.providers = FakeProviders([])
        self.providers.behaviours = {"alpha": behaviour}
        self.asker = Asker(
            self.providers,
            Ejection(EjectionLimits(failures=2, base_s=1.0)),
            RouterLimits(),
            telemetry,
            self.clock,
        )
        self.untouched: bool | None = None

    async def __call__(
        self, method: str = "Get", budget_s: float = 1.0, left: int = 1000
    ) -> Answer:
        answer = pending(target_of("alpha"), 1)
        call = Market().call(method)
        metadata = (("gem-call", "x"),)
        question = Question(
            call,
            method_of(method),
            query(method, "private"),
            metadata,
            self.clock() + budget_s,
            left,
        )
        self.untouched = await self.asker.ask(question, answer, question.answer_by_s)
        return answer


@pytest.mark.parametrize(
    ("failure", "status", "untouched"),
    [
        (refused(Code.NOT_FOUND), REFUSED, True),
        (refused(Code.INTERNAL), REFUSED, False),
        (refused(Code.UNAVAILABLE), REFUSED, False),
        (unreachable(), UNREACHABLE, False),
        (unreachable(never_sent=True), UNREACHABLE, True),
        (timed_out(), TIMED_OUT, False),
    ],
)
async def test_a_failure_of_a_command_becomes_an_answer_and_is_not_tried_again(
    failure: ProviderFailure, status: int, untouched: bool
) -> None:
    asking = Asking(fails(failure, then=items("Order", "x")))
    answer = await asking("Order")
    assert (answer.status, answer.reason, answer.code) == (status, failure.reason, failure.code)
    assert answer.message is None
    assert asking.untouched is untouched
    assert asking.providers.asked == ["alpha"]


@pytest.mark.parametrize(
    "raw", [b"\xff" * 20, items("Get", "x") + b"\x0a\x05", b"\x0a\x04\x0a\x02\xff\xfe"]
)
async def test_what_is_no_answer_of_the_interface_is_an_invalid_answer(raw: bytes) -> None:
    answer = await Asking(gives(raw))()
    assert (answer.status, answer.reason) == (
        INVALID_ANSWER,
        ErrorReason.ERROR_REASON_ANSWER_INVALID,
    )
    assert answer.message is None
    assert answer.answer_bytes == len(raw)


async def test_answers_beyond_the_room_of_the_call_are_not_parsed() -> None:
    answer = await Asking(gives(items("Get", "x" * 50)))(left=10)
    assert (answer.status, answer.reason) == (
        INVALID_ANSWER,
        ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE,
    )


async def test_a_defect_of_ours_is_an_answer_too_and_its_text_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def breaks(request: bytes) -> bytes:
        raise ValueError(request.hex())

    with caplog.at_level(logging.ERROR):
        answer = await Asking(breaks)()
    assert (answer.status, answer.reason) == (INVALID_ANSWER, ErrorReason.ERROR_REASON_INTERNAL)
    assert "ValueError" in caplog.text
    assert query("Get", "private").hex() not in caplog.text


async def test_a_query_that_failed_before_any_byte_is_asked_once_more() -> None:
    asking = Asking(fails(unreachable(), then=items("Get", "x")))
    answer = await asking()
    assert answer.status == OK
    assert asking.providers.asked == ["alpha", "alpha"]


async def test_a_query_is_asked_no_third_time() -> None:
    asking = Asking(fails(unreachable(), unreachable(), then=items("Get", "x")))
    assert (await asking()).status == UNREACHABLE
    assert asking.providers.asked == ["alpha", "alpha"]


@pytest.mark.parametrize("failure", [timed_out(), refused()])
async def test_a_query_that_failed_otherwise_is_not_asked_again(failure: ProviderFailure) -> None:
    asking = Asking(fails(failure, then=items("Get", "x")))
    assert (await asking()).status == failure.status
    assert asking.providers.asked == ["alpha"]


async def test_an_outage_is_not_multiplied_by_retries() -> None:
    asking = Asking(fails(*[unreachable() for _ in range(400)]))
    for _ in range(100):
        await asking()
        asking.clock.now_s += 100.0
    assert len(asking.providers.asked) <= 100 + RetryBudget.MOST


async def test_an_endpoint_that_fails_in_a_row_is_left_out_and_comes_back() -> None:
    asking = Asking(fails(*[unreachable() for _ in range(4)], then=items("Get", "x")))
    for _ in range(2):
        assert (await asking()).status == UNREACHABLE
    answer = await asking()
    assert (answer.status, answer.reason) == (EJECTED, ErrorReason.ERROR_REASON_PROVIDER_EJECTED)
    assert asking.untouched is True
    assert len(asking.providers.asked) == 4
    asking.clock.now_s += 1.5
    assert (await asking()).status == OK
    assert (await asking()).status == OK


@pytest.mark.parametrize("failure", [refused(), refused(Code.INTERNAL)])
async def test_a_provider_that_refuses_is_not_left_out(failure: ProviderFailure) -> None:
    asking = Asking(fails(*[failure for _ in range(10)]))
    for _ in range(10):
        assert (await asking()).status == REFUSED


async def test_a_requester_cannot_have_a_provider_left_out_by_tiny_deadlines() -> None:
    asking = Asking(fails(*[timed_out() for _ in range(10)], then=items("Get", "x")))
    for _ in range(10):
        assert (await asking(budget_s=0.01)).status == TIMED_OUT
    assert (await asking()).status == OK


async def test_a_provider_that_hangs_for_fair_times_is_left_out() -> None:
    asking = Asking(fails(*[timed_out() for _ in range(10)]))
    assert [(await asking()).status for _ in range(3)] == [TIMED_OUT, TIMED_OUT, EJECTED]


async def test_invalid_answers_do_not_leave_a_provider_out_for_others() -> None:
    asking = Asking(gives(b"\xff"))
    for _ in range(10):
        assert (await asking()).status == INVALID_ANSWER


async def test_a_provider_that_gives_up_at_its_deadline_has_timed_out() -> None:
    asking = Asking(fails(refused(Code.CANCELLED)))
    assert (await asking(budget_s=0.004)).status == TIMED_OUT


@pytest.mark.parametrize(("method", "status"), [("Get", CANCELLED), ("Order", IN_DOUBT)])
async def test_a_cancelled_ask_cancels_the_provider_and_says_how_it_stood(
    method: str, status: int
) -> None:
    asking = Asking(hangs)
    answer = pending(target_of("alpha"), 1)
    question = Question(Market().call(method), method_of(method), b"", (), 200.0, 1000)
    task = asyncio.create_task(asking.asker.ask(question, answer, 200.0))
    await until(lambda: asking.providers.asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asking.providers.cancelled == ["alpha"]
    assert answer.status == status


async def test_a_cancelled_probe_leaves_the_next_call_to_find_out() -> None:
    asking = Asking(fails(timed_out(), timed_out()))
    for _ in range(3):
        answer = await asking()
    assert answer.status == EJECTED
    asking.clock.now_s += 1.5
    asking.providers.behaviours["alpha"] = hangs
    task = asyncio.create_task(asking())
    await until(lambda: len(asking.providers.asked) == 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    asking.providers.behaviours["alpha"] = gives(items("Get", "x"))
    assert (await asking()).status == OK


async def test_a_good_answer_is_stamped_counted_and_digested() -> None:
    answer = await Asking(gives(items("Get", "x", "y")))()
    assert answer.status == OK
    assert [item.provider_id for item in answer.message.items] == ["alpha", "alpha"]
    assert (answer.item_count, len(answer.answer_digest)) == (2, 32)


async def test_the_span_of_an_ask_travels_to_the_provider_and_ends_with_its_status() -> None:
    ends: list[int] = []

    class Span:
        traceparent = "00-ask"

        def answered(self) -> None:
            ends.append(0)

        def end(self, status: int) -> None:
            ends.append(status)

    class Telemetry:
        def ask_span(self, *_: object) -> Span:
            return Span()

    asking = Asking(fails(refused(), then=items("Get")), Telemetry())
    await asking()
    await asking()
    assert ends == [0, REFUSED, 0, OK]
    assert ("traceparent", "00-ask") in asking.providers.metadata[0]
