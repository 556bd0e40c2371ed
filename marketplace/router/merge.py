"""Many answers become one: pure, and the same whatever order the answers arrived in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus, ProviderAnswers
from marketplace.router.method_rules import MethodRules
from marketplace.router.target import Answer

#: Bytes of entries in the details of a failed call; trailers beyond 8 KiB are refused by peers.
ENTRIES_BYTES_MAX = 4096
_OK = int(AnswerStatus.ANSWER_STATUS_OK)

#: Which reason speaks for a call in which providers failed differently, most telling first.
_TELLING: Mapping[int, int] = {
    reason: place
    for place, reason in enumerate(
        (
            ErrorReason.ERROR_REASON_IN_DOUBT,
            ErrorReason.ERROR_REASON_CALL_CANCELLED,
            ErrorReason.ERROR_REASON_PROVIDER_REFUSED,
            ErrorReason.ERROR_REASON_ANSWER_INVALID,
            ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE,
            ErrorReason.ERROR_REASON_PROVIDER_NOT_GENUINE,
            ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT,
            ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
            ErrorReason.ERROR_REASON_PROVIDER_EJECTED,
        )
    )
}
_MESSAGES: Mapping[int, str] = {
    ErrorReason.ERROR_REASON_IN_DOUBT: "It is not known whether the call took effect.",
    ErrorReason.ERROR_REASON_CALL_CANCELLED: "The call was cancelled.",
    ErrorReason.ERROR_REASON_PROVIDER_REFUSED: "The provider answered with an error.",
    ErrorReason.ERROR_REASON_ANSWER_INVALID: "The provider's answer breaks the interface's rules.",
    ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE: "The provider's answer is too large.",
    ErrorReason.ERROR_REASON_PROVIDER_NOT_GENUINE: "The provider's endpoint is not the partner's.",
    ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT: "No provider answered within the budget.",
    ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE: "No provider could be reached.",
    ErrorReason.ERROR_REASON_PROVIDER_EJECTED: "The provider failed just before; try again later.",
}


def merge(method: MethodRules, request_message: Any, answers: Sequence[Answer]) -> Any:
    """Merge the verified answers of an ALL method into one message of its response type.

    `answers` holds one answer for each target of the plan, in the plan's order; those that are OK
    add their elements, every one adds an entry of provider answers. The messages of the answers
    stay as they are.
    """
    plan = method.merge_plan
    assert plan is not None, "only unary methods with ROUTE_ALL merge"
    good = [answer for answer in answers if answer.status == _OK]
    messages = [answer.message for answer in good]
    merged: Any = method.response_class()
    for answer in good:
        # One by one, and only what the router has written itself: no provider's bytes can run
        # into the next one's.
        merged.MergeFromString(
            answer.canonical or answer.message.SerializeToString(deterministic=True)
        )
    for singular in plan.singular:
        merged.ClearField(singular.field)
        singular.combine(merged, messages)
    for each in plan.lists:
        each.finish(getattr(merged, each.field), request_message)
    _add_entries(method, merged, answers)
    return merged


def merge_others(method: MethodRules, answers: Sequence[Answer]) -> Any:
    """Merge everything but the lists of answers into a message, as `merge` does."""
    assert method.merge_plan is not None, "only unary methods with ROUTE_ALL merge"
    message: Any = method.response_class()
    messages = [answer.message for answer in answers if answer.status == _OK]
    for singular in method.merge_plan.singular:
        singular.combine(message, messages)
    _add_entries(method, message, answers)
    return message


def entries_message(method: MethodRules, answers: Sequence[Answer]) -> Any:
    """Make the last message of a stream of an ALL method: provider answers and nothing else."""
    message: Any = method.response_class()
    _add_entries(method, message, answers)
    return message


def _add_entries(method: MethodRules, message: Any, answers: Sequence[Answer]) -> None:
    assert method.answers_field is not None, "only methods with ROUTE_ALL have provider answers"
    entries = getattr(message, method.answers_field)
    for answer in answers:
        _add_entry(entries, answer)


def _add_entry(entries: Any, answer: Answer) -> None:
    target = answer.target
    entries.add(
        provider_id=target.provider_id,
        contract_id=target.contract_id,
        service_version=target.service_version,
        status=answer.status,
        reason=answer.reason,
        code=answer.code,
        latency_us=answer.latency_us,
        item_count=answer.item_count,
    )


def failure_of(answers: Sequence[Answer]) -> MarketError:
    """Give the error of a call in which every provider that was asked failed.

    The reason is the one that all share, else the most telling one; the code of a provider's own
    error is handed on where all gave the same, else it is UNAVAILABLE. The details hold the entries
    of the providers, as many as trailers can carry; `providers_asked` in the metadata counts all.
    """
    assert answers, "a plan is never empty"
    reason = min((answer.reason for answer in answers), key=_place)
    codes = {answer.code for answer in answers}
    code: Code | None = None
    if reason == ErrorReason.ERROR_REASON_PROVIDER_REFUSED and len(codes) == 1:
        code = _code(codes.pop())
    details = ProviderAnswers()
    for answer in answers:
        _add_entry(details.provider_answers, answer)
        if details.ByteSize() > ENTRIES_BYTES_MAX:
            del details.provider_answers[-1]
            break
    return MarketError(
        reason if reason in _MESSAGES else ErrorReason.ERROR_REASON_INTERNAL,
        _MESSAGES.get(reason, "No provider gave an answer."),
        metadata={"providers_asked": str(len(answers))},
        details=(details,),
        code=code,
    )


def _code(number: int) -> Code:
    """Give a provider's code; one that gRPC does not know, or that is OK: UNKNOWN."""
    return Code(number) if Code.OK < number <= Code.UNAUTHENTICATED else Code.UNKNOWN


def _place(reason: int) -> int:
    return _TELLING.get(reason, len(_TELLING))
