"""What providers answered becomes what the caller gets, or a typed failure of that provider alone.

The answers to a call that are one message each are verified at the end, all at once where that is
possible: it costs a fraction of looking at each by itself.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from typing import Any

from foundation.errors import Code
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.router.merge import failure_of, merge, merge_others
from marketplace.router.method_rules import MethodRules
from marketplace.router.rating import counted
from marketplace.router.target import Answer
from marketplace.router.verify import InvalidAnswer, parsed, verified

_OK = int(AnswerStatus.ANSWER_STATUS_OK)
_INVALID_ANSWER = int(AnswerStatus.ANSWER_STATUS_INVALID_ANSWER)

_LOG = logging.getLogger(__name__)


def merged_answer(method: MethodRules, request: Any, answers: Sequence[Answer]) -> bytes:
    """Verify what waits, and give the bytes of the merged answer of an ALL method.

    Raises:
        MarketError: every provider failed.
    """
    merged = _merged_at_once(method, request, answers)
    if merged is not None:
        return merged
    verify_waiting(method, answers)
    if not any(answer.status == _OK for answer in answers):
        raise failure_of(answers)
    whole: bytes = merge(method, request, answers).SerializeToString(deterministic=True)
    return whole


def verify_waiting(method: MethodRules, answers: Sequence[Answer]) -> None:
    """Verify each answer that waits by itself; raises nothing."""
    for answer in answers:
        if answer.raw is not None:
            _verify(method, answer, answer.raw)
            _end_span(answer)


def fail_by_defect(answer: Answer, defect: Exception) -> None:
    """Fill in that the marketplace itself failed. Its text may be a payload's: not logged."""
    where = "".join(traceback.format_tb(defect.__traceback__))
    _LOG.error("asking a provider failed by a defect: %s\n%s", type(defect).__name__, where)
    answer.fail(_INVALID_ANSWER, ErrorReason.ERROR_REASON_INTERNAL, Code.INTERNAL)


def _merged_at_once(method: MethodRules, request: Any, answers: Sequence[Answer]) -> bytes | None:
    """Give the merged answer where all answers can be verified at once; else they wait on."""
    plan = method.merge_plan
    assert plan is not None, "only unary methods with ROUTE_ALL merge"
    if plan.rows is None:
        return None
    waiting: list[Answer] = []
    messages: list[Any] = []
    for answer in answers:
        if answer.raw is not None:
            try:
                message = parsed(method, answer.raw)
                if answer.target.price.rated is not None:
                    _count_units(method, answer, message)
            except InvalidAnswer:
                continue
            messages.append(message)
            waiting.append(answer)
    if not waiting:
        return None
    targets = [answer.target for answer in waiting]
    merged = plan.rows.merged(request, messages, targets, method.plain_check)
    if merged is None:
        return None
    for answer, message in zip(waiting, messages, strict=True):
        answer.succeed(message, method.count_items(message))
        _end_span(answer)
    verify_waiting(method, answers)  # those that do not parse are refused, with the reason
    others: bytes = merge_others(method, answers).SerializeToString(deterministic=True)
    return merged + others


def _verify(method: MethodRules, answer: Answer, raw: bytes) -> None:
    try:
        good = verified(method, answer.target, raw)
        _count_units(method, answer, good.message)
    except InvalidAnswer as invalid:
        answer.fail(_INVALID_ANSWER, invalid.reason, Code.INTERNAL)
    except Exception as defect:  # noqa: BLE001 - a failed ask is an answer, whatever failed
        fail_by_defect(answer, defect)
    else:
        answer.succeed(good.message, method.count_items(good.message), good.canonical)


def _count_units(method: MethodRules, answer: Answer, message: Any) -> None:
    """Note the units of an answer where its contract's price counts them; may raise InvalidAnswer.

    They are the provider's own: nothing is merged yet.
    """
    rated = answer.target.price.rated
    if rated is not None:
        answer.units = counted(method, rated, message, None)


def _end_span(answer: Answer) -> None:
    span, answer.span = answer.span, None
    if span is not None:
        span.end(answer.status)
