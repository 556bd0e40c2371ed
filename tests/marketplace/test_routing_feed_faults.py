"""The routing feed when things break, and how fast a change takes effect.

Measured: the time from the moment in which the answer of SuspendContract or ResumeContract is with
its caller to the moment in which the slower of two workers, processes of their own, plans by it.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from marketplace.routing_feed import PENDING_MAX, FeedTiming, RoutingFeed
from tests.control_plane import INTERFACE, ControlPlane

QUICK = FeedTiming(heartbeat_s=0.05, heartbeat_timeout_s=0.2, longest_retry_s=0.1)
NOTIFIED_ONLY = FeedTiming(heartbeat_s=60.0)
EFFECT_MAX_S = 0.050
STEPS = 40
#: A busy machine may let a worker wait for its turn: one step in ten may be late, and never so many
#: in a row.
LATE_MAX = 3
WAIT_S = 10.0

pytestmark = pytest.mark.fault


@asynccontextmanager
async def _feeding(url: str, timing: FeedTiming) -> AsyncIterator[RoutingFeed]:
    feed = RoutingFeed(url, timing)
    await feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


async def _until(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # a snapshot is a value without an event of its own
            await asyncio.sleep(0.001)


def _routed(feed: RoutingFeed) -> set[str]:
    return {target.contract_id for target in feed.current().targets("evsp", INTERFACE)}


async def _execute(plane: ControlPlane, *statements: str) -> None:
    async with plane.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


#: A change that nobody is told of.
BUMP = "UPDATE marketplace.routing_version SET version = version + 1"


async def test_a_change_that_was_not_notified_is_found_by_the_heartbeat(
    plane: ControlPlane, control_plane_url: str
) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    async with _feeding(control_plane_url, QUICK) as feed:
        assert _routed(feed) == {contract.contract_id}
        await _execute(plane, "UPDATE marketplace.contract SET state = 'SUSPENDED'", BUMP)
        await _until(lambda: not _routed(feed))


async def test_a_gap_between_notifications_leads_to_a_full_load(
    plane: ControlPlane, control_plane_url: str
) -> None:
    one, two = await plane.market("volt", "watt")
    first = await plane.contract("evsp", one)
    async with _feeding(control_plane_url, NOTIFIED_ONLY) as feed:
        await _execute(plane, "UPDATE marketplace.contract SET state = 'SUSPENDED'", BUMP)
        await asyncio.sleep(0.02)
        assert _routed(feed) == {first.contract_id}, "nothing told the feed yet"
        second = await plane.contract("evsp", two)
        await _until(lambda: _routed(feed) == {second.contract_id})


async def test_a_notification_that_makes_no_sense_leads_to_a_full_load(
    plane: ControlPlane, control_plane_url: str
) -> None:
    (service,) = await plane.market("volt")
    await plane.contract("evsp", service)
    async with _feeding(control_plane_url, NOTIFIED_ONLY) as feed:
        state = "UPDATE marketplace.contract SET state = 'SUSPENDED'"
        await _execute(plane, state, "NOTIFY gem_routing, 'nonsense'")
        await _until(lambda: not _routed(feed))


async def test_more_notifications_than_fit_lead_to_a_full_load(
    plane: ControlPlane, control_plane_url: str
) -> None:
    (service,) = await plane.market("volt")
    await plane.contract("evsp", service)
    async with _feeding(control_plane_url, NOTIFIED_ONLY) as feed:
        await _execute(plane, "UPDATE marketplace.contract SET state = 'SUSPENDED'")
        # All in one turn of the loop, so that none can be applied in between; none is news.
        for _ in range(PENDING_MAX + 1):
            feed._heard(None, 0, "", "1 {}")
        await _until(lambda: not _routed(feed))


class Proxy:
    """Stands between a feed and its server; can stop passing bytes, or close what it passes."""

    def __init__(self, server_socket: Path) -> None:
        self._server_socket = server_socket
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.accepted = 0

    def freeze(self) -> None:
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        server = await asyncio.open_unix_connection(str(self._server_socket))
        await asyncio.gather(self._pump(reader, server[1]), self._pump(server[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


@asynccontextmanager
async def _proxied(url: str, folder: Path) -> AsyncIterator[tuple[str, Proxy]]:
    """Give the URL of a proxy before the server, and the proxy."""
    found = re.search(r"host=([^&]+)", url)
    assert found is not None
    name = ".s.PGSQL.5432"
    proxy = Proxy(Path(found[1]) / name)
    server = await asyncio.start_unix_server(proxy.accept, str(folder / name))
    try:
        yield url.replace(found[1], str(folder)), proxy
    finally:
        proxy.thaw()
        proxy.cut()
        server.close()
        (folder / name).unlink(missing_ok=True)


async def test_a_feed_whose_connection_is_cut_sees_what_it_missed(
    plane: ControlPlane, control_plane_url: str, short_tmp_dir: Path
) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    async with (
        _proxied(control_plane_url, short_tmp_dir) as (url, proxy),
        _feeding(url, NOTIFIED_ONLY) as feed,
    ):
        proxy.freeze()
        await plane.ask("evsp", "ContractService/SuspendContract", contract_id=contract.contract_id)
        assert _routed(feed) == {contract.contract_id}, "no byte came through"
        proxy.cut()
        proxy.thaw()
        await _until(lambda: not _routed(feed))
        assert proxy.accepted > 1
        await plane.ask("evsp", "ContractService/ResumeContract", contract_id=contract.contract_id)
        await _until(lambda: _routed(feed) == {contract.contract_id})


async def test_a_connection_that_is_dead_without_saying_so_is_replaced(
    plane: ControlPlane, control_plane_url: str, short_tmp_dir: Path
) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    async with (
        _proxied(control_plane_url, short_tmp_dir) as (url, proxy),
        _feeding(url, QUICK) as feed,
    ):
        await _until(lambda: feed.age_s() < 1.0)
        proxy.freeze()
        await plane.ask("evsp", "ContractService/SuspendContract", contract_id=contract.contract_id)
        await _until(lambda: feed.age_s() > 0.4)
        assert _routed(feed) == {contract.contract_id}, "the last snapshot stays"
        proxy.thaw()
        await _until(lambda: not _routed(feed))
        await _until(lambda: feed.age_s() < 0.4)


class Worker:
    """A process with a feed of its own, and what it said last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def effect_at_s(self, routed: list[str]) -> float:
        """Wait until the worker routes by exactly these contracts; give when it began to."""
        assert self._process.stdout is not None
        while True:
            line = await asyncio.wait_for(self._process.stdout.readline(), WAIT_S)
            said = json.loads(line)
            if said["routed"] == routed:
                return float(said["at_s"])


