"""PostgreSQL is killed and stopped under load: calls go on, the log loses and doubles nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import randbits

import psutil
import pytest
from grpc import StatusCode

from foundation.embedded_postgres import EmbeddedPostgres
from tests.end_to_end.depot import Depot, depot
from tests.end_to_end.figures import report
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import Load, longest_s, until
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import Party, WholeMarket, running_market

pytestmark = [pytest.mark.fault, pytest.mark.usecase(1491)]
_DRAINED_S = 60.0
_METHODS = ("Find", "Order")


@pytest.fixture
async def server(short_tmp_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Run a PostgreSQL that the test may kill."""
    folder = short_tmp_dir / f"away-{randbits(32):08x}"
    made = EmbeddedPostgres(folder, options={"shared_buffers": "64MB"})
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.stop)


@pytest.fixture
async def own(server: EmbeddedPostgres) -> AsyncIterator[WholeMarket]:
    """Run a market on that server."""
    async with running_market(database_url=server.url) as running:
        yield running


async def set_up(own: WholeMarket) -> tuple[Party, Depot]:
    """Give an EVSP with a contracted provider that answers at once."""
    shop = depot("acme.away.v1")
    await own.technical.core.publish_interface(shop.files)
    requester = await own.requester()
    provider = ScriptedProvider(answers(shop.reply("a")))
    await own.contracted(requester, provider, interface=shop.interface)
    return requester, shop


async def kill_and_restart(server: EmbeddedPostgres, away_s: float) -> None:
    """End the server as `kill -9` does, and start it again a moment later."""
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(server.start)


async def stop_and_go_on(server: EmbeddedPostgres, away_s: float) -> None:
    """Stop every process of the server, as a hung machine would, and let them go on."""
    assert server.pid is not None
    parent = psutil.Process(server.pid)
    everybody = [parent, *parent.children(recursive=True)]
    for process in everybody:
        os.kill(process.pid, signal.SIGSTOP)
    await asyncio.sleep(away_s)
    for process in everybody:
        os.kill(process.pid, signal.SIGCONT)


async def drained(requester: Party, load: Load) -> float:
    """Wait until the log has an entry for each call; gives how long that took, seconds."""
    wanted = len(load.made)

    async def complete() -> bool:
        return len(await entries_of(requester)) >= wanted

    return await until(complete, _DRAINED_S, f"{wanted} entries")


async def test_a_database_that_is_killed_and_stopped_costs_no_call_and_no_entry(
    own: WholeMarket, server: EmbeddedPostgres
) -> None:
    requester, shop = await set_up(own)
    load = Load(shop)
    channels = list((await own.channels(requester)).values())
    async with load.running(channels, _METHODS, pause_s=0.02):
        await asyncio.sleep(0.5)
        await kill_and_restart(server, 1.0)
        await asyncio.sleep(1.0)
        await stop_and_go_on(server, 4.0)
        await asyncio.sleep(1.0)
    for channel in channels:
        await channel.close()
    assert load.codes() == {StatusCode.OK: len(load.made)}
    waited_s = await drained(requester, load)
    load.balance(await entries_of(requester))
    report(
        "database killed, then stopped 4 s",
        calls=len(load.made),
        failed=0,
        slowest_ms=longest_s(load.made) * 1e3,
        drained_s=waited_s,
    )


@pytest.mark.torture
@pytest.mark.timeout(1200)
async def test_fifty_kills_and_a_stop_of_ten_seconds_cost_no_call_and_no_entry(
    own: WholeMarket, server: EmbeddedPostgres
) -> None:
    seed = randbits(32)
    chance = random.Random(seed)
    requester, shop = await set_up(own)
    load = Load(shop)
    channels = list((await own.channels(requester)).values())
    async with load.running(channels, _METHODS, pause_s=0.02):
        for _ in range(50):
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            await kill_and_restart(server, chance.uniform(0.0, 2.0))
        await asyncio.sleep(2.0)
        await stop_and_go_on(server, 10.0)
        await asyncio.sleep(2.0)
    for channel in channels:
        await channel.close()
    assert load.codes() == {StatusCode.OK: len(load.made)}, f"seed {seed}"
    begun_s = time.monotonic()
    await drained(requester, load)
    load.balance(await entries_of(requester))
    report(
        "database killed 50 times, then stopped 10 s",
        seed=seed,
        calls=len(load.made),
        drained_s=time.monotonic() - begun_s,
    )
