from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from foundation.certificates import CertificateAuthority, marketplace_uri
from foundation.errors import Code
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.endpoint_policy import EndpointCheck, EndpointPolicy
from marketplace.provider_channels import (
    ChannelLimits,
    MarketplaceCertificate,
    ProviderChannels,
    channel_options,
)
from marketplace.provider_status import failure_of_status
from marketplace.router.ask import INVALID_ANSWER, REFUSED, TIMED_OUT, UNREACHABLE
from marketplace.router.target import Target
from marketplace.router.transport import ProviderFailure
from tests.hostile_provider import HostileProvider, Mode, server_tls
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity, identity_of
from tests.relay_market import target_of, until

LOOPBACK = EndpointCheck(EndpointPolicy(["127.0.0.0/8"]))
METHOD = "/gem.relay.v1.RelayService/Get"
METADATA = (("gem-call", "x"),)
NOT_GENUINE = ErrorReason.ERROR_REASON_PROVIDER_NOT_GENUINE
TOO_LARGE = ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE
CONNECT = "failed to connect to all addresses; last error: "


def certificate_of(identity: Identity) -> MarketplaceCertificate:
    return MarketplaceCertificate(identity.root_pem, identity.key_pem, identity.chain_pem)


@pytest.fixture
async def channels(marketplace_identity: Identity) -> AsyncIterator[ProviderChannels]:
    limits = ChannelLimits(max_channels=3, idle_s=60.0, retire_s=2.0)
    made = ProviderChannels(
        certificate_of(marketplace_identity), TRUST_DOMAIN, limits, endpoints=LOOPBACK
    )
    yield made
    await made.close()


@pytest.fixture
async def alpha(
    make_identity: MakeIdentity, tmp_path: Path
) -> AsyncIterator[tuple[HostileProvider, Target]]:
    """Run the honest provider `alpha`."""
    provider = HostileProvider(server_tls(make_identity("alpha"), tmp_path), answer=b"answer")
    endpoint = await provider.start()
    yield provider, target_of("alpha", endpoint)
    await provider.stop()


@pytest.mark.parametrize(
    ("code", "text", "connected", "status", "reason", "before", "never"),
    [
        (5, "no such thing", True, REFUSED, None, False, False),
        (14, "overloaded", True, REFUSED, None, False, False),
        (14, CONNECT + "Connection refused", True, REFUSED, None, False, False),
        (14, CONNECT + "Connection refused", False, UNREACHABLE, None, True, True),
        (14, CONNECT + "Hostname Verification Check failed.", False, UNREACHABLE, NOT_GENUINE,
         False, True),
        (14, CONNECT + "CERTIFICATE_VERIFY_FAILED: x", False, UNREACHABLE, NOT_GENUINE,
         False, True),
        (14, "errors resolving x", False, UNREACHABLE, None, True, True),
        (14, "the channel is shut down", False, UNREACHABLE, None, True, False),
        (14, "Stream removed (Socket closed)", False, UNREACHABLE, None, True, False),
        (14, "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))", True,
         UNREACHABLE, None, True, True),
        (13, "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))", True,
         UNREACHABLE, None, False, False),
        (1, "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))", True,
         UNREACHABLE, None, False, False),
        (13, "Stream removed (Compression algorithm 'gzip' is disabled.)", True, INVALID_ANSWER,
         None, False, False),
        (8, "Stream removed (CLIENT: Received message larger than max (2 vs. 1))", True,
         INVALID_ANSWER, TOO_LARGE, False, False),
        (8, "quota exceeded", True, REFUSED, None, False, False),
        (4, "Stream removed (Deadline Exceeded)", True, TIMED_OUT, None, False, False),
        (4, "Deadline Exceeded", False, TIMED_OUT, None, False, True),
        (4, "my upstream was slow", True, REFUSED, None, False, False),
        (12, "Received http2 header with status: 404", True, INVALID_ANSWER, None, False, False),
    ],
)  # fmt: skip
def test_a_status_is_told_apart_by_who_gave_it(
    code: int, text: str, connected: bool, status: int, reason: int | None, before: bool,
    never: bool,
) -> None:  # fmt: skip
    failure = failure_of_status(code, text, connected=connected)
    usual = {
        REFUSED: ErrorReason.ERROR_REASON_PROVIDER_REFUSED,
        UNREACHABLE: ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
        TIMED_OUT: ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT,
        INVALID_ANSWER: ErrorReason.ERROR_REASON_ANSWER_INVALID,
    }[status]
    assert (failure.status, failure.reason) == (status, reason or usual)
    assert (failure.before_any_byte, failure.never_sent) == (before, never)
    assert (failure.code == code) or status != REFUSED


async def test_an_endpoint_where_nobody_listens_is_unreachable_and_was_never_asked(
    channels: ProviderChannels,
) -> None:
    with pytest.raises(ProviderFailure) as failed:
        await channels.unary(target_of("alpha", "127.0.0.1:1"), METHOD, b"x", METADATA, 2.0)
    assert failed.value.status == UNREACHABLE
    assert failed.value.never_sent


async def test_an_endpoint_that_accepts_and_says_nothing_times_out(
    channels: ProviderChannels,
) -> None:
    ended = asyncio.Event()

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.transport.abort()
        ended.set()

    server = await asyncio.start_server(listens, "127.0.0.1", 0)
    endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(ProviderFailure) as failed:
        await channels.unary(target_of("alpha", endpoint), METHOD, b"x", METADATA, 0.2)
    assert failed.value.status == TIMED_OUT
    await channels.close()
    await ended.wait()
    server.close()
    await server.wait_closed()


