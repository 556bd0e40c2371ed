"""The one place that orders what stands around a call, with the reason of each position."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Handler, Interceptor


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainParts:
    """The interceptors from the outermost inwards."""

    #: Outermost: it counts and times every call, whoever refused it.
    telemetry: Interceptor
    #: Around all that can fail, so that each failure becomes one status, and telemetry sees it.
    status: Interceptor
    #: Before any work for the caller, keyed by the certificate that the handshake verified: a flood
    #: costs little, also from a certificate that the next step refuses, and writes no log rows.
    admission: Interceptor
    #: Which person it is, where the connection has no certificate. Before the certificate, which a
    #: caller that is known already does not need.
    session: Interceptor
    #: Which partner's or operator's machine it is. From here on the call has a known caller.
    certificate: Interceptor
    #: Inside the certificate, because only calls of a known caller are recorded; outside access,
    #: because a refusal never reaches what stands further inside, and refusals are to be recorded.
    transaction_log: Interceptor
    #: Innermost: whether this caller may call this method; then the handler.
    access: Interceptor


def build_chain(parts: ChainParts, handler: Handler) -> Handler:
    """Wrap `handler` into the interceptors."""
    for interceptor in (
        parts.access,
        parts.transaction_log,
        parts.certificate,
        parts.session,
        parts.admission,
        parts.status,
        parts.telemetry,
    ):
        handler = _wrap(interceptor, handler)
    return handler


def dispatch(core: Mapping[str, Handler], routed: Handler) -> Handler:
    """Send a call to the core service that has its method, any other to the router.

    `core` is read at every call, so it may be filled after the chain was built.
    """

    async def serve(call: Call) -> None:
        await core.get(call.method, routed)(call)

    return serve


def method_unknown() -> MarketError:
    """Give the error for a method that nobody serves; the name that came is not repeated."""
    return MarketError(
        ErrorReason.ERROR_REASON_METHOD_UNKNOWN, "No interface in the catalogue has this method."
    )


def _wrap(interceptor: Interceptor, proceed: Handler) -> Handler:
    def step(call: Call) -> Awaitable[None]:
        return interceptor(call, proceed)

    return step
