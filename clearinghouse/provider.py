"""The clearing house as an ordinary partner: `python -m clearinghouse.provider --config FILE`.

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

import structlog
import uvloop

from clearinghouse.cdr_decision_servicer import CdrDecisionServicer
from clearinghouse.cdr_intake_servicer import CdrIntakeServicer
from clearinghouse.cdr_parts import CdrParts
from clearinghouse.cdr_reading_servicer import CdrReadingServicer
from clearinghouse.market_client import MarketAccess, MarketClient
from clearinghouse.provider_settings import ProviderSettings, read_settings
from clearinghouse.storage import Pool, open_pool, probe
from clearinghouse.token_hash import TokenHashing, read_token_key
from foundation.errors import SettingsError
from foundation.lifetime import wait_for_stop
from gem.roaming.v1 import clearing_service_pb2, clearing_service_pb2_grpc
from interceptors.provider_server import Listener, ProviderServer

SERVICE = clearing_service_pb2.DESCRIPTOR.services_by_name["ClearingService"].full_name
_CLOSE_TIMEOUT_S = 3.0
#: Longest message: 500 charge detail records.
_REQUEST_BYTES_MAX = 4 << 20
_log = structlog.get_logger("clearinghouse")


class ClearingServicer(CdrIntakeServicer, CdrReadingServicer, CdrDecisionServicer):
    """Serves ClearingService: each base class serves a part of it."""

    def __init__(self, parts: CdrParts) -> None:
        self._cdrs = parts


class Provider:
    """A serving clearing house; `port` is where."""

    def __init__(
        self, server: ProviderServer, pool: Pool, market: MarketClient, cdrs: CdrParts
    ) -> None:
        self.port = server.port
        self._server = server
        self._pool = pool
        self._market = market
        self._cdrs = cdrs

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, let calls in flight end within the grace, close what is open."""
        await self._server.stop(grace_s)
        await self._cdrs.stop()
        await self._market.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def serve(settings: ProviderSettings) -> Provider:
    """Start to serve; the database may be away.

    Raises:
        SettingsError: a file cannot be used, or the port is taken.
    """
    hashing = TokenHashing(read_token_key(settings.token_key_file))
    pool = await open_pool(settings.database_url, settings.pool_size)
    market = MarketClient(
        MarketAccess(
            settings.market_address,
            settings.key_file,
            settings.certificate_file,
            settings.ca_file,
            settings.market_name,
        )
    )
    cdrs = CdrParts(pool, hashing, market)
    server = ProviderServer(_listener(settings), (SERVICE,), lambda: probe(pool))
    servicer = ClearingServicer(cdrs)  # type: ignore[abstract]  # authorization is part A
    clearing_service_pb2_grpc.add_ClearingServiceServicer_to_server(servicer, server.server)
    try:
        await server.start()
    except SettingsError:
        await pool.close()
        raise
    cdrs.start()
    return Provider(server, pool, market, cdrs)


def _listener(settings: ProviderSettings) -> Listener:
    return Listener(
        host=settings.host,
        port=settings.port,
        key_file=settings.key_file,
        certificate_file=settings.certificate_file,
        ca_file=settings.ca_file,
        trust_domain=settings.trust_domain,
        request_bytes_max=_REQUEST_BYTES_MAX,
    )


async def run(settings: ProviderSettings) -> None:
    """Serve until a signal comes, then drain."""
    provider = await serve(settings)
    sys.stdout.write(json.dumps({"port": provider.port}) + "\n")
    sys.stdout.flush()
    reason = await wait_for_stop()
    _log.info("draining", reason=reason)
    await provider.stop(settings.drain_s)


def main() -> None:
    """Run the clearing house of a settings file; exit status 2 says that the settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m clearinghouse.provider", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    arguments = parser.parse_args()
    try:
        uvloop.run(run(read_settings(arguments.config)))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
