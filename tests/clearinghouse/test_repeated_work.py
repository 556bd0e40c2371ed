"""Work in the background goes on whatever it raises, wakes when it is told, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from clearinghouse.repeated_work import RepeatedWork

PATIENCE_S = 10.0


@asynccontextmanager
async def working(
    work: Callable[[], Awaitable[int]], at_once: int = 1, idle_s: float = 60.0
) -> AsyncIterator[RepeatedWork]:
    made = RepeatedWork("test", work, at_once=at_once, idle_s=idle_s)
    made.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield made
    finally:
        await made.stop()


class Counted:
    """Work that says how often it was done."""

    def __init__(self, *results: int | Exception) -> None:
        self.results = list(results)
        self.done = 0
        self.changed = asyncio.Event()

    async def __call__(self) -> int:
        self.done += 1
        self.changed.set()
        found = self.results.pop(0) if self.results else 0
        if isinstance(found, Exception):
            raise found
        return found

    async def reach(self, count: int) -> None:
        while self.done < count:
            self.changed.clear()
            await self.changed.wait()


@pytest.mark.fault
@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(), TimeoutError()])
async def test_what_a_piece_raises_ends_nothing(error: Exception) -> None:
    work = Counted(error, error, 1)
    async with working(work):
        await work.reach(4)


async def test_it_goes_on_as_long_as_there_is_work_and_then_waits() -> None:
    work = Counted(5, 5, 5)
    async with working(work):
        await work.reach(4)
        await asyncio.sleep(0.05)
        assert work.done == 4


async def test_a_wake_up_ends_the_wait() -> None:
    work = Counted()
    async with working(work) as made:
        await work.reach(1)
        await asyncio.sleep(0)
        made.wake()
        await work.reach(2)


async def test_without_a_wake_up_it_looks_again_after_a_while() -> None:
    work = Counted()
    async with working(work, idle_s=0.01):
        await work.reach(3)


async def test_so_many_pieces_are_done_at_once() -> None:
    running, gate = 0, asyncio.Event()

    async def work() -> int:
        nonlocal running
        running += 1
        if running == 3:
            gate.set()
        await asyncio.Event().wait()
        return 0

    async with working(work, at_once=3):
        await gate.wait()
        await asyncio.sleep(0.01)
        assert running == 3


async def test_a_stop_ends_what_never_ends_by_itself() -> None:
    begun = asyncio.Event()

    async def work() -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    made = RepeatedWork("test", work)
    await made.stop()
    made.start()
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    await asyncio.wait_for(made.stop(), PATIENCE_S)
