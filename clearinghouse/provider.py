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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
import uvloop

from clearinghouse.provider_settings import ProviderSettings, read_settings
from clearinghouse.settlement_services import add_settlement, add_tariffs
from clearinghouse.storage import Pool, open_pool, probe
from foundation.errors import SettingsError
from foundation.lifetime import wait_for_stop
from interceptors.provider_server import Listener, ProviderServer

_CLOSE_TIMEOUT_S = 3.0
_log = structlog.get_logger("clearinghouse")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the servicers of the clearing house work with."""

    settings: ProviderSettings
    pool: Pool


#: Every service of the clearing house by its full name, and what adds it to a server.
SERVICES: Mapping[str, Callable[[grpc.aio.Server, Parts], None]] = {
    "gem.roaming.v1.SettlementService": add_settlement,
    "gem.roaming.v1.TariffService": add_tariffs,
}


class Provider:
    """A serving clearing house; `port` is where."""

    def __init__(self, server: ProviderServer, pool: Pool) -> None:
        self.port = server.port
        self._server = server
        self._pool = pool

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, let calls in flight end within the grace, close the database."""
        await self._server.stop(grace_s)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def serve(settings: ProviderSettings) -> Provider:
    """Start to serve; the database may be away.

    Raises:
        SettingsError: a PEM file cannot be used, or the port is taken.
    """
    pool = await open_pool(settings.database_url, settings.pool_size)
    server = ProviderServer(_listener(settings), tuple(SERVICES), lambda: probe(pool))
    for add in SERVICES.values():
        add(server.server, Parts(settings, pool))
    try:
        await server.start()
    except SettingsError:
        await pool.close()
        raise
    return Provider(server, pool)


def _listener(settings: ProviderSettings) -> Listener:
    return Listener(
        host=settings.host,
        port=settings.port,
        key_file=settings.key_file,
        certificate_file=settings.certificate_file,
        ca_file=settings.ca_file,
        trust_domain=settings.trust_domain,
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
    """Run the process of a settings file; exit status 2 says that the settings are wrong."""
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
