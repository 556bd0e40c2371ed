"""A request is checked before any provider sees it."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from foundation.errors import MarketError
from foundation.validation import require_valid
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.method_rules import MethodRules

#: Largest request that is parsed, in bytes; the listener's own limit comes first.
REQUEST_BYTES_MAX = 4 * 1024 * 1024


def check(method: MethodRules, raw: bytes, limit_bytes: int = REQUEST_BYTES_MAX) -> Any:
    """Parse one request message and hold it against the rules of the interface.

    Raises:
        MarketError: REQUEST_TOO_LARGE; REQUEST_MALFORMED where the bytes do not parse;
            REQUEST_INVALID with a violation for each broken rule, which repeat no value.
    """
    if len(raw) > limit_bytes:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
            f"A request has at most {limit_bytes} bytes.",
        )
    try:
        message: Any = method.request_class.FromString(raw)
    except DecodeError:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_MALFORMED,
            "The request does not parse as the method's request message.",
        ) from None
    if not method.keeps_rules(message):
        require_valid(message)
    return message


def route_key(method: MethodRules, message: Any) -> str | None:
    """Give the identifier that decides where a checked request goes; None where none does."""
    if method.route_key is None:
        return None
    return method.route_key.read(message) or None