@asynccontextmanager
async def _worker(url: str) -> AsyncIterator[Worker]:
    command = [sys.executable, "-m", "tests.feed_worker", url, "evsp", INTERFACE]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), WAIT_S)


@pytest.mark.usecase(1490)
async def test_no_worker_routes_to_a_suspended_contract_50_ms_after_the_answer(
    plane: ControlPlane,
    control_plane_url: str,
    record_property: Callable[[str, object], None],
) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    services = await plane.market("one", "two", "three", "four")
    contract_ids = [(await plane.contract("evsp", service)).contract_id for service in services]
    active = dict.fromkeys(contract_ids, True)
    effects_s: list[float] = []
    async with _worker(control_plane_url) as first, _worker(control_plane_url) as second:
        workers = (first, second)
        await asyncio.gather(*(worker.effect_at_s(contract_ids) for worker in workers))
        late = 0
        while len(effects_s) < STEPS:
            # One contract at a time, so that every change of what is routed is one line of theirs.
            contract_id = rng.choice(contract_ids)
            active[contract_id] = not active[contract_id]
            method = "ResumeContract" if active[contract_id] else "SuspendContract"
            await plane.ask("evsp", f"ContractService/{method}", contract_id=contract_id)
            acknowledged_s = time.monotonic()
            expected = [key for key in contract_ids if active[key]]
            at_s = await asyncio.gather(*(worker.effect_at_s(expected) for worker in workers))
            effects_s.append(max(0.0, max(at_s) - acknowledged_s))
            late = late + 1 if effects_s[-1] > EFFECT_MAX_S else 0
            assert late < LATE_MAX, f"{effects_s[-1] * 1000:.0f} ms, seed {seed}"
    effects_s.sort()
    record_property("effect_ms_median", effects_s[STEPS // 2] * 1000)
    record_property("effect_ms_longest", effects_s[-1] * 1000)
    late_s = [effect_s for effect_s in effects_s if effect_s > EFFECT_MAX_S]
    assert len(late_s) <= STEPS // 10, f"late {late_s}, seed {seed}"


async def test_whatever_happens_at_once_all_feeds_end_up_with_what_is_committed(
    plane: ControlPlane, control_plane_url: str
) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    services = await plane.market("one", "two", "three")
    contract_ids = [(await plane.contract("evsp", service)).contract_id for service in services]

    async def step() -> None:
        number = rng.randrange(3)
        wanted: dict[str, Any] = {"contract_id": contract_ids[number]}
        method = rng.choice(["ContractService/SuspendContract", "ContractService/ResumeContract"])
        who = "evsp"
        if rng.random() < 0.5:
            who, wanted = "operator:technical", {"service_id": services[number].service_id}
            method = f"ServiceRegistryService/{rng.choice(['Start', 'Stop'])}Service"
        # A step that does not fit the state is refused and changes nothing.
        with suppress(MarketError):
            await plane.ask(who, method, **wanted)

    async with (
        _feeding(control_plane_url, QUICK) as first,
        _feeding(control_plane_url, NOTIFIED_ONLY) as second,
    ):
        for _ in range(8):
            await asyncio.gather(*(step() for _ in range(rng.randint(1, 5))))
        async with plane.engine.connect() as connection:
            query = text("SELECT version FROM marketplace.routing_version")
            version = int(await connection.scalar(query) or 0)
        async with _feeding(control_plane_url, NOTIFIED_ONLY) as fresh:
            for feed in (first, second):
                await feed.wait_for(version, WAIT_S)
                assert feed.current().targets("evsp", INTERFACE) == fresh.current().targets(
                    "evsp", INTERFACE
                ), f"seed {seed}"
