"""One provider's answer is checked before it counts: parsed once, by itself, and stamped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from protovalidate import CompilationError, EvaluationError

from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.method_rules import MethodRules
from marketplace.router.target import Target

#: Largest answer that is parsed, in bytes; empty messages grow forty-fold in memory when parsed.
ANSWER_BYTES_MAX = 1024 * 1024


class InvalidAnswer(Exception):  # noqa: N818  # an answer is what is wrong, not a program
    """An answer that must not reach the requester; `reason` is a value of `ErrorReason`."""

    def __init__(self, reason: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Verified:
    """An answer that may count."""

    message: Any
    #: What the message serialises to.
    canonical: bytes


def parsed(method: MethodRules, raw: bytes, limit_bytes: int = ANSWER_BYTES_MAX) -> Any:
    """Give an answer as a message of the method's response type, without any provider answers.

    Raises:
        InvalidAnswer: ANSWER_TOO_LARGE or ANSWER_INVALID.
    """
    if len(raw) > limit_bytes:
        raise InvalidAnswer(ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE, "too large")
    try:
        message: Any = method.response_class.FromString(raw)
    except DecodeError:
        raise InvalidAnswer(ErrorReason.ERROR_REASON_ANSWER_INVALID, "does not parse") from None
    if method.answers_field is not None:
        message.ClearField(method.answers_field)
    return message


def verified(
    method: MethodRules, target: Target, raw: bytes, limit_bytes: int = ANSWER_BYTES_MAX
) -> Verified:
    """Give the answer of one target as a message of the method's response type, and its bytes.

    It obeys the interface's rules and has no unknown fields; its stamped strings name this target,
    whatever the provider wrote there, and it says nothing about provider answers. Messages of a
    stream are verified one by one.

    Raises:
        InvalidAnswer: ANSWER_TOO_LARGE or ANSWER_INVALID.
    """
    message = parsed(method, raw, limit_bytes)
    method.stamp(message, target.provider_id, target.contract_id)
    canonical: bytes = message.SerializeToString(deterministic=True)
    shown = method.plain_check(canonical, (message,))
    if shown is None:
        _validate_fully(method, message)
    if shown is None or shown.has_unknown_fields:
        message.DiscardUnknownFields()
        canonical = message.SerializeToString(deterministic=True)
    return Verified(message, canonical)


def verify(
    method: MethodRules, target: Target, raw: bytes, limit_bytes: int = ANSWER_BYTES_MAX
) -> Any:
    """Give the message of `verified` alone."""
    return verified(method, target, raw, limit_bytes).message


def _validate_fully(method: MethodRules, message: Any) -> None:
    message.DiscardUnknownFields()
    try:
        broken = method.validator.collect_violations(message, fail_fast=True)
    except (CompilationError, EvaluationError):
        raise InvalidAnswer(
            ErrorReason.ERROR_REASON_ANSWER_INVALID, "a rule cannot be evaluated"
        ) from None
    if broken:
        raise InvalidAnswer(ErrorReason.ERROR_REASON_ANSWER_INVALID, "breaks a rule")
