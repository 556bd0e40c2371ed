"""A clearing house as an ordinary partner: `python -m clearinghouse.provider --config FILE`.

The process serves over mutual TLS, takes calls from the marketplace alone and reaches EVSPs through
it. When it serves, it writes one line of JSON with its port to standard output. SIGTERM, SIGINT or
the end of its parent drain it. Any number of processes may serve one database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import structlog
import uvloop

from clearinghouse.authorization_servicer import AuthorizationServicer
from clearinghouse.cdr_decision_servicer import CdrDecisionServicer
from clearinghouse.cdr_intake_servicer import CdrIntakeServicer
from clearinghouse.cdr_parts import CdrParts
from clearinghouse.cdr_reading_servicer import CdrReadingServicer
from clearinghouse.clearing_contract_servicer import ClearingContractServicer
from clearinghouse.contract_follower import ContractFollower
from clearinghouse.customer_contract import ContractReader
from clearinghouse.evse_directory import EvseDirectory
from clearinghouse.market_client import MarketAccess, MarketClient
from clearinghouse.notice_forwarder import NoticeForwarder
from clearinghouse.parts import Parts
from clearinghouse.process_log import configure_log
from clearinghouse.provider_owner import ProviderOwners
from clearinghouse.provider_settings import ProviderSettings, read_settings
from clearinghouse.settlement_services import add_settlement, add_tariffs
from clearinghouse.storage import open_pool, probe
from clearinghouse.token_hash import TokenHashing, read_token_key
from foundation.errors import SettingsError
from foundation.lifetime import wait_for_stop
from gem.roaming.v1 import (
    clearing_contract_service_pb2_grpc,
    clearing_service_pb2_grpc,
)
from interceptors.provider_server import Listener, ProviderServer

_CLOSE_TIMEOUT_S = 3.0
#: Longest message: a load's 1000 contracts, or 500 charge detail records.
_REQUEST_BYTES_MAX = 4 << 20
_log = structlog.get_logger("clearinghouse")


class ClearingServicer(
    AuthorizationServicer, CdrIntakeServicer, CdrReadingServicer, CdrDecisionServicer
):
    """Serves ClearingService: each base class serves a part of it."""

    def __init__(self, parts: Parts) -> None:
        AuthorizationServicer.__init__(self, parts)
        self._cdrs = parts.cdrs


def add_clearing(server: grpc.aio.Server, parts: Parts) -> None:
    """Add authorizations, session notices and charge detail records."""
    servicer = ClearingServicer(parts)
    clearing_service_pb2_grpc.add_ClearingServiceServicer_to_server(servicer, server)


def add_contracts(server: grpc.aio.Server, parts: Parts) -> None:
    """Add agreements, customers' contracts, the blacklist and explanations."""
    servicer = ClearingContractServicer(parts)
    clearing_contract_service_pb2_grpc.add_ClearingContractServiceServicer_to_server(
        servicer, server
    )


#: Every service of the clearing house by its full name, and what adds it to a server.
SERVICES: Mapping[str, Callable[[grpc.aio.Server, Parts], None]] = {
    "gem.roaming.v1.ClearingService": add_clearing,
    "gem.roaming.v1.ClearingContractService": add_contracts,
    "gem.roaming.v1.SettlementService": add_settlement,
    "gem.roaming.v1.TariffService": add_tariffs,
}


def background(parts: Parts) -> list[Coroutine[Any, Any, None]]:
    """Give what runs beside the calls, each until it is cancelled."""
    lasting = timedelta(days=parts.settings.notice_days)
    return [
        ContractFollower(parts).run(),
        NoticeForwarder(parts.pool, parts.market, lasting).run(),
        EvseDirectory(parts.pool, parts.market, parts.settings.partner_id).run(),
    ]


class Provider:
    """A serving clearing house; `port` is where."""

    def __init__(self, server: ProviderServer, parts: Parts) -> None:
        self.port = server.port
        self.parts = parts
        self._server = server
        self._tasks = [asyncio.create_task(each) for each in background(parts)]
        parts.cdrs.start()

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, let calls in flight end within the grace, close everything."""
        await self._server.stop(grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.parts.cdrs.stop()
        await self.parts.market.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.parts.pool.close()
        self.parts.pool.terminate()


async def serve(settings: ProviderSettings) -> Provider:
    """Start to serve; the database and the marketplace may be away.

    Raises:
        SettingsError: a file cannot be used, or the port is taken.
    """
    hashing = TokenHashing(read_token_key(settings.token_key_file))
    pool = await open_pool(settings.database_url, settings.pool_size)
    market = MarketClient(_access(settings))
    parts = Parts(
        settings=settings,
        pool=pool,
        hashing=hashing,
        reader=ContractReader(hashing, settings.check_policy),
        market=market,
        owners=ProviderOwners(market),
        cdrs=CdrParts(pool, hashing, market),
    )
    server = ProviderServer(_listener(settings), tuple(SERVICES), lambda: probe(pool))
    for add in SERVICES.values():
        add(server.server, parts)
    try:
        await server.start()
    except SettingsError:
        await server.stop(0.0)
        await pool.close()
        raise
    return Provider(server, parts)


def _access(settings: ProviderSettings) -> MarketAccess:
    return MarketAccess(
        address=settings.market_address,
        key_file=settings.key_file,
        certificate_file=settings.certificate_file,
        ca_file=settings.ca_file,
        name=settings.market_name,
    )


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
    stopping = asyncio.create_task(wait_for_stop())
    # Whoever reads the line may send a signal at once.
    await asyncio.sleep(0)
    sys.stdout.write(json.dumps({"port": provider.port}) + "\n")
    sys.stdout.flush()
    reason = await stopping
    _log.info("draining", reason=reason)
    await provider.stop(settings.drain_s)


def main() -> None:
    """Run the clearing house of a settings file; exit status 2 says that the settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m clearinghouse.provider", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    arguments = parser.parse_args()
    # Standard output is for the one line that says the port.
    configure_log()
    try:
        uvloop.run(run(read_settings(arguments.config)))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
