"""Channels connect to checked addresses and to no others, whatever a name means later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.endpoint_policy import EndpointCheck, EndpointPolicy, Resolve
from marketplace.provider_channels import ChannelLimits, MarketplaceCertificate, ProviderChannels
from marketplace.router.ask import TIMED_OUT, UNREACHABLE
from marketplace.router.target import Target
from marketplace.router.transport import ProviderFailure
from tests.hostile_provider import HostileProvider, server_tls
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity
from tests.marketplace.test_endpoint_policy import Names
from tests.relay_market import target_of, until

METHOD = "/gem.relay.v1.RelayService/Get"
METADATA = (("gem-call", "x"),)
NOT_ALLOWED = ErrorReason.ERROR_REASON_ENDPOINT_NOT_ALLOWED
#: Of this machine: one address is inside, one has the provider, at one nobody listens.
INSIDE, OUTSIDE, EMPTY = "127.0.0.2", "127.0.0.1", "127.0.0.3"
POLICY = EndpointPolicy([f"{OUTSIDE}/32", f"{EMPTY}/32"])
LIMITS = ChannelLimits(recheck_s=0.05, failed_recheck_s=0.01, retire_s=2.0)
Open = Callable[[Resolve], ProviderChannels]


@pytest.fixture
async def opened(marketplace_identity: Identity) -> AsyncIterator[Open]:
    """Give a way to make channels that resolve names by a fake."""
    identity = marketplace_identity
    certificate = MarketplaceCertificate(identity.root_pem, identity.key_pem, identity.chain_pem)
    async with AsyncExitStack() as stack:

        def make(resolve: Resolve) -> ProviderChannels:
            check = EndpointCheck(POLICY, resolve, timeout_s=1.0)
            made = ProviderChannels(certificate, TRUST_DOMAIN, LIMITS, endpoints=check)
            stack.push_async_callback(made.close)
            return made

        yield make


@pytest.fixture
async def alpha(
    make_identity: MakeIdentity, tmp_path: Path
) -> AsyncIterator[tuple[HostileProvider, Target]]:
    """Run the honest provider `alpha`, known by a name."""
    provider = HostileProvider(server_tls(make_identity("alpha"), tmp_path), answer=b"answer")
    port = (await provider.start()).rpartition(":")[2]
    yield provider, target_of("alpha", f"alpha.example:{port}")
    await provider.stop()


class Trap:
    """A listener inside the operator's network that nothing may connect to."""

    def __init__(self) -> None:
        self.connections = 0

    async def listen(self, port: int = 0) -> int:
        """Give the port at which it listens."""
        self._server = await asyncio.start_server(self._met, INSIDE, port)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def _met(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


async def _ask(channels: ProviderChannels, target: Target) -> bytes:
    return await channels.unary(target, METHOD, b"x", METADATA, 2.0)


async def _written(channels: ProviderChannels, target: Target) -> None:
    await channels.stream(target, METHOD, METADATA, 2.0).write(b"x")


async def _refused(channels: ProviderChannels, target: Target) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as failed:
        await _ask(channels, target)
    return failed.value


@pytest.mark.parametrize("host", [INSIDE, "inside.example", "[::1]"])
async def test_nothing_is_sent_to_an_endpoint_inside_the_operators_network(
    opened: Open, host: str
) -> None:
    trap = Trap()
    port = await trap.listen()
    channels = opened(Names([INSIDE]))
    target = target_of("alpha", f"{host}:{port}")
    failure = await _refused(channels, target)
    assert (failure.status, failure.reason, failure.never_sent) == (UNREACHABLE, NOT_ALLOWED, True)
    with pytest.raises(ProviderFailure) as failed:
        await _written(channels, target)
    assert failed.value.reason == NOT_ALLOWED
    assert (trap.connections, channels.channels) == (0, 0)
    await trap.close()


async def test_a_name_is_resolved_once_for_all_calls_that_come_at_once(
    opened: Open, alpha: tuple[HostileProvider, Target]
) -> None:
    names = Names([OUTSIDE])
    channels, (_, target) = opened(names), alpha
    answers = await asyncio.gather(*(_ask(channels, target) for _ in range(20)))
    assert answers == [b"answer"] * 20
    assert names.asked == ["alpha.example"]
    assert channels.channels == 1


@pytest.mark.fault
async def test_a_name_that_is_rebound_to_the_inside_gets_not_one_more_byte(
    opened: Open, alpha: tuple[HostileProvider, Target]
) -> None:
    provider, target = alpha
    trap = Trap()
    await trap.listen(int(target.endpoint.rpartition(":")[2]))
    names = Names([OUTSIDE], [INSIDE])
    channels = opened(names)
    assert await _ask(channels, target) == b"answer"
    # The channel goes on with what was checked, is checked again, and let go.
    await asyncio.sleep(2 * LIMITS.recheck_s)
    assert await _ask(channels, target) == b"answer"
    await until(lambda: not channels.channels)
    assert (await _refused(channels, target)).reason == NOT_ALLOWED
    assert len(provider.requests) == 2
    assert trap.connections == 0
    await trap.close()


@pytest.mark.fault
async def test_a_lost_connection_is_made_again_to_the_checked_address_only(
    opened: Open, alpha: tuple[HostileProvider, Target]
) -> None:
    provider, target = alpha
    trap = Trap()
    await trap.listen(int(target.endpoint.rpartition(":")[2]))
    channels = opened(Names([OUTSIDE], [INSIDE]))
    assert await _ask(channels, target) == b"answer"
    await provider.stop()
    for _ in range(3):
        assert (await _refused(channels, target)).status == UNREACHABLE
        await asyncio.sleep(2 * LIMITS.failed_recheck_s)
    await until(lambda: not channels.channels)
    assert (await _refused(channels, target)).reason == NOT_ALLOWED
    assert trap.connections == 0
    await trap.close()


async def test_a_provider_that_moves_is_found_at_its_new_address(
    opened: Open, alpha: tuple[HostileProvider, Target]
) -> None:
    _, target = alpha
    channels = opened(Names([EMPTY], [OUTSIDE]))
    assert (await _refused(channels, target)).status == UNREACHABLE
    await asyncio.sleep(2 * LIMITS.recheck_s)
    assert (await _refused(channels, target)).status == UNREACHABLE
    await until(lambda: not channels.channels)
    assert await _ask(channels, target) == b"answer"


async def test_a_name_that_cannot_be_resolved_for_a_moment_keeps_its_channel(
    opened: Open, alpha: tuple[HostileProvider, Target]
) -> None:
    names = Names([OUTSIDE], OSError("resolver away"))
    channels, (_, target) = opened(names), alpha
    assert await _ask(channels, target) == b"answer"
    await asyncio.sleep(2 * LIMITS.recheck_s)
    assert await _ask(channels, target) == b"answer"
    await until(lambda: len(names.asked) > 1)
    assert await _ask(channels, target) == b"answer"
    assert channels.channels == 1


async def test_a_name_that_nobody_knows_is_unreachable_and_was_never_asked(opened: Open) -> None:
    names = Names(OSError("no such name"), [OUTSIDE])
    channels = opened(names)
    failure = await _refused(channels, target_of("alpha", "nowhere.example:443"))
    assert failure.reason == ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE
    assert failure.never_sent
    assert names.asked == ["nowhere.example"]


async def test_a_slow_resolver_costs_a_call_its_budget_and_no_more(opened: Open) -> None:
    async def slow(_host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    channels = opened(slow)
    target = target_of("alpha", "slow.example:443")
    with pytest.raises(ProviderFailure) as failed:
        await channels.unary(target, METHOD, b"x", METADATA, 0.05)
    assert (failed.value.status, failed.value.never_sent) == (TIMED_OUT, True)
    waiting = asyncio.create_task(_ask(channels, target))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    late = asyncio.create_task(_ask(channels, target))
    await asyncio.sleep(0.01)
    await channels.close()
    with pytest.raises(ProviderFailure):
        await late


async def test_a_stream_to_a_name_begins_once_it_is_resolved(
    opened: Open, alpha: tuple[HostileProvider, Target]
) -> None:
    channels, (provider, target) = opened(Names([OUTSIDE])), alpha
    stream = channels.stream(target, METHOD, METADATA, 2.0)
    await stream.write(b"x")
    await stream.done_writing()
    assert await stream.read() == b"answer"
    assert await stream.read() is None
    stream.cancel()
    assert provider.requests == [b"x"]


async def test_a_stream_that_is_cancelled_before_its_name_is_resolved_never_begins(
    opened: Open, alpha: tuple[HostileProvider, Target]
) -> None:
    channels, (provider, target) = opened(Names([OUTSIDE])), alpha
    stream = channels.stream(target, METHOD, METADATA, 2.0)
    stream.cancel()
    with pytest.raises((asyncio.CancelledError, ProviderFailure)):
        await stream.read()
    await asyncio.sleep(0.05)
    assert provider.requests == []
