"""Work for many items: a few at once, and the first failure ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from foundation.bounded_work import several


async def test_the_first_failure_ends_the_work_and_is_raised_as_it_is() -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        if item == 3:
            raise KeyError(item)
        done.append(item)

    with pytest.raises(KeyError, match="3"):
        await several(range(1000), work, 2)
    assert len(done) < 10


async def test_items_are_taken_one_by_one_and_a_few_are_under_way_at_once() -> None:
    taken = under_way = most = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    async def work(item: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        assert taken <= item + 4, "none is taken before there is room for it"
        await asyncio.sleep(0)
        under_way -= 1

    await several(items(), work, 4)
    assert (taken, most) == (50, 4)


async def test_nothing_to_do_is_done_at_once() -> None:
    await several([], pytest.fail, 3)
