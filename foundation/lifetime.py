"""When a server process has to stop: a signal, or the death of the process that started it."""

from __future__ import annotations

import asyncio
import os
import signal

_PARENT_POLL_S = 1.0


async def wait_for_stop() -> str:
    """Wait for SIGTERM or SIGINT, or for the parent process to be gone; give which it was.

    A child whose supervisor was killed must not go on serving with nobody to drain it.
    """
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[str] = loop.create_future()

    def stop(reason: str) -> None:
        if not stopped.done():
            stopped.set_result(reason)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    parent = os.getppid()
    while not stopped.done():
        await asyncio.wait((stopped,), timeout=_PARENT_POLL_S)
        if os.getppid() != parent:
            stop("parent gone")
    return stopped.result()
