"""A routing table of 100,000 contracts; the benchmark `routing-scale` measures the same."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import text

from marketplace.routing_feed import FeedTiming, RoutingFeed
from tests.control_plane import INTERFACE, ControlPlane

CONTRACTS = 100_000
PROVIDERS = 100
LOAD_MAX_S = 3.0
#: Longest time for which loading may keep other tasks of the loop waiting.
STALL_MAX_S = 0.5

_FILL = (
    """
    INSERT INTO marketplace.partner
    SELECT 'r' || i, 'ACTIVE', '{2}', 'n', 'a', 'DE', 'p', 'e', '', 1, now()
    FROM generate_series(1, :requesters) i
    """,
    """
    INSERT INTO marketplace.partner
    SELECT 'p' || i, 'ACTIVE', '{1}', 'n', 'a', 'DE', 'p', 'e', '', 1, now()
    FROM generate_series(1, :providers) i
    """,
    """
    INSERT INTO marketplace.service (service_id, provider_id, title, description, interface_name,
        interface_version, service_version, endpoint, state, registration_contract_version,
        registered_at)
    SELECT 's' || i, 'p' || i, 't', 'd', :interface, 1, '1', 'h:1', 'PUBLISHED', 1, now()
    FROM generate_series(1, :providers) i
    """,
    """
    INSERT INTO marketplace.offering (offering_id, service_id, terms, created_at)
    SELECT 'o' || i, 's' || i, '', now() FROM generate_series(1, :providers) i
    """,
    """
    INSERT INTO marketplace.contract (contract_id, requester_id, provider_id, service_id,
        offering_id, state, terms, price_per_call_micros, currency_code, created_at)
    SELECT gen_random_uuid()::text, 'r' || r, 'p' || p, 's' || p, 'o' || p, 'ACTIVE', '', 100,
        'EUR', now()
    FROM generate_series(1, :requesters) r, generate_series(1, :providers) p
    """,
)


@pytest.mark.torture
async def test_100_000_contracts_are_loaded_in_3_s_and_others_run_meanwhile(
    plane: ControlPlane, control_plane_url: str
) -> None:
    await plane.publish_interface()
    sizes = {
        "requesters": CONTRACTS // PROVIDERS,
        "providers": PROVIDERS,
        "interface": INTERFACE,
    }
    async with plane.engine.begin() as connection:
        for statement in _FILL:
            names = [name for name in sizes if f":{name}" in statement]
            await connection.execute(text(statement), {name: sizes[name] for name in names})
    stalls_s: list[float] = []

    async def watch() -> None:
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.001)
            stalls_s.append(time.monotonic() - before_s)

    watching = asyncio.create_task(watch())
    feed = RoutingFeed(control_plane_url, FeedTiming(heartbeat_s=60.0))
    started_s = time.monotonic()
    try:
        await feed.start()
        loaded_s = time.monotonic() - started_s
    finally:
        watching.cancel()
        await feed.stop()
    assert len(feed.current().targets("r1", INTERFACE)) == PROVIDERS
    assert len(feed.current().targets(f"r{CONTRACTS // PROVIDERS}", INTERFACE)) == PROVIDERS
    assert max(stalls_s) < STALL_MAX_S
    assert loaded_s < LOAD_MAX_S, f"loaded in {loaded_s:.2f} s"
