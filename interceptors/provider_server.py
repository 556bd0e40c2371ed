"""A partner's own server, whole: mutual TLS, calls of the marketplace alone, health, drain.

Needs `grpcio-health-checking` besides what the extra `provider` brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from foundation.errors import SettingsError
from interceptors.listener_credentials import listener_credentials
from interceptors.provider_side import MarketplaceOnly

_PROBE_PERIOD_S = 5.0
_PROBE_TIMEOUT_S = 3.0
#: Of every provider's server.
SERVER_OPTIONS = (
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.server_handshake_timeout_ms", 3000),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 16_384),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # The router pings every 10 s, also between calls.
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a provider serves, and how it proves who it is."""

    host: str
    #: Zero takes a free port.
    port: int
    #: PEM files: the key, its certificate with the issuing one, the market's root. A renewed
    #: certificate is taken for new connections without a restart.
    key_file: Path
    certificate_file: Path
    ca_file: Path
    trust_domain: str
    #: Longest message that the marketplace may send.
    request_bytes_max: int = 1_048_576


async def _always() -> bool:
    return True


class ProviderServer:
    """A provider's server with health service; `port` is where it serves once it has started."""

    def __init__(
        self,
        listener: Listener,
        services: Sequence[str],
        can_serve: Callable[[], Awaitable[bool]] = _always,
    ) -> None:
        """Make a server of the named services.

        `can_serve` is asked every few seconds whether calls could be answered; without an answer
        in time they could not. A server that depends on nothing needs none.
        """
        self.port = 0
        self._listener = listener
        self._names = ("", *services)
        self._can_serve = can_serve
        self._health = health.aio.HealthServicer()
        limit = ("grpc.max_receive_message_length", listener.request_bytes_max)
        #: Add servicers to it before it is started.
        self.server = grpc.aio.server(
            interceptors=(MarketplaceOnly(listener.trust_domain),), options=(*SERVER_OPTIONS, limit)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        self._probing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to serve.

        Raises:
            SettingsError: a PEM file cannot be used, or the port is taken.
        """
        listener = self._listener
        for name in ("key_file", "certificate_file", "ca_file"):
            _check_readable(name, getattr(listener, name))
        credentials = listener_credentials(
            listener.certificate_file, listener.key_file, listener.ca_file
        )
        address = f"{listener.host}:{listener.port}"
        try:
            self.port = self.server.add_secure_port(address, credentials)
        except RuntimeError:
            text = "it is taken, or the key and certificate do not fit"
            raise SettingsError("port", text) from None
        await self.server.start()
        self._probing = asyncio.create_task(self._probe())

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, and let calls in flight end within the grace."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait((self._probing,))
        await self._health.enter_graceful_shutdown()
        await self.server.stop(grace_s)

    async def _probe(self) -> None:
        while True:
            well = False
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    well = await self._can_serve()
            statuses = health_pb2.HealthCheckResponse
            for name in self._names:
                await self._health.set(name, statuses.SERVING if well else statuses.NOT_SERVING)
            await asyncio.sleep(_PROBE_PERIOD_S)


def _check_readable(name: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(name, f"the file cannot be read: {error.strerror}") from None
