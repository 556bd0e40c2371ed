"""Group commit: what it refuses, and how records of many callers come together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from marketplace.group_commit import GroupCommit, GroupLimits
from marketplace.transaction_batch import Batch, Kind
from tests.transaction_log_support import entry_of, failed_of

Write = Callable[[Batch], Awaitable[None]]


@asynccontextmanager
async def committing(write: Write, limits: GroupLimits) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(write, limits)
    task = asyncio.create_task(group.run())
    yield group
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class SlowStore:
    """Keeps what it is given; a write lasts until it is let through."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.let_through = asyncio.Event()
        self.writing = 0

    async def write(self, batch: Batch) -> None:
        self.writing += 1
        assert self.writing == 1, "one batch at a time"
        await self.let_through.wait()
        self.batches.append(batch)
        self.writing -= 1


async def test_more_than_may_wait_is_refused_at_once() -> None:
    store = SlowStore()
    async with committing(store.write, GroupLimits(pending_records=3)) as group:
        first = group.submit(Kind.FINAL, [entry_of(), entry_of()])
        with pytest.raises(BufferError):
            await group.submit(Kind.FINAL, [entry_of(), entry_of()])
        second = group.submit(Kind.FINAL, [entry_of()])
        store.let_through.set()
        await asyncio.gather(first, second)
        assert group.pending == 0


async def test_every_caller_of_a_failed_batch_gets_the_failure_and_the_next_batch_goes_on() -> None:
    failures = [OSError("disk"), None]

    async def write(_batch: Batch) -> None:
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    async with committing(write, GroupLimits()) as group:
        both = [group.submit(Kind.FINAL, [entry_of()]) for _ in range(2)]
        results = await asyncio.gather(*both, return_exceptions=True)
        assert [str(result) for result in results] == ["disk", "disk"]
        await group.submit(Kind.FINAL, [entry_of()])


async def test_a_cancelled_caller_withdraws_nothing() -> None:
    store = SlowStore()
    async with committing(store.write, GroupLimits()) as group:
        group.submit(Kind.FINAL, [entry_of()]).cancel()
        last = group.submit(Kind.FINAL, [entry_of()])
        store.let_through.set()
        await last
    assert sum(len(batch) for batch in store.batches) == 2


async def test_records_that_come_during_a_write_are_one_batch() -> None:
    store = SlowStore()
    async with committing(store.write, GroupLimits(linger_s=0)) as group:
        first = group.submit(Kind.FINAL, [entry_of()])
        await asyncio.sleep(0.01)
        others = [group.submit(Kind.INTENT, [entry_of()]) for _ in range(9)]
        others.append(group.submit(Kind.FAILED, [failed_of()]))
        store.let_through.set()
        await asyncio.gather(first, *others)
    assert [len(batch) for batch in store.batches] == [1, 10]
    assert store.batches[1].kinds() == 2


async def test_a_batch_is_bounded_and_one_callers_records_stay_together() -> None:
    store = SlowStore()
    store.let_through.set()
    async with committing(store.write, GroupLimits(batch_records=10)) as group:
        sizes = (4, 4, 4, 25, 1)
        await asyncio.gather(
            *(group.submit(Kind.FINAL, [entry_of() for _ in range(size)]) for size in sizes)
        )
    assert [len(batch) for batch in store.batches] == [8, 4, 25, 1]


async def test_flush_waits_for_everything() -> None:
    store = SlowStore()
    async with committing(store.write, GroupLimits()) as group:
        group.submit(Kind.FINAL, [entry_of()])
        flushed = asyncio.create_task(group.flush())
        await asyncio.sleep(0.01)
        assert not flushed.done()
        store.let_through.set()
        await flushed
        assert len(store.batches) == 1
