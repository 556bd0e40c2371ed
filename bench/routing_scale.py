"""`routing-scale`: what a hundred times as many contracts cost a worker."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil
import uvloop

from bench.answers import INTERFACE, METHOD
from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from gem.charging.v1 import evse_search_service_pb2
from gemarket.administration import descriptor_set
from gemarket.logs import configure_logs
from marketplace.router.interface import compile_interface
from marketplace.router.plan import Hints, plan
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.routing_feed import RoutingFeed

#: Contracts of each requester: what grows is the market, not one partner.
PROVIDERS = 10
SMALL, LARGE = 1_000, 100_000
_PLANS = 20_000
#: Requesters that call, in the small market and in the large one: all of the small one's.
_CALLERS = SMALL // PROVIDERS
_ROUNDS = 5

_PARTNERS = """
    INSERT INTO marketplace.partner SELECT id, 'ACTIVE', '{1,2}', id, 'Street 1', 'DE', 'Person',
    'person@partner.example', '', 1, now() FROM unnest($1::text[]) AS id
"""
_SERVICES = """
    INSERT INTO marketplace.service (service_id, provider_id, title, description, interface_name,
        interface_version, service_version, endpoint, state, registration_contract_version,
        registered_at)
    SELECT 'service-' || id, id, id, id, $2, 1, '1.0.0', '127.0.0.1:5000', 'PUBLISHED', 1, now()
    FROM unnest($1::text[]) AS id
"""
_OFFERINGS = """
    INSERT INTO marketplace.offering (offering_id, service_id, terms, created_at)
    SELECT 'offering-' || id, 'service-' || id, '', now() FROM unnest($1::text[]) AS id
"""
_CONTRACTS = """
    INSERT INTO marketplace.contract (contract_id, requester_id, provider_id, service_id,
        offering_id, state, terms, price_per_call_micros, currency_code, created_at)
    SELECT gen_random_uuid()::text, requester, provider, 'service-' || provider,
        'offering-' || provider, 'ACTIVE', '', 2000, 'EUR', now()
    FROM unnest($1::text[]) AS requester, unnest($2::text[]) AS provider
"""


async def fill(url: str, contracts: int) -> None:
    """Bring one interface, its providers and so many contracts into an empty database."""
    connection = await connect_raw(url, 120.0)
    try:
        await _publish(connection)
        providers = [f"provider-{number}" for number in range(PROVIDERS)]
        requesters = [f"requester-{number}" for number in range(contracts // PROVIDERS)]
        await connection.execute(_PARTNERS, providers + requesters)
        await connection.execute(_SERVICES, providers, INTERFACE)
        await connection.execute(_OFFERINGS, providers)
        await connection.execute(_CONTRACTS, requesters, providers)
        await connection.execute("VACUUM ANALYZE marketplace.contract")
    finally:
        await connection.close()


async def _publish(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    files = descriptor_set(evse_search_service_pb2.DESCRIPTOR)
    (rules,) = compile_interface(files)
    publication_id = await connection.fetchval(
        "INSERT INTO marketplace.interface_publication (digest, descriptor_set, published_by,"
        " published_at) VALUES (sha256($1), $1, 'bench', now()) RETURNING publication_id",
        rules.descriptor_set,
    )
    await connection.execute(
        "INSERT INTO marketplace.interface_version VALUES ($1, 1, $2, 'Search', 'charging', '{}',"
        " '{}', '[]')",
        INTERFACE,
        publication_id,
    )
    await connection.execute(
        "INSERT INTO marketplace.interface_label VALUES ($1, 1, 'CURRENT', now())", INTERFACE
    )


def plan_us(snapshot: RoutingSnapshot, requesters: int, callers: int) -> float:
    """Give the time of planning one call, microseconds, best of some rounds.

    So many different requesters call in turn, spread over all that there are.
    """
    method = snapshot.method(METHOD)
    assert method is not None
    spread = [f"requester-{number * 7919 % requesters}" for number in range(callers)]
    names = [spread[number % callers] for number in range(_PLANS)]
    hints, best = Hints(), float("inf")
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for name in names:
            plan(snapshot, name, method, hints, None)
        best = min(best, (time.perf_counter() - begun) / _PLANS * 1e6)
    return best


async def load(url: str, contracts: int) -> dict[str, float]:
    """Load the snapshot as a worker does; for a process of its own."""
    process = psutil.Process()
    warm = RoutingFeed(url)  # what the code itself takes is not the snapshot's
    del warm
    gc.collect()
    before, begun = process.memory_info().rss, time.perf_counter()
    feed = RoutingFeed(url)
    await feed.start()
    load_s = time.perf_counter() - begun
    gc.collect()
    gc.freeze()
    memory_mb = (process.memory_info().rss - before) / 1e6
    requesters = contracts // PROVIDERS
    figures = {
        "load_s": load_s,
        "memory_mb": memory_mb,
        "plan_us": plan_us(feed.current(), requesters, _CALLERS),
        "plan_all_us": plan_us(feed.current(), requesters, requesters),
    }
    await feed.stop()
    return figures


async def _measure(url: str, contracts: int) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.routing_scale",
        url,
        str(contracts),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    figures: dict[str, float] = json.loads(out)
    return figures


async def routing_scale() -> dict[str, float]:
    """Reach: ratio ≤ 1.1, load ≤ 3 s, memory ≤ 200 MB.

    `ratio` is for the same number of callers in both markets. `ratio_all` lets every requester of
    the large market call in turn, so that each look-up misses the processor's caches.
    """
    figures = {}
    for contracts in (SMALL, LARGE):
        with tempfile.TemporaryDirectory(prefix="gem-bench-") as folder:
            server = EmbeddedPostgres(Path(folder))
            url = server.start()
            try:
                await migrate(url, "marketplace")
                await fill(url, contracts)
                figures[contracts] = await _measure(url, contracts)
            finally:
                server.stop()
    large, small = figures[LARGE], figures[SMALL]
    return {
        "ratio": round(large["plan_us"] / small["plan_us"], 3),
        "ratio_all": round(large["plan_all_us"] / small["plan_all_us"], 3),
        "plan_us": round(large["plan_us"], 2),
        "load_s": round(large["load_s"], 2),
        "memory_mb": round(large["memory_mb"], 1),
    }


if __name__ == "__main__":
    configure_logs(logging.WARNING)
    print(json.dumps(uvloop.run(load(sys.argv[1], int(sys.argv[2])))))
