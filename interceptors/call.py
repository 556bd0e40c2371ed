"""One call as every interceptor and handler sees it. Imports no grpc.

A transport towards callers makes a `Call` around a `Wire`, hands it to the chain, and the chain to
a handler. All four call kinds have this one shape: read messages, write messages, end with a
status.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol
from uuid import UUID

from google.rpc import status_pb2

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason


class Wire(Protocol):
    """What a transport offers for one call; a transport is replaced by replacing this."""

    async def read(self) -> bytes | None:
        """Give the next request message; None once the caller has half-closed."""

    async def write(self, message: bytes) -> None:
        """Send one answer message; returns when the transport takes more."""

    def finish(self, status: status_pb2.Status | None) -> None:
        """Say how the call ends once the handler returns; None means OK."""

    def cut(self) -> None:
        """End the call now from outside its handler: the handler sees CancelledError."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the registry knows it after the certificate or the session was accepted."""

    #: Partner id, or the operator's name.
    subject_id: str
    #: Values of `gem.options.v1.AccessRole` that the caller has.
    roles: frozenset[int]
    #: SHA-256 of the certificate in DER; empty for a session.
    fingerprint: bytes
    #: The session, and the name of its user; empty for a certificate.
    session_id: str = ""
    user_name: str = ""


@dataclass(slots=True)
class Call:
    """One call from its first byte to its end."""

    wire: Wire
    #: Full method as on the wire, `/package.Service/Method`.
    method: str
    #: Metadata with lower-case keys; of a repeated key the last value. Values are text or bytes.
    metadata: Mapping[str, str | bytes]
    #: Client certificate in PEM as the handshake verified it; None without one.
    peer_certificate: bytes | None
    #: Identifies the call in logs, traces and the transaction log; chosen by us, never the caller.
    call_id: UUID
    #: Wall clock at the start, nanoseconds since 1970.
    started_ns: int
    #: `loop.time()` at the start.
    started_s: float
    #: `loop.time()` when the caller's deadline or our cap ends the call, whichever is first.
    deadline_s: float
    caller: Caller | None = None
    #: Size of what the caller sent so far, for the log of failed calls.
    request_bytes: int = 0
    #: W3C trace context to forward; ours where a span records, else the caller's own.
    traceparent: str | None = None
    #: The call's OpenTelemetry span; None where nothing records.
    span: Any = None
    #: True once the handler takes exactly one message: the read timeout then covers the half-close.
    single_request: bool = False
    #: How many providers the router has asked; set before the first byte leaves for any of them.
    providers_asked: int = 0
    #: Why someone other than the caller cuts the call: our deadline, a revocation, a drain.
    cut_by: MarketError | None = None
    #: How the call ended, once it has; None for OK and while it runs.
    error: MarketError | None = None
    #: Called once when the call has ended, in any way; telemetry and registries hang on it.
    on_end: list[Callable[[MarketError | None], None]] = field(default_factory=list)

    def remaining_s(self, now_s: float) -> float:
        """Give the seconds left until the deadline; never negative."""
        return max(0.0, self.deadline_s - now_s)


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call that reached no provider, with the reason (use case 1241, failure outcome)."""

    call_id: UUID
    requester_id: str | None
    method: str
    started_ns: int
    duration_us: int
    reason: int
    code: int
    request_bytes: int


#: Serves one call to its end: returns for OK, raises MarketError for any other status.
Handler = Callable[[Call], Awaitable[None]]

#: Wraps a handler: does its part and awaits `proceed(call)` at most once.
Interceptor = Callable[[Call, Handler], Awaitable[None]]


_random = Random(os.urandom(16))  # noqa: S311  # call ids are names, not secrets


def new_call_id(now_ns: int) -> UUID:
    """Make a call id that sorts by time (UUID version 7, RFC 9562); `now_ns` since 1970."""
    bits = _random.getrandbits(74)
    high = (now_ns // 1_000_000 & (1 << 48) - 1) << 80 | 0x7000 << 64 | bits >> 62 << 64
    return UUID(int=high | 0b10 << 62 | bits & (1 << 62) - 1)


async def read_single(call: Call) -> bytes:
    """Give the one message of a method that takes one; the transport's read timeout applies.

    Raises:
        MarketError: REQUEST_COUNT where the caller sends none, or a second one.
    """
    call.single_request = True
    message = await call.wire.read()
    if message is None:
        raise MarketError(ErrorReason.ERROR_REASON_REQUEST_COUNT, "The call has no message.")
    if await call.wire.read() is not None:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_COUNT, "The method takes one message; more came."
        )
    return message
