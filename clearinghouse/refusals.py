"""The clearing house's refusals, in its own words: what a partner sent is never repeated."""

from __future__ import annotations

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

_RETRY_AFTER_S = 1.0


def away() -> MarketError:
    """Give the error for a database that does not answer."""
    return MarketError(
        ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE,
        "The clearing house's database cannot be reached: repeat the call with its request_id.",
        retry_after_s=_RETRY_AFTER_S,
    )


def not_found(kind: str) -> MarketError:
    """Give the error for what does not exist or is another's: the same for both."""
    return MarketError(
        ErrorReason.ERROR_REASON_NOT_FOUND,
        f"There is no such {kind}, or it is not yours to see.",
        metadata={"kind": kind},
    )


def invalid(field: str, text: str, rule: str) -> MarketError:
    """Give the error for a request that breaks a rule which no schema can state."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "the request breaks rules of the interface",
        violations=(FieldViolation(field, text, rule),),
    )


def not_in_this_state(text: str) -> MarketError:
    """Give the error for a step that a state does not allow."""
    return MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, text)


def changed_meanwhile() -> MarketError:
    """Give the error for a change that was made on an older version."""
    return MarketError(
        ErrorReason.ERROR_REASON_CONFLICT, "Someone else changed the same thing: read it again."
    )
