"""Asking one provider: its own deadline, a check of what it answers, and never an exception.

A failed provider is an answer, not an exception: N asked, N answers. While a provider is being
asked, its `Answer` already says how the ask would be recorded if everything stopped now.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from foundation.errors import Code
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from interceptors.call import Call
from marketplace.router.budget import RetryBudget, RouterLimits, target_metadata
from marketplace.router.ejection import Ejection
from marketplace.router.method_rules import MethodRules
from marketplace.router.settle import fail_by_defect, verify_waiting
from marketplace.router.target import Answer, AskSpan, Target
from marketplace.router.transport import Metadata, ProviderFailure, ProviderTransport

OK = int(AnswerStatus.ANSWER_STATUS_OK)
REFUSED = int(AnswerStatus.ANSWER_STATUS_REFUSED)
UNREACHABLE = int(AnswerStatus.ANSWER_STATUS_UNREACHABLE)
TIMED_OUT = int(AnswerStatus.ANSWER_STATUS_TIMED_OUT)
INVALID_ANSWER = int(AnswerStatus.ANSWER_STATUS_INVALID_ANSWER)
EJECTED = int(AnswerStatus.ANSWER_STATUS_EJECTED)
CANCELLED = int(AnswerStatus.ANSWER_STATUS_CANCELLED)
IN_DOUBT = int(AnswerStatus.ANSWER_STATUS_IN_DOUBT)

# As numbers: reading a name of a protobuf enum costs more than all else in a step of this module.
_CALL_CANCELLED = int(ErrorReason.ERROR_REASON_CALL_CANCELLED)
_IN_DOUBT_REASON = int(ErrorReason.ERROR_REASON_IN_DOUBT)
_CANCELLED_CODE = int(Code.CANCELLED)
_UNKNOWN_CODE = int(Code.UNKNOWN)

_LOG = logging.getLogger(__name__)
#: A provider that gave up this close to its deadline did so because of it, in seconds.
_DEADLINE_SLACK_S = 0.005
#: The provider's own statuses that say for certain that a command took no effect.
_REFUSALS = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.RESOURCE_EXHAUSTED,
        Code.FAILED_PRECONDITION,
        Code.ABORTED,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    }
)


class AskTelemetry(Protocol):
    """What the router tells telemetry."""

    def ask_span(self, call: Call, provider_id: str, method: str) -> AskSpan:
        """Start the trace of one ask."""


@dataclass(slots=True)
class Question:
    """What all targets of one call are asked. Times are of `loop.time()`."""

    call: Call
    method: MethodRules
    request: bytes
    #: As `budget.call_metadata` gives it.
    metadata: Metadata
    #: When every target has to have answered.
    answer_by_s: float
    #: How much all answers together may still take.
    answers_bytes_left: int
    #: Whether answers are verified later, all at once (`settle.py`).
    verify_later: bool = False


def pending(target: Target, started_ns: int) -> Answer:
    """Give the answer of a target that was not asked yet, as a cancelled call would leave it."""
    return Answer(target, CANCELLED, _CALL_CANCELLED, _CANCELLED_CODE, started_ns=started_ns)


def mark_sent(answer: Answer, method: MethodRules) -> None:
    """Note that the provider may act from now on: a command interrupted here is in doubt."""
    if method.side_effects:
        answer.status = IN_DOUBT
        answer.reason = _IN_DOUBT_REASON
        answer.code = _UNKNOWN_CODE


class Asker:
    """Asks targets. One for each router: it remembers which endpoints are in trouble."""

    def __init__(
        self,
        transport: ProviderTransport,
        ejection: Ejection,
        limits: RouterLimits,
        telemetry: AskTelemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport = transport
        self._ejection = ejection
        self._limits = limits
        self._telemetry = telemetry
        self._clock = clock
        self._retries = RetryBudget()

    async def ask(self, question: Question, answer: Answer, answer_by_s: float) -> bool:
        """Ask one target with one message for one message and fill in `answer`.

        Answers whether the target certainly did nothing, so that a command may be given to another.
        Raises nothing but the caller's CancelledError.
        """
        started_s = self.begin(answer)
        if started_s is None:
            return True
        target = answer.target
        span = self.span(question.call, target, question.method)
        traceparent = question.call.traceparent if span is None else span.traceparent
        metadata = target_metadata(question.metadata, target, traceparent)
        mark_sent(answer, question.method)
        untouched = False
        try:
            raw = await self._unary(question, target, metadata, answer_by_s)
        except ProviderFailure as failure:
            untouched = self.note_failure(answer, failure, started_s, answer_by_s)
        except asyncio.CancelledError:
            self.note_abandoned(answer)
            raise
        except Exception as defect:  # noqa: BLE001 - a failed ask is an answer, whatever failed
            self.note_defect(answer, defect)
        else:
            self._accept(question, answer, raw)
        finally:
            answer.latency_us = int((self._clock() - started_s) * 1e6)
            if span is not None:
                span.answered()
                if answer.raw is None:
                    span.end(answer.status)
                else:
                    answer.span = span
        return untouched

    def begin(self, answer: Answer) -> float | None:
        """Note the start of an ask and give its time; None where the endpoint is left out."""
        target = answer.target
        now_s = self._clock()
        if self._ejection.admits((target.provider_id, target.endpoint), now_s):
            return now_s
        reason = ErrorReason.ERROR_REASON_PROVIDER_EJECTED
        answer.fail(EJECTED, reason, Code.UNAVAILABLE)
        return None

    def span(self, call: Call, target: Target, method: MethodRules) -> AskSpan | None:
        """Start the trace of one ask, where there is telemetry."""
        if self._telemetry is None:
            return None
        return self._telemetry.ask_span(call, target.provider_id, method.path)

    def note_failure(
        self, answer: Answer, failure: ProviderFailure, started_s: float, answer_by_s: float
    ) -> bool:
        """Fill in how the ask failed; answers whether the target certainly did nothing.

        An endpoint is blamed for being out of reach and for a fair time without any answer. It is
        not for refusing or for a wrong answer: that may be due to what this caller asked.
        """
        key = (answer.target.provider_id, answer.target.endpoint)
        now_s = self._clock()
        status, reason, code = failure.status, failure.reason, failure.code
        at_deadline = now_s >= answer_by_s - _DEADLINE_SLACK_S
        if at_deadline and code in {Code.CANCELLED, Code.DEADLINE_EXCEEDED}:
            status, reason = TIMED_OUT, int(ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT)
            code = Code.DEADLINE_EXCEEDED
        answer.fail(status, reason, code)
        if status in {REFUSED, INVALID_ANSWER}:
            self._ejection.succeeded(key)
        elif status == TIMED_OUT and (
            # Else anybody could have a provider left out by asking it with tiny deadlines, or by
            # keeping a stream until its end.
            answer_by_s - started_s < self._limits.fair_timeout_s or answer.answer_bytes
        ):
            self._ejection.abandoned(key)
        else:
            self._ejection.failed(key, now_s)
        return failure.never_sent or (status == REFUSED and code in _REFUSALS)

    def note_defect(self, answer: Answer, defect: Exception) -> None:
        """Fill in that the marketplace itself failed."""
        fail_by_defect(answer, defect)
        self.note_abandoned(answer)

    def note_abandoned(self, answer: Answer) -> None:
        """Note that the ask ended without saying anything about the endpoint."""
        self._ejection.abandoned((answer.target.provider_id, answer.target.endpoint))

    def note_answered(self, answer: Answer) -> None:
        """Note that the endpoint is in order."""
        self._ejection.succeeded((answer.target.provider_id, answer.target.endpoint))
        self._retries.earn()

    async def _unary(
        self, question: Question, target: Target, metadata: Metadata, answer_by_s: float
    ) -> bytes:
        path, request = question.method.path, question.request
        try:
            return await self.transport.unary(
                target, path, request, metadata, answer_by_s - self._clock()
            )
        except ProviderFailure as failure:
            if question.method.side_effects or not failure.before_any_byte:
                raise
            remaining_s = answer_by_s - self._clock()
            if remaining_s <= 0.0 or not self._retries.spend():
                raise
        return await self.transport.unary(target, path, request, metadata, remaining_s)

    def _accept(self, question: Question, answer: Answer, raw: bytes) -> None:
        self.note_answered(answer)
        answer.answer_bytes = len(raw)
        answer.answer_digest = sha256(raw).digest()
        question.answers_bytes_left -= len(raw)
        if question.answers_bytes_left < 0:
            reason = ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE
            answer.fail(INVALID_ANSWER, reason, Code.INTERNAL)
            return
        answer.raw = raw
        if not question.verify_later:
            verify_waiting(question.method, (answer,))
