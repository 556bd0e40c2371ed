"""`evse-search`: one million EVSEs, a 10 km circle with filters, through the provider's gRPC."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from grpc import aio

from bench.answers import METHOD
from bench.load import measure
from bench.stage import start_python
from foundation.certificates import (
    CertificateAuthority,
    marketplace_uri,
    new_key_and_csr,
    partner_uri,
    provider_dns_name,
)
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from gem.charging.v1 import evse_pb2, evse_search_service_pb2
from gem.common.v1 import geo_pb2
from gemarket.identity import Identity, channel_credentials
from gemarket.ports import free_port
from mobility.operator_name import name_key, partner_id_of
from mobility.storage import EvseStorage, open_pool
from mobility.synthetic import SyntheticOperator, generate

EVSES = 1_000_000
_OPERATOR = SyntheticOperator("Synthetic Operator", "DE*SYN")
_TRUST_DOMAIN = "gem.example"
_METADATA = (
    ("gem-requester", "bench-evsp"),
    ("gem-contract", "bench-contract"),
    ("gem-call", "018f0000-0000-7000-8000-000000000000"),
)
_SEARCHES = 600
_IN_FLIGHT = 2


def _issue(authority: CertificateAuthority, folder: Path, uri: str, *names: str) -> Identity:
    key, csr = new_key_and_csr("bench")
    issued = authority.issue_from_csr(csr, uri, names, client=True, server=True)
    identity = Identity(folder)
    identity.write(key, issued.chain_pem, authority.root_pem)
    return identity


@asynccontextmanager
async def _provider(root: Path, url: str) -> AsyncIterator[aio.Channel]:
    """Run the provider as the marketplace sees it; gives a channel to it."""
    authority = CertificateAuthority.create(root / "ca", _TRUST_DOMAIN)
    partner_id = partner_id_of(_OPERATOR.name)
    dns_name = provider_dns_name(_TRUST_DOMAIN, partner_id)
    own = _issue(authority, root / "own", partner_uri(_TRUST_DOMAIN, partner_id), dns_name)
    market = _issue(authority, root / "market", marketplace_uri(_TRUST_DOMAIN))
    port = free_port()
    config = root / "provider.json"
    content = {
        "partner_id": partner_id,
        "database_url": url,
        "port": port,
        "key_file": str(own.key_file),
        "certificate_file": str(own.certificate_file),
        "ca_file": str(own.ca_file),
        "trust_domain": _TRUST_DOMAIN,
    }
    config.write_text(json.dumps(content))
    process = await start_python("mobility.provider", "--config", str(config))
    options = [("grpc.ssl_target_name_override", dns_name)]
    try:
        address = f"127.0.0.1:{port}"
        async with aio.secure_channel(address, channel_credentials(market), options) as channel:
            yield channel
    finally:
        process.terminate()
        await process.wait()


def _requests(places: list[tuple[int, int]], seed: int = 1) -> list[bytes]:
    """Make searches around real places of the data set, with the filters that drivers use."""
    chance = random.Random(seed)  # made-up searches
    requests = []
    for latitude_e7, longitude_e7 in places:
        center = geo_pb2.GeoPoint(latitude_e7=latitude_e7, longitude_e7=longitude_e7)
        filter_ = evse_search_service_pb2.EvseFilter(
            statuses=[evse_pb2.EVSE_STATUS_AVAILABLE],
            plugs=[evse_pb2.PLUG_TYPE_TYPE_2, evse_pb2.PLUG_TYPE_CCS_2],
            min_power_w=chance.choice((11_000, 22_000, 50_000)),
        )
        request = evse_search_service_pb2.SearchEvsesRequest(
            circle=geo_pb2.GeoCircle(center=center, radius_m=10_000),
            filter=filter_,
            ordering=evse_search_service_pb2.EVSE_ORDERING_DISTANCE,
            limit=50,
        )
        requests.append(request.SerializeToString())
    return requests


async def evse_search() -> dict[str, float]:
    """Reach: p99 ≤ 50 ms."""
    with tempfile.TemporaryDirectory(prefix="gem-bench-") as folder:
        root = Path(folder)
        server = EmbeddedPostgres(root)
        url = server.start()
        try:
            await migrate(url, "mobility")
            places = await _fill(url)
            async with _provider(root, url) as channel:
                return await _search(channel, _requests(places))
        finally:
            server.stop()


async def _fill(url: str) -> list[tuple[int, int]]:
    """Generate the EVSEs; gives places to search around, as dense as the data is."""
    async with open_pool(url) as pool:
        storage = EvseStorage(pool)
        key = name_key(_OPERATOR.name)
        partner_id = partner_id_of(_OPERATOR.name)
        await storage.register([(key, _OPERATOR.name, partner_id, [_OPERATOR.operator_id])])
        operator = await storage.operator(key, None)
        assert operator is not None
        await generate(storage, operator.operator_ref, _OPERATOR, EVSES)
        rows = await pool.fetch(
            "SELECT latitude_e7, longitude_e7 FROM mobility.evse TABLESAMPLE SYSTEM (1)"
            " ORDER BY random() LIMIT 500"
        )
    return [(row["latitude_e7"], row["longitude_e7"]) for row in rows]


async def _search(channel: aio.Channel, requests: list[bytes]) -> dict[str, float]:
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
    turn = iter(requests * 10)
    found = []

    async def ask() -> object:
        raw = await call(next(turn), timeout=10, metadata=_METADATA)
        answer = evse_search_service_pb2.SearchEvsesResponse.FromString(raw)
        found.append(len(answer.evses))
        return raw

    await measure(ask, 200, [], _IN_FLIGHT)
    measured = await measure(ask, _SEARCHES, [], _IN_FLIGHT)
    sys.stdout.flush()
    return {
        "p50_ms": round(measured.percentile_ms(50), 2),
        "p99_ms": round(measured.percentile_ms(99), 2),
        "per_s": round(measured.per_s, 1),
        "evses": EVSES,
        "mean_results": round(sum(found) / len(found), 1),
    }
