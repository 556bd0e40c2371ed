"""One operator's EVSE search as an ordinary partner: `python -m mobility.provider --config FILE`.

The process serves over mutual TLS and takes calls from the marketplace alone. When it serves, it
writes one line of JSON with its port to standard output. SIGTERM, SIGINT or the end of its parent
drain it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

import asyncpg
import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from foundation.errors import SettingsError
from foundation.lifetime import wait_for_stop
from gem.charging.v1 import evse_search_service_pb2, evse_search_service_pb2_grpc
from interceptors.provider_side import MarketplaceOnly
from mobility.evse_search_servicer import EvseSearchServicer
from mobility.provider_settings import ProviderSettings, read_settings
from mobility.storage import DATABASE_ERRORS, EvseStorage, open_pool

SERVICE = evse_search_service_pb2.DESCRIPTOR.services_by_name["EvseSearchService"].full_name
_PROBE_PERIOD_S = 5.0
_PROBE_TIMEOUT_S = 3.0
_OPTIONS = (
    ("grpc.max_receive_message_length", 1_048_576),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.server_handshake_timeout_ms", 3000),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 16_384),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # The router pings every 10 s, also between calls.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)
_log = structlog.get_logger("mobility")


class Provider:
    """A serving provider; `port` is where."""

    def __init__(
        self,
        server: grpc.aio.Server,
        port: int,
        pool: asyncpg.Pool[asyncpg.Record],
        health_servicer: health.aio.HealthServicer,
    ) -> None:
        self.port = port
        self._server = server
        self._pool = pool
        self._health = health_servicer
        self._probing = asyncio.create_task(self._probe())

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, let calls in flight end within the grace, close the database."""
        self._probing.cancel()
        await asyncio.wait((self._probing,))
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _probe(self) -> None:
        """Tell by grpc.health.v1 whether the database answers."""
        storage = EvseStorage(self._pool)
        while True:
            status = health_pb2.HealthCheckResponse.SERVING
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    await storage.probe()
            except DATABASE_ERRORS:
                status = health_pb2.HealthCheckResponse.NOT_SERVING
            for name in ("", SERVICE):
                await self._health.set(name, status)
            await asyncio.sleep(_PROBE_PERIOD_S)


async def serve(settings: ProviderSettings) -> Provider:
    """Start to serve; the database may be away.

    Raises:
        SettingsError: a PEM file cannot be used, or the port is taken.
    """
    credentials = grpc.ssl_server_credentials(
        [(_pem(settings, "key_file"), _pem(settings, "certificate_file"))],
        root_certificates=_pem(settings, "ca_file"),
        require_client_auth=True,
    )
    pool = await open_pool(settings.database_url, settings.pool_size)
    server = grpc.aio.server(
        interceptors=(MarketplaceOnly(settings.trust_domain),), options=_OPTIONS
    )
    servicer = EvseSearchServicer(EvseStorage(pool), settings.operator_name, settings.partner_id)
    evse_search_service_pb2_grpc.add_EvseSearchServiceServicer_to_server(servicer, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    try:
        port = server.add_secure_port(f"{settings.host}:{settings.port}", credentials)
    except RuntimeError:
        await pool.close()
        raise SettingsError("port", "it is taken, or the key and certificate do not fit") from None
    await server.start()
    return Provider(server, port, pool, health_servicer)


def _pem(settings: ProviderSettings, name: str) -> bytes:
    path: Path = getattr(settings, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(name, f"the file cannot be read: {error.strerror}") from None


async def run(settings: ProviderSettings) -> None:
    """Serve until a signal comes, then drain."""
    provider = await serve(settings)
    sys.stdout.write(json.dumps({"port": provider.port}) + "\n")
    sys.stdout.flush()
    reason = await wait_for_stop()
    _log.info("draining", reason=reason)
    await provider.stop(settings.drain_s)


def main() -> None:
    """Run the provider of a settings file; exit status 2 says that the settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m mobility.provider", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    arguments = parser.parse_args()
    try:
        uvloop.run(run(read_settings(arguments.config)))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
