"""The provider's half: a partner's own server takes calls only from the marketplace.

`grpc.aio.server(interceptors=[MarketplaceOnly(trust_domain)])`; a handler then finds out with
`market_call()` for whom, and under which contract, it works. Needs only the extra `provider`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from uuid import UUID

import grpc

from foundation.certificates import marketplace_uri, read_identity
from foundation.errors import MarketError, status_of
from gem.mesh.v1.error_reason_pb2 import ErrorReason

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAX_ID_CHARACTERS = 64
_market_call: ContextVar[MarketCall] = ContextVar("market_call")


@dataclass(frozen=True, slots=True)
class MarketCall:
    """A call as the marketplace passes it on; the ids are the marketplace's word."""

    #: Partner id of who called the marketplace.
    requester_id: str
    #: Contract under which this provider is asked.
    contract_id: str
    call_id: UUID
    #: `time.monotonic()` when the marketplace stops waiting; None where it said nothing.
    deadline: float | None


def market_call() -> MarketCall:
    """Give the call that the running handler serves; LookupError outside of one."""
    return _market_call.get()


class MarketplaceOnly(grpc.aio.ServerInterceptor):
    """Refuses every call whose connection does not show the marketplace's certificate.

    The server must demand a client certificate of the market's authority; `is_public` names
    methods that anybody with such a certificate may call, by default those of the health service.
    """

    def __init__(
        self,
        trust_domain: str,
        is_public: Callable[[str], bool] = lambda path: path.startswith("/grpc.health.v1.Health/"),
    ) -> None:
        self._uri = marketplace_uri(trust_domain)
        self._is_public = is_public

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the check before the handler, whichever of the four kinds it has."""
        handler = await continuation(handler_call_details)
        if handler is None or self._is_public(handler_call_details.method):
            return handler
        name = "{}_{}".format(
            "stream" if handler.request_streaming else "unary",
            "stream" if handler.response_streaming else "unary",
        )
        serve = getattr(handler, name)
        wrap = _stream_of if _yields(serve) else _awaited
        return handler._replace(**{name: wrap(self._enter, serve)})

    def _enter(self, context: Any) -> MarketError | None:
        """Check who calls and remember the call; gives why it is refused, or None."""
        try:
            _market_call.set(self._read(context))
        except MarketError as error:
            status = status_of(error)
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
            context.set_details(status.message)
            context.set_code(_CODES[status.code])
            return error
        return None

    def _read(self, context: Any) -> MarketCall:
        certificates = context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise _not_the_marketplace()
        try:
            identity = read_identity(certificates[0], datetime.now(UTC))
        except MarketError:
            raise _not_the_marketplace() from None
        if identity.uri != self._uri:
            raise _not_the_marketplace()
        metadata = dict(context.invocation_metadata() or ())
        remaining_s = context.time_remaining()
        try:
            call_id = UUID(_id_in(metadata, "gem-call"))
        except ValueError:
            raise _metadata_invalid() from None
        return MarketCall(
            requester_id=_id_in(metadata, "gem-requester"),
            contract_id=_id_in(metadata, "gem-contract"),
            call_id=call_id,
            deadline=None if remaining_s is None else time.monotonic() + remaining_s,
        )


_Enter = Callable[[Any], MarketError | None]


def _yields(serve: Callable[..., Any]) -> bool:
    while isinstance(serve, partial):
        serve = serve.func
    return inspect.isasyncgenfunction(serve)


def _awaited(enter: _Enter, serve: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Wrap a coroutine: a unary answer, or a stream that it writes to the context itself."""
    if not inspect.iscoroutinefunction(serve):
        raise TypeError("the server is grpc.aio: its handlers are coroutines or async generators")

    async def checked(request: Any, context: Any) -> Any:
        if enter(context) is not None:
            return None  # grpc sends the status and no message
        return await serve(request, context)

    return checked


def _stream_of(
    enter: _Enter, serve: Callable[..., AsyncIterator[Any]]
) -> Callable[..., AsyncIterator[Any]]:
    """Wrap an async generator; it is closed at once when its caller goes away."""

    async def checked(request: Any, context: Any) -> AsyncIterator[Any]:
        if enter(context) is not None:
            return
        answers = serve(request, context)
        try:
            async for answer in answers:
                yield answer
        finally:
            await cast("Any", answers).aclose()

    return checked


def _id_in(metadata: dict[str, Any], key: str) -> str:
    value = metadata.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID_CHARACTERS:
        raise _metadata_invalid()
    return value


def _not_the_marketplace() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_NOT_THE_MARKETPLACE, "Calls are taken from the marketplace only."
    )


def _metadata_invalid() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_METADATA_INVALID,
        "The metadata gem-requester, gem-contract and gem-call must name the call.",
    )
