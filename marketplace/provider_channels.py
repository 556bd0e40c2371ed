"""The transport towards providers on grpc.aio: one long-lived channel for each endpoint.

A channel proves twice who is there: the endpoint presents a certificate of that partner, whatever
its host name, and the marketplace presents its own. It connects to addresses that the policy of
`endpoint_policy.py` allows and to no others: names are resolved here, never by gRPC.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpc's core has no types

from foundation.certificates import provider_dns_name
from marketplace.endpoint_policy import EndpointCheck, EndpointRefusedError, grpc_target
from marketplace.late_stream import LateStream
from marketplace.provider_status import (
    failure_of_status,
    invalid_answer,
    not_allowed,
    timed_out,
    unreachable,
)
from marketplace.router.target import Target
from marketplace.router.transport import Metadata, ProviderFailure, ProviderStream

_CODES = {code: code.value[0] for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Limits of the connections to providers. Times are in seconds, sizes in bytes."""

    max_answer_bytes: int = 1 << 20
    #: Endpoints connected at the same time; beyond that the one unused for longest is closed.
    max_channels: int = 2000
    #: A channel that nobody used for so long is closed.
    idle_s: float = 300.0
    #: How long calls in flight may take to end on a channel that is being replaced.
    retire_s: float = 60.0
    #: Methods of one endpoint whose callables are kept.
    max_methods: int = 500
    #: A name is resolved and checked again once its channel is used after so long.
    recheck_s: float = 30.0
    #: The same for a channel that does not connect.
    failed_recheck_s: float = 1.0


@dataclass(frozen=True, slots=True)
class MarketplaceCertificate:
    """The marketplace's key and certificate as PEM, and the root that providers' ones lead to."""

    root_pem: bytes
    key_pem: bytes = field(repr=False)
    chain_pem: bytes


def channel_options(target_name: str, limits: ChannelLimits) -> list[tuple[str, str | int]]:
    """Give the options of a channel to the partner whose certificate carries `target_name`."""
    return [
        ("grpc.ssl_target_name_override", target_name),
        ("grpc.max_receive_message_length", limits.max_answer_bytes),
        # Only uncompressed answers: what is announced is what it takes.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_metadata_size", 8192),
        ("grpc.absolute_max_metadata_size", 16384),
        # Else two partners at one address would share a connection, and its one certificate check.
        ("grpc.use_local_subchannel_pool", 1),
        # A provider that stopped without a word is found in 15 s.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # The router alone decides what is asked again.
        ("grpc.enable_retries", 0),
        # Neither the environment nor a provider's DNS decides how it is reached.
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
    ]


@dataclass(slots=True)
class _Link:
    """One channel with the callables of the methods used on it."""

    channel: grpc.aio.Channel
    #: The checked addresses that it connects to.
    addresses: tuple[str, ...]
    used_s: float
    #: When the name is to be resolved again; never where the endpoint is an address.
    recheck_at_s: float
    in_flight: int = 0
    unary: dict[str, Any] = field(default_factory=dict)


