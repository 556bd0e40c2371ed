"""Work that a process does again and again in the background, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from clearinghouse.storage import DATABASE_ERRORS

_LONGEST_WAIT_S = 5.0
_log = structlog.get_logger("clearinghouse")


class RepeatedWork:
    """Does a piece of work as long as there is any, then waits for a wake-up or a while.

    Whatever a piece raises is logged and ends nothing: work that is not done stands in the
    database.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[int]],
        *,
        at_once: int = 1,
        idle_s: float = 0.5,
    ) -> None:
        """Make it.

        `work` gives how much it did, so many pieces are done at once, and `idle_s` is the longest
        wait without any.
        """
        self._name = name
        self._work = work
        self._idle_s = idle_s
        self._awake = asyncio.Event()
        self._at_once = at_once
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        for _ in range(self._at_once):
            self._tasks.append(asyncio.create_task(self._run(), name=self._name))

    def wake(self) -> None:
        """Say that there may be work."""
        self._awake.set()

    async def stop(self) -> None:
        """End; a piece that is not done yet is done by whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            self._awake.clear()
            done = 0
            try:
                done = await self._work()
                failures = 0
            except DATABASE_ERRORS as error:
                failures += 1
                _log.warning("work put off", work=self._name, error=type(error).__name__)
            except Exception:  # noqa: BLE001  # the outermost place of a background task
                failures += 1
                _log.exception("defect", work=self._name)
            if failures:
                await asyncio.sleep(min(0.1 * 2 ** min(failures, 10), _LONGEST_WAIT_S))
            elif not done:
                await self._idle()

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(self._idle_s):
                await self._awake.wait()
        except TimeoutError:
            pass
