"""What a gRPC status says about a provider: its own words, or the transport's about its silence.

gRPC has one status for both. The transport's texts, as of grpcio 1.85, tell them apart; a provider
that copies one harms only itself, and the hostile provider of the tests shows each.
"""

from __future__ import annotations

from foundation.errors import CODE_OF, Code
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.router.transport import ProviderFailure

#: Begins every status that the transport gives to a call whose stream had begun.
_STREAM_ENDED = "Stream removed ("
_RESET = "Stream removed (RST_STREAM"
#: HTTP/2 error code REFUSED_STREAM: the peer states that it has not begun with the request (RFC
#: 9113, 8.7).
_REFUSED_STREAM = "error code 7)"
_NO_GRPC = "Received http2 header with status"
#: Begin the statuses of calls for which there never was a connection.
_NEVER_CONNECTED = (
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
)
_NOT_GENUINE = ("Verification Check failed", "CERTIFICATE_VERIFY_FAILED", "not in peer certificate")
_DEADLINE = "Deadline Exceeded"


def failure_of_status(code: int, text: str, *, connected: bool) -> ProviderFailure:
    """Give the failure of an ask from its gRPC status.

    `text` is the status message: used here and nowhere kept. `connected` says whether the channel
    still has its connection, so that the status can be the provider's own.
    """
    if text.startswith(_STREAM_ENDED):
        return _ended(code, text)
    if code == Code.DEADLINE_EXCEEDED and text == _DEADLINE:
        return timed_out(never_sent=not connected)
    if text.startswith(_NO_GRPC):
        return invalid_answer()
    if code == Code.UNAVAILABLE and not connected:
        never = text.startswith(_NEVER_CONNECTED)
        if never and any(sign in text for sign in _NOT_GENUINE):
            return _failure(
                AnswerStatus.ANSWER_STATUS_UNREACHABLE,
                ErrorReason.ERROR_REASON_PROVIDER_NOT_GENUINE,
                never_sent=True,
            )
        return unreachable(before_any_byte=True, never_sent=never)
    refused = ErrorReason.ERROR_REASON_PROVIDER_REFUSED
    return ProviderFailure(AnswerStatus.ANSWER_STATUS_REFUSED, refused, code)


def _ended(code: int, text: str) -> ProviderFailure:
    """Give the failure of a stream that the transport ended."""
    if code == Code.DEADLINE_EXCEEDED:
        return timed_out()
    if code == Code.RESOURCE_EXHAUSTED:
        return invalid_answer(ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE)
    if code == Code.UNAVAILABLE:
        never = text.startswith(_RESET) and _REFUSED_STREAM in text
        return unreachable(before_any_byte=True, never_sent=never)
    if code == Code.CANCELLED or text.startswith(_RESET):
        return unreachable(code=code)
    return invalid_answer()


def invalid_answer(reason: int = ErrorReason.ERROR_REASON_ANSWER_INVALID) -> ProviderFailure:
    """Give the failure of a provider that breaks the protocol."""
    return _failure(AnswerStatus.ANSWER_STATUS_INVALID_ANSWER, reason)


def timed_out(*, never_sent: bool = False) -> ProviderFailure:
    """Give the failure of a provider that did not answer in time."""
    return _failure(
        AnswerStatus.ANSWER_STATUS_TIMED_OUT,
        ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT,
        never_sent=never_sent,
    )


def unreachable(
    *, before_any_byte: bool = False, never_sent: bool = False, code: int = Code.UNAVAILABLE
) -> ProviderFailure:
    """Give the failure of a provider that is out of reach or whose connection broke."""
    return ProviderFailure(
        AnswerStatus.ANSWER_STATUS_UNREACHABLE,
        ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
        code,
        before_any_byte=before_any_byte,
        never_sent=never_sent,
    )


def not_allowed() -> ProviderFailure:
    """Give the failure of an endpoint that the market's policy does not let be called."""
    return _failure(
        AnswerStatus.ANSWER_STATUS_UNREACHABLE,
        ErrorReason.ERROR_REASON_ENDPOINT_NOT_ALLOWED,
        never_sent=True,
    )


def _failure(status: int, reason: int, *, never_sent: bool = False) -> ProviderFailure:
    return ProviderFailure(status, reason, CODE_OF[reason], never_sent=never_sent)
