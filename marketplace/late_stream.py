"""A streaming call to a provider whose endpoint's name has to be resolved first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from marketplace.router.transport import ProviderStream


class LateStream:
    """Implements `marketplace.router.transport.ProviderStream`; begins when the call can."""

    def __init__(self, begin: Coroutine[Any, Any, ProviderStream]) -> None:
        self._begun = asyncio.get_running_loop().create_task(begin)
        self._begun.add_done_callback(_seen)

    async def write(self, message: bytes) -> None:
        await (await self._stream()).write(message)

    async def done_writing(self) -> None:
        await (await self._stream()).done_writing()

    async def read(self) -> bytes | None:
        return await (await self._stream()).read()

    def cancel(self) -> None:
        if not self._begun.done():
            self._begun.cancel()
        elif not self._begun.cancelled() and self._begun.exception() is None:
            self._begun.result().cancel()

    async def _stream(self) -> ProviderStream:
        # A reader that is cancelled does not end the call for the writer.
        return await asyncio.shield(self._begun)


def _seen(task: asyncio.Task[ProviderStream]) -> None:
    """Look at a failure that nobody may ever read, lest it is reported as lost."""
    if not task.cancelled():
        task.exception()