class ProviderChannels:
    """Implements `marketplace.router.transport.ProviderTransport`; made inside its event loop."""

    def __init__(
        self,
        certificate: MarketplaceCertificate,
        trust_domain: str,
        limits: ChannelLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        endpoints: EndpointCheck | None = None,
    ) -> None:
        """Without `endpoints` only public addresses are called."""
        self._endpoints = endpoints or EndpointCheck()
        self._trust_domain = trust_domain
        self._limits = limits or ChannelLimits()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._credentials = _credentials(certificate)
        #: By partner id and endpoint, in order of making; all of the newest certificate.
        self._links: dict[tuple[str, str], _Link] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        #: Names that are being resolved for the first call, and again.
        self._opening: dict[tuple[str, str], asyncio.Task[_Link | ProviderFailure]] = {}
        self._rechecking: set[asyncio.Task[None]] = set()
        self._closed = False
        self._sweeper = self._loop.call_later(self._limits.idle_s / 2, self._sweep)

    async def unary(
        self, target: Target, method: str, request: bytes, metadata: Metadata, timeout_s: float
    ) -> bytes:
        """Ask with one message for one message; see `ProviderTransport`."""
        link = self._link(target)
        if link is None:
            begun_s = self._clock()
            link = await self._opened(target, timeout_s)
            timeout_s -= self._clock() - begun_s
        ask = link.unary.get(method)
        if ask is None:
            ask = self._callable(link, method)
        link.in_flight += 1
        try:
            # The view of a dict, since a sequence of pairs is copied twice on its way.
            answer = await ask(request, metadata=dict(metadata).items(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            failure = _failure(link.channel, error)
            if failure.never_sent:
                recheck_at_s = self._clock() + self._limits.failed_recheck_s
                link.recheck_at_s = min(link.recheck_at_s, recheck_at_s)
            raise failure from None
        except asyncio.CancelledError:
            raise _cancelled() from None
        finally:
            link.in_flight -= 1
        if answer is None:
            raise invalid_answer()
        return answer  # type: ignore[no-any-return]  # without a deserializer it is bytes

    def stream(
        self, target: Target, method: str, metadata: Metadata, timeout_s: float
    ) -> ProviderStream:
        """Start a call of any kind; see `ProviderTransport`."""
        link = self._link(target)
        if link is None:
            return LateStream(self._late(target, method, metadata, timeout_s))
        return _begin(link, method, metadata, timeout_s)

    async def _late(
        self, target: Target, method: str, metadata: Metadata, timeout_s: float
    ) -> ProviderStream:
        begun_s = self._clock()
        link = await self._opened(target, timeout_s)
        return _begin(link, method, metadata, timeout_s - (self._clock() - begun_s))

    async def rotate(self, certificate: MarketplaceCertificate) -> None:
        """Present a new certificate from the next call on; calls in flight end undisturbed."""
        self._credentials = _credentials(certificate)
        for key in list(self._links):
            self._retire(key)

    async def close(self) -> None:
        """Close all channels; calls in flight end as unreachable."""
        self._closed = True
        self._sweeper.cancel()
        links = list(self._links.values())
        self._links.clear()
        ending = (*self._retiring, *self._opening.values(), *self._rechecking)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.gather(*(link.channel.close() for link in links))

    @property
    def channels(self) -> int:
        """Number of channels that new calls use."""
        return len(self._links)

    def _link(self, target: Target) -> _Link | None:
        """Give the channel to a target; None where the name of a new one has to be resolved."""
        key = (target.provider_id, target.endpoint)
        link = self._links.get(key)
        if link is None:
            try:
                addresses = self._endpoints.literal(target.endpoint)
            except EndpointRefusedError:
                raise not_allowed() from None
            if addresses is None:
                return None
            link = self._open(key, addresses, math.inf)
        now_s = link.used_s = self._clock()
        if now_s > link.recheck_at_s:
            link.recheck_at_s = now_s + self._limits.recheck_s
            task = self._loop.create_task(self._recheck(key, link))
            self._rechecking.add(task)
            task.add_done_callback(self._rechecking.discard)
        return link

    async def _opened(self, target: Target, timeout_s: float) -> _Link:
        """Give the channel to a name that is resolved first, once for all who wait for it."""
        key = (target.provider_id, target.endpoint)
        task = self._opening.get(key)
        if task is None:
            task = self._opening[key] = self._loop.create_task(self._resolved(key))
            task.add_done_callback(lambda _: self._opening.pop(key, None))
        try:
            async with asyncio.timeout(timeout_s):
                link = await asyncio.shield(task)
        except TimeoutError:
            raise timed_out(never_sent=True) from None
        except asyncio.CancelledError:
            raise _cancelled() from None
        if isinstance(link, ProviderFailure):
            # Each waiter raises an exception of its own.
            raise dataclasses.replace(link)
        link.used_s = self._clock()
        return link

    async def _resolved(self, key: tuple[str, str]) -> _Link | ProviderFailure:
        try:
            addresses = await self._endpoints.addresses(key[1])
            return self._open(key, addresses, self._clock() + self._limits.recheck_s)
        except EndpointRefusedError as refused:
            return not_allowed() if refused.resolved else unreachable(never_sent=True)
        except ProviderFailure as failure:
            return failure

    async def _recheck(self, key: tuple[str, str], link: _Link) -> None:
        """Resolve a name again; let go of its channel where it leads elsewhere by now.

        A name that cannot be resolved for the moment keeps its channel: what that connects to was
        checked.
        """
        try:
            addresses = await self._endpoints.addresses(key[1])
        except EndpointRefusedError as refused:
            if not refused.resolved:
                return
            addresses = ()
        if self._links.get(key) is link and not set(addresses) & set(link.addresses):
            self._retire(key)

    def _open(self, key: tuple[str, str], addresses: tuple[str, ...], recheck_at_s: float) -> _Link:
        if self._closed:
            raise unreachable(never_sent=True)
        if len(self._links) >= self._limits.max_channels:
            self._retire(min(self._links, key=lambda each: self._links[each].used_s))
        provider_id, endpoint = key
        name = provider_dns_name(self._trust_domain, provider_id)
        channel = grpc.aio.secure_channel(
            grpc_target(addresses, endpoint),
            self._credentials,
            channel_options(name, self._limits),
        )
        link = self._links[key] = _Link(channel, addresses, self._clock(), recheck_at_s)
        return link

    def _callable(self, link: _Link, method: str) -> Any:
        if len(link.unary) >= self._limits.max_methods:
            link.unary.clear()
        ask = link.unary[method] = link.channel.unary_unary(method)
        return ask

    def _retire(self, key: tuple[str, str]) -> None:
        """Take a channel out of use, and close it when its calls have ended."""
        link = self._links.pop(key)
        task = self._loop.create_task(_close(link, self._limits.retire_s))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(self._limits.idle_s / 2, self._sweep)
        before_s = self._clock() - self._limits.idle_s
        for key, link in list(self._links.items()):
            if link.used_s < before_s and not link.in_flight:
                self._retire(key)


class _GrpcStream:
    """Implements `marketplace.router.transport.ProviderStream`."""

    def __init__(self, channel: grpc.aio.Channel, call: Any) -> None:
        self._channel = channel
        self._call = call

    async def write(self, message: bytes) -> None:
        # Straight to grpc's core: `call.write` of a call that has just ended puts its own INTERNAL
        # in the place of the provider's status, and loses the answers that came before it.
        call = self._call
        try:
            await call._metadata_sent.wait()  # noqa: SLF001 - as `call.write` does
            if call.done():
                await self._check_end()
            else:
                await call._cython_call.send_serialized_message(message)  # noqa: SLF001
        except cygrpc.InternalError:
            return  # The call has ended: answers and status are still to be read.
        except asyncio.CancelledError:
            raise _cancelled() from None

    async def done_writing(self) -> None:
        try:
            await self._call.done_writing()
        except grpc.aio.AioRpcError as error:
            raise _failure(self._channel, error) from None
        except cygrpc.InternalError:
            return
        except asyncio.CancelledError:
            raise _cancelled() from None

    async def read(self) -> bytes | None:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _failure(self._channel, error) from None
        except asyncio.CancelledError:
            raise _cancelled() from None
        return message if isinstance(message, bytes) else None

    def cancel(self) -> None:
        self._call.cancel()

    async def _check_end(self) -> None:
        """Raise the failure of a call that ended while there was more to write.

        A provider that answered without reading everything has not failed.
        """
        code = _CODES[await self._call.code()]
        if code:
            text = await self._call.details() or ""
            raise failure_of_status(code, text, connected=_connected(self._channel))


def _begin(link: _Link, method: str, metadata: Metadata, timeout_s: float) -> ProviderStream:
    call: Any = link.channel.stream_stream(method)(metadata=metadata, timeout=timeout_s)
    link.in_flight += 1
    call.add_done_callback(lambda _: _count_down(link))
    return _GrpcStream(link.channel, call)


def _credentials(certificate: MarketplaceCertificate) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        certificate.root_pem, certificate.key_pem, certificate.chain_pem
    )


async def _close(link: _Link, grace_s: float) -> None:
    await link.channel.close(grace_s)


def _count_down(link: _Link) -> None:
    link.in_flight -= 1


def _connected(channel: grpc.aio.Channel) -> bool:
    return channel.get_state() is grpc.ChannelConnectivity.READY


def _failure(channel: grpc.aio.Channel, error: grpc.aio.AioRpcError) -> ProviderFailure:
    text = error.details() or ""
    return failure_of_status(_CODES[error.code()], text, connected=_connected(channel))


def _cancelled() -> BaseException:
    """Give what a CancelledError means: our own task's, or the channel that was closed under it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return asyncio.CancelledError()
    return unreachable()
