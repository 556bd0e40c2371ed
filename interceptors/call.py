"""One call as every interceptor and handler sees it. Imports no grpc.

A transport towards callers makes a `Call` around a `Wire`, hands it to the chain, and the chain to a
handler. All four call kinds have this one shape: read messages, write messages, end with a status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from google.rpc import status_pb2

from foundation.errors import MarketError


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
    """Who calls, as the registry knows it after the certificate was accepted."""

    #: Partner id, or the operator's name.
    subject_id: str
    #: Values of `gem.options.v1.AccessRole` that the caller has.
    roles: frozenset[int]
    #: SHA-256 of the certificate in DER.
    fingerprint: bytes


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
