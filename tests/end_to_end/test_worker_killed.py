"""A worker is killed with calls in flight: what callers, supervisor and log make of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from grpc import StatusCode

from gem.mesh.v1 import provider_answer_pb2 as mesh
from tests.end_to_end.depot import Depot, depot
from tests.end_to_end.figures import report
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import Load, until
from tests.end_to_end.scripted_provider import ScriptedProvider, waits_for
from tests.end_to_end.whole_market import Party, WholeMarket, running_market

pytestmark = [pytest.mark.fault, pytest.mark.usecase(1491)]
ON_THE_KILLED, ON_THE_OTHER = 100, 20
IN_DOUBT = mesh.ANSWER_STATUS_IN_DOUBT
OK = mesh.ANSWER_STATUS_OK


async def shop_of(whole: WholeMarket, package: str) -> tuple[Party, Depot]:
    """Publish an interface and bring in an EVSP."""
    shop = depot(package)
    await whole.technical.core.publish_interface(shop.files)
    return await whole.requester(), shop


@pytest.fixture
async def own() -> AsyncIterator[WholeMarket]:
    """Run a market for one test, which may break it."""
    async with running_market() as running:
        yield running


async def in_doubt(party: Party, count: int) -> bool:
    """Say whether the log has so many calls in doubt."""
    entries = await entries_of(party)
    return sum(entry.status == IN_DOUBT for entry in entries) == count


async def kill_once(whole: WholeMarket, requester: Party, shop: Depot, load: Load) -> None:
    """Kill a worker with 200 calls in flight, half of them with side effects."""
    gate = asyncio.Event()
    provider = ScriptedProvider(waits_for(gate, shop.reply("a")))
    await whole.contracted(requester, provider, interface=shop.interface)
    doubted = sum(e.status == IN_DOUBT for e in await entries_of(requester))
    channels = await whole.channels(requester)
    name, other = sorted(channels)
    pid = whole.worker_pids()[name]
    hint = len(provider.asked)
    async with asyncio.TaskGroup() as group:
        dying = [
            group.create_task(load.once(channels[name], method))
            for method in ("Order", "Find")
            for _ in range(ON_THE_KILLED)
        ]
        living = [
            group.create_task(load.once(channels[other], "Order")) for _ in range(ON_THE_OTHER)
        ]
        await until(
            lambda: len(provider.asked) - hint == 2 * ON_THE_KILLED + ON_THE_OTHER,
            20,
            "every call is at the provider",
        )
        killed_s = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        ended = await asyncio.gather(*dying)
        told_s = max(made.ended_s for made in ended) - killed_s
        await until(lambda: whole.worker_pids()[name] != pid, 20, "it is started again")
        restarted_s = time.monotonic()
        count = doubted + ON_THE_KILLED
        await until(lambda: in_doubt(requester, count), 15, "commands are resolved or in doubt")
        resolved_s = time.monotonic() - restarted_s
        gate.set()
    assert Counter(made.code for made in ended) == {StatusCode.UNAVAILABLE: 2 * ON_THE_KILLED}
    assert told_s < 1.0, "callers see it at once"
    assert Counter(task.result().code for task in living) == {StatusCode.OK: ON_THE_OTHER}
    assert resolved_s < 5.0
    again = await load.once(channels[name], "Find")
    assert again.code is StatusCode.OK, "the connection comes back by itself"
    for channel in channels.values():
        await channel.close()
    report("worker killed", told_ms=told_s * 1e3, in_doubt_s=resolved_s)


async def test_calls_of_a_killed_worker_end_at_once_and_are_accounted_for(
    own: WholeMarket,
) -> None:
    requester, shop = await shop_of(own, "acme.killed.v1")
    load = Load(shop)
    await kill_once(own, requester, shop, load)
    by_status = load.balance(await entries_of(requester))
    assert by_status == {IN_DOUBT: ON_THE_KILLED, OK: ON_THE_OTHER + 1}
    assert load.codes()[StatusCode.OK] == by_status[OK]
