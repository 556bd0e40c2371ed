"""A partner's own server: only the marketplace gets in, whatever the kind of handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from interceptors.provider_side import MarketCall, MarketplaceOnly, market_call
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity, MakeOperator
from tests.interceptors.support import (
    channel,
    eventually,
    refusal,
    server_credentials,
)

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
FORMS = [*KINDS, "unary_stream_writing", "stream_stream_writing"]
CALL_ID = uuid4()
METADATA = (("gem-requester", "evsp"), ("gem-contract", "c-1"), ("gem-call", str(CALL_ID)))


class Provider:
    """Handlers of all four kinds, those that stream in both forms that grpc.aio knows."""

    def __init__(self) -> None:
        self.calls: list[MarketCall] = []
        self.ends: list[str] = []

    async def unary_unary(self, request: bytes, _context: Any) -> bytes:
        self.calls.append(market_call())
        return request

    async def unary_stream(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                self.calls.append(market_call())
                yield request
                if request != b"forever":
                    return
        finally:
            self.ends.append("unary_stream")

    async def stream_unary(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        received = [request async for request in requests]
        self.calls.append(market_call())
        return b"".join(received)

    async def stream_stream(
        self, requests: AsyncIterator[bytes], _context: Any
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            self.calls.append(market_call())
            yield request

    async def unary_stream_writing(self, request: bytes, context: Any) -> None:
        self.calls.append(market_call())
        await context.write(request)

    async def stream_stream_writing(self, requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            self.calls.append(market_call())
            await context.write(request)


def kind_of(form: str) -> str:
    return form.removesuffix("_writing")


@asynccontextmanager
async def providing(provider: Provider, identity: Identity) -> AsyncIterator[int]:
    server = grpc.aio.server(interceptors=[MarketplaceOnly(TRUST_DOMAIN)])
    handlers = {
        form: getattr(grpc, f"{kind_of(form)}_rpc_method_handler")(getattr(provider, form))
        for form in FORMS
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("gem.test.v1.Provider", handlers),)
    )
    health_pb2_grpc.add_HealthServicer_to_server(_Health(), server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(identity))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0.2)


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no types
    async def Check(self, _request: Any, _context: Any) -> Any:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def ask(to: Any, form: str, metadata: Any = METADATA) -> bytes:
    """Call one handler with one message; give its first answer."""
    return await finish(form, begin(to, form, metadata, iter([b"x"])))


def ask_silently(to: Any, form: str, metadata: Any = METADATA) -> Awaitable[bytes]:
    """Call one handler; where it takes a stream, send no message.

    The client of grpc.aio reports INTERNAL when a refusal overtakes a message that it is sending.
    """
    return finish(form, begin(to, form, metadata, None))


def begin(to: Any, form: str, metadata: Any, requests: Any) -> Any:
    stub = getattr(to, kind_of(form))(f"/gem.test.v1.Provider/{form}")
    request = requests if kind_of(form).startswith("stream") else b"x"
    return stub(request, metadata=metadata, timeout=5.0)


async def finish(form: str, call: Any) -> bytes:
    if kind_of(form).endswith("stream"):
        return b"".join([answer async for answer in call])
    answer: bytes = await call
    return answer


@pytest.fixture
def volt(make_identity: MakeIdentity) -> Identity:
    return make_identity("volt")


@pytest.fixture
def strangers(
    volt: Identity, make_identity: MakeIdentity, make_operator: MakeOperator
) -> list[Identity]:
    """Everybody else of this market: another partner, the provider itself, an operator."""
    return [make_identity("evsp"), volt, make_operator("technical", "ada")]


@pytest.mark.parametrize("form", FORMS)
async def test_who_is_not_the_marketplace_is_refused(
    form: str, volt: Identity, strangers: list[Identity]
) -> None:
    provider = Provider()
    async with providing(provider, volt) as port:
        for stranger in strangers:
            async with channel(port, stranger) as to:
                assert await refusal(ask_silently(to, form)) == (
                    grpc.StatusCode.PERMISSION_DENIED,
                    "NOT_THE_MARKETPLACE",
                )
    assert provider.calls == []


@pytest.mark.parametrize("form", FORMS)
async def test_a_call_that_does_not_name_itself_is_refused(
    form: str, volt: Identity, marketplace_identity: Identity
) -> None:
    provider = Provider()
    bad = [
        (),
        METADATA[:2],
        (*METADATA[:2], ("gem-call", "no uuid")),
        (("gem-requester", ""), *METADATA[1:]),
        (("gem-requester", "x" * 65), *METADATA[1:]),
    ]
    async with providing(provider, volt) as port, channel(port, marketplace_identity) as to:
        for metadata in bad:
            assert await refusal(ask_silently(to, form, metadata)) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "METADATA_INVALID",
            )
    assert provider.calls == []


async def test_outside_of_a_call_there_is_no_call() -> None:
    with pytest.raises(LookupError):
        market_call()


@pytest.mark.parametrize("form", FORMS)
async def test_the_marketplace_gets_in_and_the_handler_knows_for_whom(
    form: str, volt: Identity, marketplace_identity: Identity
) -> None:
    provider = Provider()
    async with providing(provider, volt) as port, channel(port, marketplace_identity) as to:
        assert await ask(to, form) == b"x"
    (call,) = provider.calls
    assert (call.requester_id, call.contract_id, call.call_id) == ("evsp", "c-1", CALL_ID)
    assert call.deadline is not None
    assert 3.0 < call.deadline - time.monotonic() < 5.0


async def test_calls_at_the_same_time_do_not_see_each_other(
    volt: Identity, marketplace_identity: Identity
) -> None:
    provider = Provider()
    ids = [uuid4() for _ in range(50)]

    def metadata(call_id: UUID) -> Any:
        return (*METADATA[:2], ("gem-call", str(call_id)))

    async with providing(provider, volt) as port, channel(port, marketplace_identity) as to:
        await asyncio.gather(*(ask(to, "stream_unary", metadata(each)) for each in ids))
    assert sorted(call.call_id for call in provider.calls) == sorted(ids)


async def test_a_stream_whose_caller_goes_away_is_closed(
    volt: Identity, marketplace_identity: Identity
) -> None:
    provider = Provider()
    async with providing(provider, volt) as port, channel(port, marketplace_identity) as to:
        path = "/gem.test.v1.Provider/unary_stream"
        call = to.unary_stream(path)(b"forever", metadata=METADATA)
        await call.read()
        call.cancel()
        await eventually(lambda: provider.ends == ["unary_stream"])


async def test_health_is_open_to_every_partner(volt: Identity, strangers: list[Identity]) -> None:
    async with providing(Provider(), volt) as port, channel(port, strangers[0]) as to:
        answer = await health_pb2_grpc.HealthStub(to).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_handler_for_threads_is_refused_by_a_plain_word() -> None:
    def blocking(_request: bytes, _context: Any) -> bytes:
        return b""

    async def continuation(_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(blocking)

    class Details:
        method = "/gem.test.v1.Provider/blocking"

    only: Callable[..., Any] = MarketplaceOnly(TRUST_DOMAIN).intercept_service
    with pytest.raises(TypeError, match="coroutines"):
        await only(continuation, Details())
