"""The transaction log under faults: started = recorded, nothing lost, nothing twice.

Each test counts what was acknowledged to callers and compares it with what PostgreSQL has at last.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psutil
import pytest
import structlog

from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from marketplace.drain import drain_chunk
from marketplace.durable_writer import WriterLimits
from marketplace.spill import LOCK_SUFFIX, SUFFIX, adopt, open_own
from marketplace.transaction_batch import Batch
from marketplace.transaction_log import DurableTransactionLog
from tests.log_chains import breaks_of
from tests.memory import memory_folder
from tests.transaction_log_support import (
    FAST,
    IN_DOUBT,
    OK,
    empty_log,
    entry_of,
    eventually,
    failed_of,
    log_on,
    rows,
    running,
    statuses,
)

pytestmark = pytest.mark.fault
#: PostgreSQL is given up sooner than in production, so that tests are short.
IMPATIENT = replace(
    FAST,
    writer=WriterLimits(write_timeout_s=0.5, connect_timeout_s=0.5, longest_pause_s=0.2),
)
DRAIN_S = 60.0
CALLERS = 16
PAUSE_S = 0.05
_log = structlog.get_logger(__name__)


@dataclass
class Account:
    """What callers started, and what they were told."""

    recorded: set[UUID] = field(default_factory=set)
    failed_calls: set[UUID] = field(default_factory=set)
    refusals: list[BaseException] = field(default_factory=list)
    slowest_s: float = 0.0


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL that may be killed."""
    with memory_folder() as folder:
        server = EmbeddedPostgres(Path(folder), options={"shared_buffers": "64MB"})
        server.start()
        asyncio.run(migrate(server.url, "marketplace"))
        yield server
        server.stop()


async def call_on(
    log: DurableTransactionLog, account: Account, dice: random.Random, stop: asyncio.Event
) -> None:
    """Make calls of all kinds until told to stop."""
    while not stop.is_set():
        entries = [entry_of() for _ in range(dice.choice((1, 1, 3)))]
        started_s = time.monotonic()
        try:
            if dice.random() < 0.3:
                await log.intend([entry._replace(status=0, value_micros=0) for entry in entries])
            await log.record(entries)
            account.recorded |= {entry.transaction_id for entry in entries}
            if dice.random() < 0.2:
                failed = failed_of()
                await log.record_failed(failed)
                account.failed_calls.add(failed.call_id)
        except Exception as error:  # noqa: BLE001  # counted, and no test allows any
            account.refusals.append(error)
        account.slowest_s = max(account.slowest_s, time.monotonic() - started_s)
        await asyncio.sleep(dice.random() * PAUSE_S)


@asynccontextmanager
async def load(log: DurableTransactionLog, seed: int) -> AsyncIterator[Account]:
    """Call from many callers while the block runs; each ends with a whole call."""
    account, stop = Account(), asyncio.Event()
    dice = [random.Random(seed + number) for number in range(CALLERS)]
    callers = [asyncio.create_task(call_on(log, account, die, stop)) for die in dice]
    try:
        yield account
    finally:
        stop.set()
        await asyncio.gather(*callers)


async def drained(log: DurableTransactionLog) -> None:
    await eventually(lambda: not (log.figures().spilling or log.figures().pending), DRAIN_S)


async def assert_accounts_hold(url: str, account: Account) -> None:
    """No call was refused, and all that was acknowledged is there, once, and nothing else."""
    assert account.refusals == []
    found = await statuses(url)
    assert found.keys() == account.recorded
    assert set(found.values()) == {OK}
    failed = [row["call_id"] for row in await rows(url, "failed_call")]
    assert sorted(failed) == sorted(account.failed_calls)
    assert len(found) > 50
    assert await breaks_of(url) == [], "chains neither fork nor skip"


async def start_again(server: EmbeddedPostgres, *, children: bool) -> None:
    """Kill the server with SIGKILL, where asked with all of its processes, and start it."""
    processes = psutil.Process(server.pid).children(recursive=True) if children else []
    await asyncio.to_thread(server.kill)
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it noticed by itself
            process.kill()
    await asyncio.to_thread(server.start)


