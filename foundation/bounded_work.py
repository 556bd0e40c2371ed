"""Work for many items, a few at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def several(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Do work for all items, which are taken one by one as there is room for them.

    Raises:
        Exception: the first one of the work, which ends all of it; those that come with it are
            lost.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except ExceptionGroup as failures:
        # An exception of a group says nothing to who called for one item's sake.
        raise failures.exceptions[0] from None
