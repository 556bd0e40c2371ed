"""The adapter over real mTLS: every call kind, and everything a caller can do wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from foundation.certificates import CertificateAuthority, partner_uri
from foundation.errors import MarketError
from interceptors.call import Call, Handler, read_single
from interceptors.grpc_server import ServerLimits
from tests.identities import Identity, MakeIdentity, identity_of
from tests.interceptors.support import (
    Listening,
    channel,
    eventually,
    listening,
    reason_in,
    refusal,
)

ONE = "/gem.test.v1.Raw/One"
MANY = "/gem.test.v1.Raw/Many"
#: Both ways of registering a method answer alike.
METHODS = pytest.mark.parametrize("method", [ONE, MANY])
SHORT = ServerLimits(request_read_timeout_s=0.3, max_call_s=1.0, max_stream_s=1.0)


def answers_one(method: str) -> bool:
    return method == ONE


async def echo(call: Call) -> None:
    await call.wire.write(b"+" + await read_single(call))


async def hang(call: Call) -> None:
    await read_single(call)
    await asyncio.Event().wait()


@pytest.fixture
def acme(make_identity: MakeIdentity) -> Identity:
    return make_identity("acme")


def serving(
    handle: Handler, identity: Identity, limits: ServerLimits | None = None
) -> AbstractAsyncContextManager[Listening]:
    return listening(handle, identity, limits, answers_one)


@METHODS
async def test_a_second_message_to_a_method_that_takes_one_is_refused(
    method: str, marketplace_identity: Identity, acme: Identity
) -> None:
    async with serving(echo, marketplace_identity) as market, channel(market.port, acme) as to:
        call = to.stream_unary(method)(iter([b"a", b"b"]))
        assert await refusal(call) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_COUNT")


@METHODS
async def test_a_half_close_without_a_message_is_refused_at_once(
    method: str, marketplace_identity: Identity, acme: Identity
) -> None:
    async with serving(echo, marketplace_identity) as market, channel(market.port, acme) as to:
        started_s = time.monotonic()
        refusals = await asyncio.gather(
            *(refusal(to.stream_unary(method)(iter([]))) for _ in range(50))
        )
        assert set(refusals) == {(grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_COUNT")}
        assert time.monotonic() - started_s < 3.0
        assert await to.unary_unary(method)(b"x", timeout=5) == b"+x"


@METHODS
@pytest.mark.parametrize("messages", [[], [b"a"]], ids=["no message", "no half-close"])
async def test_a_request_that_does_not_come_is_refused_after_the_read_timeout(
    method: str, messages: list[bytes], marketplace_identity: Identity, acme: Identity
) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for message in messages:
            yield message
        await asyncio.sleep(30)

    async with (
        serving(echo, marketplace_identity, SHORT) as market,
        channel(market.port, acme) as to,
    ):
        call = to.stream_unary(method)(slowly())
        assert await refusal(call) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_COUNT")
        await eventually(lambda: len(market.live) == 0)


async def test_a_stream_may_pause_after_its_first_message_longer_than_the_read_timeout(
    marketplace_identity: Identity, acme: Identity
) -> None:
    async def both(call: Call) -> None:
        while (message := await call.wire.read()) is not None:
            await call.wire.write(message)

    async with (
        serving(both, marketplace_identity, SHORT) as market,
        channel(market.port, acme) as to,
    ):
        call = to.stream_stream(MANY)()
        await call.write(b"a")
        assert await call.read() == b"a"
        await asyncio.sleep(0.5)
        await call.write(b"b")
        assert await call.read() == b"b"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


@METHODS
async def test_our_own_deadline_ends_a_call_without_one(
    method: str, marketplace_identity: Identity, acme: Identity
) -> None:
    async with (
        serving(hang, marketplace_identity, SHORT) as market,
        channel(market.port, acme) as to,
    ):
        code, reason = await refusal(to.unary_unary(method)(b"x"))
        assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "BUDGET_EXCEEDED")


@METHODS
async def test_the_callers_deadline_ends_the_handler_too(
    method: str, marketplace_identity: Identity, acme: Identity
) -> None:
    ended: list[BaseException] = []

    async def handle(call: Call) -> None:
        try:
            await hang(call)
        except BaseException as error:
            ended.append(error)
            raise

    async with serving(handle, marketplace_identity) as market, channel(market.port, acme) as to:
        code, _ = await refusal(to.unary_unary(method)(b"x", timeout=0.3))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: len(ended) == 1 and len(market.live) == 0)
        assert isinstance(ended[0], asyncio.CancelledError)


@METHODS
async def test_a_caller_that_cancels_reaches_the_handler_and_frees_the_call(
    method: str, marketplace_identity: Identity, acme: Identity
) -> None:
    ended: list[MarketError | None] = []

    async def handle(call: Call) -> None:
        call.on_end.append(ended.append)
        await hang(call)

    async with serving(handle, marketplace_identity) as market, channel(market.port, acme) as to:
        call = to.unary_unary(method)(b"x")
        await eventually(lambda: len(market.live) == 1)
        call.cancel()
        await eventually(lambda: len(market.live) == 0)
        assert len(ended) == 1


async def test_a_caller_that_leaves_a_stream_ends_its_handler(
    marketplace_identity: Identity, acme: Identity
) -> None:
    async def flood(call: Call) -> None:
        while True:
            await call.wire.write(b"x" * 10_000)

    async with serving(flood, marketplace_identity) as market, channel(market.port, acme) as to:
        call = to.stream_stream(MANY)()
        await call.read()
        await asyncio.sleep(0.1)  # the handler now waits in a write that flow control holds back
        call.cancel()
        await eventually(lambda: len(market.live) == 0)


@METHODS
async def test_a_defect_shows_an_incident_and_no_text(
    method: str, marketplace_identity: Identity, acme: Identity
) -> None:
    async def broken(_call: Call) -> None:
        raise ZeroDivisionError("secret of the handler")

    async with serving(broken, marketplace_identity) as market, channel(market.port, acme) as to:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to.unary_unary(method)(b"x")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert reason_in(caught.value) == "INTERNAL"
        assert "secret" not in repr(caught.value) + repr(caught.value.trailing_metadata())


async def test_a_request_over_the_limit_is_refused_and_the_connection_lives(
    marketplace_identity: Identity, acme: Identity
) -> None:
    limits = ServerLimits(max_request_bytes=10_000)
    async with (
        serving(echo, marketplace_identity, limits) as market,
        channel(market.port, acme) as to,
    ):
        code, _ = await refusal(to.unary_unary(ONE)(b"x" * 10_001))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(await to.unary_unary(ONE)(b"x" * 10_000)) == 10_001


async def test_requests_over_the_bytes_that_may_be_held_are_refused_with_a_delay(
    marketplace_identity: Identity, acme: Identity
) -> None:
    limits = ServerLimits(max_held_bytes=10_000)
    release = asyncio.Event()

    async def wait(call: Call) -> None:
        message = await read_single(call)
        await release.wait()
        await call.wire.write(message)

    async with (
        serving(wait, marketplace_identity, limits) as market,
        channel(market.port, acme) as to,
    ):
        first = to.unary_unary(ONE)(b"x" * 6_000)
        await eventually(lambda: market.server.held_bytes == 6_000)
        code, reason = await refusal(to.unary_unary(ONE)(b"x" * 6_000))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        release.set()
        assert len(await first) == 6_000
        assert len(await to.unary_unary(ONE)(b"x" * 6_000)) == 6_000


async def test_metadata_that_only_the_marketplace_may_say_is_dropped(
    marketplace_identity: Identity, acme: Identity
) -> None:
    seen: list[Call] = []

    async def keep(call: Call) -> None:
        seen.append(call)
        await echo(call)

    forged = (
        ("gem-requester", "other"),
        ("gem-contract", "c"),
        ("gem-call", "1"),
        ("gem-provider", "p"),
    )
    async with serving(keep, marketplace_identity) as market, channel(market.port, acme) as to:
        await to.unary_unary(ONE)(b"x", metadata=forged)
    assert seen[0].metadata["gem-provider"] == "p"
    assert not {"gem-requester", "gem-call"} & set(seen[0].metadata)


async def test_a_caller_without_a_certificate_of_our_authority_does_not_connect(
    marketplace_identity: Identity, tmp_path: Path
) -> None:
    other = CertificateAuthority.create(tmp_path / "other", "gem.example")
    stranger = identity_of(other, partner_uri("gem.example", "acme"))
    credentials = [
        grpc.ssl_channel_credentials(marketplace_identity.root_pem),
        grpc.ssl_channel_credentials(
            marketplace_identity.root_pem, stranger.key_pem, stranger.chain_pem
        ),
    ]
    async with serving(echo, marketplace_identity) as market:
        for credential in credentials:
            options = [("grpc.use_local_subchannel_pool", 1)]
            target = f"localhost:{market.port}"
            async with grpc.aio.secure_channel(target, credential, options) as to:
                stub: Any = to.unary_unary(ONE)
                code, _ = await refusal(stub(b"x", timeout=5))
                assert code is grpc.StatusCode.UNAVAILABLE


@METHODS
async def test_a_unary_stub_gets_its_answer(
    method: str, marketplace_identity: Identity, acme: Identity
) -> None:
    calls: list[Call] = []

    async def keep(call: Call) -> None:
        calls.append(call)
        await echo(call)

    async with serving(keep, marketplace_identity) as market, channel(market.port, acme) as to:
        assert await to.unary_unary(method)(b"x", timeout=5) == b"+x"
    assert calls[0].method == method
    assert calls[0].peer_certificate == acme.certificate.certificate_pem
    assert 4.0 < calls[0].deadline_s - calls[0].started_s <= 5.0


class TestDrain:
    """Shutting down with calls in flight."""

    @METHODS
    async def test_a_call_in_flight_ends_normally_and_new_ones_are_turned_away(
        self, method: str, marketplace_identity: Identity, acme: Identity
    ) -> None:
        release = asyncio.Event()

        async def wait(call: Call) -> None:
            message = await read_single(call)
            await release.wait()
            await call.wire.write(message)

        told: list[str] = []
        async with serving(wait, marketplace_identity) as market, channel(market.port, acme) as to:
            market.server.before_drain(lambda: told.append("draining"))
            call = to.unary_unary(method)(b"x")
            await eventually(lambda: len(market.live) == 1)
            drained = asyncio.create_task(market.server.drain(5.0))
            await asyncio.sleep(0.1)
            assert told == ["draining"]
            assert not drained.done()
            code, _ = await refusal(to.unary_unary(method)(b"y", timeout=2))
            assert code is grpc.StatusCode.UNAVAILABLE
            release.set()
            assert await call == b"x"
            await drained

    @METHODS
    async def test_a_call_that_outlasts_the_grace_is_cut_and_waited_for(
        self, method: str, marketplace_identity: Identity, acme: Identity
    ) -> None:
        ended: list[str] = []

        async def stubborn(call: Call) -> None:
            try:
                await hang(call)
            finally:
                await asyncio.sleep(0.2)  # for instance the last entry of the transaction log
                ended.append("ended")

        async with (
            serving(stubborn, marketplace_identity) as market,
            channel(market.port, acme) as to,
        ):
            call = asyncio.ensure_future(refusal(to.unary_unary(method)(b"x")))
            await eventually(lambda: len(market.live) == 1)
            await market.server.drain(0.2)
            assert ended == ["ended"]
            assert (await call)[0] is grpc.StatusCode.UNAVAILABLE
