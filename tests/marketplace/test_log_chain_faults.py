"""Chains while workers come, go, are killed and lose their connections: whole, whatever happens."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from foundation.database import connect_raw
from marketplace.chain_session import ChainSession
from marketplace.log_verification import BreakKind
from marketplace.storage_log_chain import close_chains, register_heads
from marketplace.storage_transaction_write import write_again, write_first
from marketplace.transaction_batch import Batch
from marketplace.transaction_log import DurableTransactionLog
from tests.log_chains import breaks_of, change, close_all, kinds_of, longest_chain
from tests.marketplace.test_transaction_faults import crash_after_twenty_calls
from tests.transaction_log_support import (
    FAST,
    OK,
    connected,
    entry_of,
    eventually,
    log_on,
    rows,
    running,
    statuses,
)

pytestmark = pytest.mark.usecase(1242)


async def test_what_is_there_already_gets_no_second_place(log_url: str) -> None:
    """As after a write of unknown outcome: the row decides."""
    entries, worker_id = [entry_of() for _ in range(6)], uuid4()
    async with connected(log_url) as connection:
        first, second = ChainSession(worker_id), ChainSession(worker_id)
        await write_first(connection, worker_id, Batch(finals=entries[:4]), first)
        await write_again(connection, worker_id, Batch(finals=entries), second)
        await first.close(connection)
        await second.close(connection)
    places = {
        row["transaction_id"]: (row["chain_id"], row["sequence"]) for row in await rows(log_url)
    }
    chains = {places[entry.transaction_id][0] for entry in entries[:4]}
    assert len(chains) == 1
    assert [places[entry.transaction_id][1] for entry in entries] == [1, 2, 3, 4, 1, 2]
    assert await breaks_of(log_url) == []


async def test_a_chain_is_closed_only_when_nobody_can_write_to_it_any_more(log_url: str) -> None:
    entry = entry_of()
    async with connected(log_url) as connection:
        session = ChainSession(uuid4())
        await write_first(connection, uuid4(), Batch(finals=[entry]), session)
        await close_all(log_url)
        kinds = [row["kind"] for row in await rows(log_url, "transaction_chain_register")]
        assert kinds == ["OPENED"]

    async def closed() -> bool:
        await close_all(log_url)
        found = await rows(log_url, "transaction_chain_register")
        return {(row["kind"], row["sequence"]) for row in found} == {("OPENED", 0), ("CLOSED", 1)}

    await eventually(closed, 5)
    assert await rows(log_url, "transaction_open_chain") == []


async def test_several_workers_close_a_chain_once(log_url: str) -> None:
    async with connected(log_url) as connection:
        await write_first(connection, uuid4(), Batch(finals=[entry_of()]), ChainSession(uuid4()))

    async def closed() -> bool:
        await asyncio.gather(*(close_all(log_url) for _ in range(4)))
        return await rows(log_url, "transaction_open_chain") == []

    await eventually(closed, 5)
    kinds = [row["kind"] for row in await rows(log_url, "transaction_chain_register")]
    assert sorted(kinds) == ["CLOSED", "OPENED"]


async def test_a_living_workers_head_is_registered_when_it_has_grown(log_url: str) -> None:
    worker_id = uuid4()
    async with connected(log_url) as connection:
        session = ChainSession(worker_id)
        for _ in range(2):
            await write_first(connection, worker_id, Batch(finals=[entry_of()]), session)
            for _ in range(2):
                await register_heads(connection, worker_id)
        await register_heads(connection, uuid4())
        found = await rows(log_url, "transaction_chain_register")
        heads = sorted(row["sequence"] for row in found if row["kind"] == "HEAD")
        assert heads == [1, 2]
        await change(log_url, "DELETE FROM marketplace.service_transaction WHERE sequence = 2")
        (cut,) = await breaks_of(log_url)
        assert (cut.kind, cut.sequence) == (BreakKind.TRUNCATED, 2)


async def test_a_log_that_ran_and_closed_in_order_is_whole_and_has_no_open_chain(
    log_url: str, tmp_path: Path
) -> None:
    entries = [entry_of() for _ in range(60)]
    async with running(log_on(log_url, tmp_path)) as log:
        await eventually(lambda: not log.figures().spilling, 5)
        for entry in entries[:20]:
            await log.intend([entry._replace(status=0, value_micros=0)])
        await asyncio.gather(*(log.record([entry]) for entry in entries))
    assert len(await statuses(log_url)) == 60
    assert await rows(log_url, "transaction_open_chain") == []
    assert await breaks_of(log_url) == []


@pytest.mark.fault
async def test_workers_that_were_killed_leave_a_log_that_is_whole(
    log_url: str, tmp_path: Path
) -> None:
    expected: dict[UUID, int] = {}
    for number in range(2):
        folder = tmp_path / str(number)
        expected |= await asyncio.to_thread(crash_after_twenty_calls, log_url, folder, 30.0)
    nowhere = log_url.replace("host=", "host=/nowhere")
    expected |= await asyncio.to_thread(crash_after_twenty_calls, nowhere, tmp_path, 0.1)
    async with running(log_on(log_url, tmp_path)):

        async def as_expected() -> bool:
            return await statuses(log_url) == expected

        await eventually(as_expected, 10)

        async def closed() -> bool:
            open_chains = await rows(log_url, "transaction_open_chain")
            return len({row["worker_id"] for row in open_chains}) <= 1

        await eventually(closed, 15)
    assert await breaks_of(log_url) == []
    register = await rows(log_url, "transaction_chain_register")
    heads = {row["chain_id"]: row for row in register if row["kind"] == "CLOSED"}
    longest = (await longest_chain(log_url))[-1]
    assert heads[longest["chain_id"]]["head_hash"] == longest["chain_hash"]
    await change(
        log_url,
        "DELETE FROM marketplace.service_transaction WHERE transaction_id = $1",
        longest["transaction_id"],
    )
    assert await kinds_of(log_url) == {BreakKind.TRUNCATED}


class Deaf:
    """A connection that is lost after its first COPY of entries was committed."""

    def __init__(self, connection: asyncpg.Connection, hears: list[bool]) -> None:
        self._connection = connection
        self._hears = hears

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def copy_to_table(self, table: str, **keywords: Any) -> str:
        done = await self._connection.copy_to_table(table, **keywords)
        if not self._hears:
            self._hears.append(True)
            raise TimeoutError
        return str(done)


async def test_a_lost_connection_ends_its_chain_and_the_next_begins_where_the_rows_say(
    log_url: str, tmp_path: Path
) -> None:
    """The server commits, and the worker never hears of it."""
    hears: list[bool] = []

    async def connect() -> Any:
        return Deaf(await connect_raw(log_url), hears)

    log = DurableTransactionLog(connect, tmp_path / "spill", FAST)
    async with running(log):
        await eventually(lambda: not log.figures().spilling, 5)
        await log.record([entry_of() for _ in range(3)])
        assert log.figures().spilled == 3
        await eventually(lambda: not log.figures().spilling, 5)
        await log.record([entry_of() for _ in range(2)])
    found = await rows(log_url)
    assert sorted(row["sequence"] for row in found) == [1, 1, 2, 2, 3]
    assert await breaks_of(log_url) == []


async def test_batches_of_many_sessions_at_once_give_one_whole_chain_each(log_url: str) -> None:
    dice = random.Random(1242)
    sizes = [[dice.randrange(1, 9) for _ in range(6)] for _ in range(5)]

    async def work(of_one: list[int]) -> UUID:
        worker_id = uuid4()
        async with connected(log_url) as connection:
            session = ChainSession(worker_id)
            for size in of_one:
                batch = Batch(finals=[entry_of() for _ in range(size)])
                await write_first(connection, worker_id, batch, session)
            await session.close(connection)
        return worker_id

    workers = await asyncio.gather(*map(work, sizes))
    found = await rows(log_url)
    for worker_id, of_one in zip(workers, sizes, strict=True):
        mine = [row for row in found if row["worker_id"] == worker_id]
        assert len({row["chain_id"] for row in mine}) == 1
        assert sorted(row["sequence"] for row in mine) == list(range(1, sum(of_one) + 1))
    assert await breaks_of(log_url) == []
    numbers = [row["number"] for row in await rows(log_url, "transaction_chain_register")]
    assert sorted(numbers) == list(range(1, 11)), "the register has no gap, whoever came first"


async def test_two_sessions_that_write_the_same_give_every_entry_one_place(log_url: str) -> None:
    """As two workers do that drain copies of one spill."""
    entries, worker_id = [entry_of() for _ in range(60)], uuid4()

    async def work() -> None:
        async with connected(log_url) as connection:
            session = ChainSession(worker_id)
            for start in range(0, 60, 10):
                batch = Batch(finals=entries[start : start + 10])
                await write_again(connection, worker_id, batch, session)
            await session.close(connection)

    await asyncio.gather(*(work() for _ in range(3)))
    assert await statuses(log_url) == {entry.transaction_id: OK for entry in entries}
    assert await breaks_of(log_url) == []


async def test_a_session_that_lost_its_connection_never_writes_to_its_chain_again(
    log_url: str,
) -> None:
    worker_id, entry = uuid4(), entry_of()
    connection = await connect_raw(log_url)
    session = ChainSession(worker_id)
    await write_first(connection, worker_id, Batch(finals=[entry]), session)
    connection.terminate()
    with pytest.raises(asyncpg.InterfaceError):
        await write_first(connection, worker_id, Batch(finals=[entry_of()]), session)
    async with connected(log_url) as other:
        again = ChainSession(worker_id)
        await write_again(other, worker_id, Batch(finals=[entry, entry_of()]), again)
        await again.close(other)

    async def closed() -> bool:
        await close_all(log_url)
        return await rows(log_url, "transaction_open_chain") == []

    await eventually(closed, 5)
    assert sorted(row["sequence"] for row in await rows(log_url)) == [1, 1]
    assert await breaks_of(log_url) == []


async def test_a_write_that_commits_late_is_part_of_the_chain_that_it_was_given(
    log_url: str,
) -> None:
    """The worker gave the write up; another session wrote the same meanwhile, or did not."""
    worker_id, late, other = uuid4(), entry_of(), entry_of()
    async with connected(log_url) as slow, connected(log_url) as quick:
        first, second = ChainSession(worker_id), ChainSession(worker_id)
        await first.open(slow, [late])
        transaction = slow.transaction()
        await transaction.start()
        await write_first(slow, worker_id, Batch(finals=[late]), first)
        again = asyncio.create_task(
            write_again(quick, worker_id, Batch(finals=[late, other]), second)
        )
        await asyncio.sleep(0.1)
        assert not again.done(), "it waits for what the other will do"
        async with connected(log_url) as anybody:
            assert await close_chains(anybody) == 0
        await transaction.commit()
        await again
        await first.close(slow)
        await second.close(quick)
    places = {row["transaction_id"]: row["chain_id"] for row in await rows(log_url)}
    assert len(set(places.values())) == 2
    assert await breaks_of(log_url) == []


async def test_a_write_that_is_undone_late_leaves_no_gap(log_url: str) -> None:
    worker_id, entries = uuid4(), [entry_of() for _ in range(4)]
    async with connected(log_url) as slow, connected(log_url) as quick:
        first, second = ChainSession(worker_id), ChainSession(worker_id)
        await write_first(slow, worker_id, Batch(finals=entries[:1]), first)
        transaction = slow.transaction()
        await transaction.start()
        await write_first(slow, worker_id, Batch(finals=entries[1:3]), first)
        await transaction.rollback()
        await write_again(quick, worker_id, Batch(finals=entries), second)
        first.forget()
        await first.close(slow)
        await second.close(quick)
    chains: dict[UUID, list[int]] = {}
    for row in await rows(log_url):
        chains.setdefault(row["chain_id"], []).append(row["sequence"])
    assert sorted(map(sorted, chains.values())) == [[1], [1, 2, 3]]
    assert await breaks_of(log_url) == []