@asynccontextmanager
async def stopped(server: EmbeddedPostgres) -> AsyncIterator[None]:
    """Stop every process of the server with SIGSTOP while the block runs."""
    postmaster = psutil.Process(server.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def break_and_check(
    server: EmbeddedPostgres, folder: Path, kills: int, stop_s: float
) -> None:
    url, seed = server.url, random.randrange(2**32)
    await empty_log(url)
    _log.info("a failure is repeated with this seed", seed=seed)
    async with running(log_on(url, folder, IMPATIENT)) as log:
        async with load(log, seed) as account:
            for number in range(kills):
                await asyncio.sleep(0.2)
                await start_again(server, children=number % 2 == 1)
                await eventually(lambda: not log.figures().spilling, DRAIN_S)
            await asyncio.sleep(0.2)
            async with stopped(server):
                await asyncio.sleep(stop_s)
            await asyncio.sleep(0.3)
        await drained(log)
        figures = log.figures()
    slowest_s = round(account.slowest_s, 2)
    _log.info("survived", recorded=len(account.recorded), slowest_s=slowest_s, figures=figures)
    await assert_accounts_hold(url, account)
    assert figures.spilled > 0
    assert await rows(url, "transaction_intent") == []


async def test_nothing_is_lost_or_doubled_while_postgresql_is_killed_and_stopped(
    own_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    await break_and_check(own_server, tmp_path, kills=3, stop_s=1.5)


@pytest.mark.torture
@pytest.mark.timeout(900)
async def test_nothing_is_lost_or_doubled_while_postgresql_is_killed_fifty_times(
    own_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    await break_and_check(own_server, tmp_path, kills=50, stop_s=10.0)


class Unreliable:
    """A connection that fails before, after or long after it did what was asked."""

    def __init__(self, connection: asyncpg.Connection, dice: random.Random) -> None:
        self._connection = connection
        self._dice = dice
        self._late: list[asyncio.Task[Any]] = []

    async def _at_random(self, work: Any) -> Any:
        fate = self._dice.random()
        if fate < 0.05:
            work.close()
            raise ConnectionResetError
        if fate < 0.15 and not self._connection.is_in_transaction():
            self._late.append(asyncio.create_task(self._finish(work)))
            raise TimeoutError
        answer = await work
        if fate < 0.25:
            raise TimeoutError
        return answer

    async def _finish(self, work: Any) -> None:
        """Commit after the caller gave up, as a server does that was stopped."""
        await asyncio.sleep(self._dice.random() * 0.1)
        try:
            await work
        except asyncpg.PostgresError:
            assert self._late  # somebody else had written it by then
        self._connection.terminate()

    async def copy_records_to_table(self, *arguments: Any, **keywords: Any) -> Any:
        return await self._at_random(self._connection.copy_records_to_table(*arguments, **keywords))

    async def copy_to_table(self, *arguments: Any, **keywords: Any) -> Any:
        return await self._at_random(self._connection.copy_to_table(*arguments, **keywords))

    async def execute(self, *arguments: Any) -> Any:
        return await self._at_random(self._connection.execute(*arguments))

    async def fetch(self, *arguments: Any) -> Any:
        return await self._at_random(self._connection.fetch(*arguments))

    async def fetchval(self, *arguments: Any) -> Any:
        return await self._at_random(self._connection.fetchval(*arguments))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield
        if self._dice.random() < 0.1:
            raise TimeoutError

    def is_closed(self) -> bool:
        return self._connection.is_closed()

    def terminate(self) -> None:
        if not self._late:
            self._connection.terminate()

    async def close(self) -> None:
        if not self._late:
            await self._connection.close()


async def test_writes_that_fail_before_after_or_long_after_they_commit_change_no_account(
    log_url: str, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    _log.info("a failure is repeated with this seed", seed=seed)
    dice = random.Random(seed)

    async def connect() -> Unreliable:
        return Unreliable(await connect_raw(log_url), dice)

    log = DurableTransactionLog(connect, tmp_path / "spill", IMPATIENT)
    async with running(log):
        async with load(log, seed) as account:
            await asyncio.sleep(1.5)
        await drained(log)
        assert log.figures().spilled > 0
        assert log.figures().rejected_records == 0
    await assert_accounts_hold(log_url, account)


_WORKER = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from marketplace.transaction_log import LogLimits
from tests.transaction_log_support import entry_of, log_on

async def main():
    log = log_on(sys.argv[1], Path(sys.argv[2]), LogLimits(start_wait_s=float(sys.argv[3])))
    await log.start()
    for number in range(20):
        entry = entry_of(status=0, value_micros=0)
        await log.intend([entry])
        if number % 2:
            await log.record([entry._replace(status=1)])
        print(number % 2, entry.transaction_id, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def crash_after_twenty_calls(url: str, folder: Path, start_wait_s: float) -> dict[UUID, int]:
    """Run a worker, kill it between intent and result, and give what became of its calls."""
    command = [sys.executable, "-c", _WORKER, url, str(folder), str(start_wait_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        lines: list[list[str]] = []
        while len(lines) < 20:
            line = worker.stdout.readline()
            assert line, "the worker ended by itself"
            if line[:2] in ("0 ", "1 "):
                lines.append(line.split())
        os.kill(worker.pid, signal.SIGKILL)
    return {UUID(key): OK if ended == "1" else IN_DOUBT for ended, key in lines}


async def expect(url: str, expected: dict[UUID, int], within_s: float) -> None:
    async def as_expected() -> bool:
        return await statuses(url) == expected

    await eventually(as_expected, within_s)


@pytest.mark.usecase(1491)
async def test_calls_that_a_killed_worker_left_open_are_in_doubt_within_5_s_of_a_restart(
    log_url: str, tmp_path: Path
) -> None:
    expected = await asyncio.to_thread(crash_after_twenty_calls, log_url, tmp_path, 30.0)
    async with running(DurableTransactionLog(lambda: connect_raw(log_url), tmp_path / "spill")):
        await expect(log_url, expected, 5.0)
    assert await rows(log_url, "transaction_intent") == []


async def test_the_spill_of_a_killed_worker_is_drained_by_the_next_one(
    log_url: str, tmp_path: Path
) -> None:
    """The worker saw no database, so intents and results are in its file alone."""
    nowhere = log_url.replace("host=", "host=/nowhere")
    expected = await asyncio.to_thread(crash_after_twenty_calls, nowhere, tmp_path, 0.1)
    assert await statuses(log_url) == {}
    async with running(log_on(log_url, tmp_path)) as log:
        await expect(log_url, expected, 10.0)
        assert log.figures().adopted == 30
    assert await rows(log_url, "transaction_intent") == []


async def test_the_same_spill_drained_by_two_workers_at_once_counts_once(
    log_url: str, tmp_path: Path
) -> None:
    entries = [entry_of() for _ in range(400)]
    resolved, left = entries[:50], [entry_of(status=0) for _ in range(20)]
    spill = await open_own(tmp_path / "one", uuid4(), 1 << 24)
    await spill.append(Batch(intents=[*resolved, *left]))
    await spill.append(Batch(finals=entries[50:], resolutions=resolved, failed=[failed_of()]))
    copy = tmp_path / "two" / f"{spill.worker_id.hex}{SUFFIX}"
    shutil.copytree(tmp_path / "one", copy.parent)
    copy.with_suffix(LOCK_SUFFIX).unlink()
    twin = await adopt(copy.parent, 1 << 24)
    assert twin is not None

    async def drain(one: Any) -> None:
        connection = await connect_raw(log_url)
        while one.count:
            await drain_chunk(one, connection, 37, 10.0)
        await connection.close()
        await one.close()

    await asyncio.gather(drain(spill), drain(twin))
    assert await statuses(log_url) == {entry.transaction_id: OK for entry in entries}
    assert len(await rows(log_url, "failed_call")) == 1
    intents = {row["transaction_id"] for row in await rows(log_url, "transaction_intent")}
    assert intents >= {entry.transaction_id for entry in left}