async def test_a_partner_at_the_endpoint_of_another_gets_no_request_of_its_channel(
    channels: ProviderChannels, alpha: tuple[HostileProvider, Target]
) -> None:
    provider, target = alpha
    assert await channels.unary(target, METHOD, b"x", METADATA, 2.0) == b"answer"
    with pytest.raises(ProviderFailure) as failed:
        await channels.unary(target_of("beta", target.endpoint), METHOD, b"y", METADATA, 2.0)
    assert failed.value.reason == NOT_GENUINE
    assert provider.requests == [b"x"]


async def test_cancelling_an_ask_resets_the_provider_s_stream(
    channels: ProviderChannels, alpha: tuple[HostileProvider, Target]
) -> None:
    provider, target = alpha
    provider.mode = Mode.HANGS
    task = asyncio.create_task(channels.unary(target, METHOD, b"x", METADATA, 5.0))
    await until(lambda: provider.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: provider.resets)


async def test_a_cancelled_stream_is_reset_and_tells_its_reader(
    channels: ProviderChannels, alpha: tuple[HostileProvider, Target]
) -> None:
    provider, target = alpha
    provider.mode = Mode.HANGS
    stream = channels.stream(target, METHOD, METADATA, 5.0)
    await stream.write(b"x")
    await stream.done_writing()
    reading = asyncio.create_task(stream.read())
    await until(lambda: provider.requests)
    stream.cancel()
    with pytest.raises(ProviderFailure) as failed:
        await reading
    assert failed.value.status == UNREACHABLE
    with pytest.raises(ProviderFailure):
        await stream.write(b"y")


async def test_closing_ends_the_calls_in_flight_as_unreachable(
    channels: ProviderChannels, alpha: tuple[HostileProvider, Target]
) -> None:
    provider, target = alpha
    provider.mode = Mode.HANGS
    task = asyncio.create_task(channels.unary(target, METHOD, b"x", METADATA, 5.0))
    await until(lambda: provider.requests)
    await channels.close()
    with pytest.raises(ProviderFailure) as failed:
        await task
    assert (failed.value.status, failed.value.code) == (UNREACHABLE, Code.UNAVAILABLE)
    with pytest.raises(ProviderFailure):
        await channels.unary(target, METHOD, b"x", METADATA, 5.0)


@pytest.mark.fault
async def test_a_new_certificate_takes_over_without_an_error(
    channels: ProviderChannels,
    alpha: tuple[HostileProvider, Target],
    authority: CertificateAuthority,
) -> None:
    provider, target = alpha
    answers = 0
    done = False

    async def keep_asking() -> None:
        nonlocal answers
        while not done:
            assert await channels.unary(target, METHOD, b"x", METADATA, 5.0) == b"answer"
            answers += 1

    callers = [asyncio.create_task(keep_asking()) for _ in range(4)]
    for _ in range(3):
        enough = answers + 20
        await until(lambda: answers >= enough, within_s=10.0)  # noqa: B023 - awaited at once
        identity = identity_of(authority, marketplace_uri(TRUST_DOMAIN), ("localhost",))
        await channels.rotate(certificate_of(identity))
    done = True
    await asyncio.gather(*callers)
    assert await channels.unary(target, METHOD, b"x", METADATA, 5.0) == b"answer"
    assert channels.channels == 1
    assert len(set(provider.certificates)) == 4


async def test_the_number_of_channels_is_bounded_and_the_oldest_goes(
    channels: ProviderChannels,
) -> None:
    for number in range(8):
        target = target_of(f"p{number}", "127.0.0.1:1")
        with pytest.raises(ProviderFailure):
            await channels.unary(target, METHOD, b"x", METADATA, 2.0)
    assert channels.channels == 3


async def test_a_channel_that_nobody_uses_is_closed_and_one_with_a_call_is_not(
    marketplace_identity: Identity, alpha: tuple[HostileProvider, Target]
) -> None:
    provider, target = alpha
    limits = ChannelLimits(idle_s=0.2)
    channels = ProviderChannels(
        certificate_of(marketplace_identity), TRUST_DOMAIN, limits, endpoints=LOOPBACK
    )
    provider.mode = Mode.HANGS
    task = asyncio.create_task(channels.unary(target, METHOD, b"x", METADATA, 0.6))
    await asyncio.sleep(0.45)
    assert channels.channels == 1
    with pytest.raises(ProviderFailure):
        await task
    await until(lambda: not channels.channels)
    provider.mode = Mode.HONEST
    assert await channels.unary(target, METHOD, b"x", METADATA, 2.0) == b"answer"
    await channels.close()


def test_a_channel_takes_neither_proxies_nor_retries_nor_compression() -> None:
    options = dict(channel_options("alpha.partners.gem.example", ChannelLimits()))
    assert options["grpc.enable_retries"] == 0
    assert options["grpc.enable_http_proxy"] == 0
    assert options["grpc.compression_enabled_algorithms_bitset"] == 1
    assert options["grpc.use_local_subchannel_pool"] == 1
    assert options["grpc.max_receive_message_length"] == 1 << 20


def test_a_certificate_does_not_show_its_key() -> None:
    shown = repr(MarketplaceCertificate(b"root", b"secret", b"chain"))
    assert "secret" not in shown
