"""Wakes the streams of one worker when a notice for their partner was committed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import asyncpg
import structlog

from foundation.database import connect_raw
from marketplace.storage_notice import CHANNEL, EVERYBODY

_FIRST_RETRY_S = 0.05
_LONGEST_RETRY_S = 2.0


class NoticeFeed:
    """Listens on one connection for all streams; it says that there is news, never what.

    Whoever waits is woken too often rather than too seldom: at every reconnection, and when the
    worker drains.
    """

    def __init__(self, url: str, heartbeat_s: float = 2.0, timeout_s: float = 2.0) -> None:
        self._url = url
        self._heartbeat_s = heartbeat_s
        self._timeout_s = timeout_s
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._broken = asyncio.Event()
        self._retry_s = _FIRST_RETRY_S
        self._task: asyncio.Task[None] | None = None
        #: True once streams are to end because the worker does.
        self.draining = False
        self._log = structlog.get_logger(component="notice_feed")

    async def start(self) -> None:
        """Begin to listen; a database that is away is tried again for ever."""
        assert self._task is None, "a feed is started once"
        self._task = asyncio.create_task(self._run(), name="notice feed")

    async def stop(self) -> None:
        """End the feed and its connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def enter_drain(self) -> None:
        """Wake every stream to its end."""
        self.draining = True
        self._wake_all()

    @contextmanager
    def following(self, recipient_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the partner may have a new notice."""
        news = asyncio.Event()
        self._waiting.setdefault(recipient_id, set()).add(news)
        try:
            yield news
        finally:
            left = self._waiting[recipient_id]
            left.discard(news)
            if not left:
                del self._waiting[recipient_id]

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                # TimeoutError is an OSError.
                self._log.warning("notice feed disconnected", error=type(error).__name__)
            await asyncio.sleep(self._retry_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
            self._retry_s = min(self._retry_s * 2, _LONGEST_RETRY_S)

    async def _listen(self) -> None:
        """Listen until the connection breaks, which raises."""
        connection = await connect_raw(self._url, self._timeout_s)
        try:
            self._broken.clear()
            connection.add_termination_listener(lambda _: self._broken.set())
            await connection.add_listener(CHANNEL, self._heard)
            # What was committed while nobody listened.
            self._wake_all()
            self._retry_s = _FIRST_RETRY_S
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._broken.wait(), self._heartbeat_s)
                if connection.is_closed():
                    raise ConnectionError
                await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload == EVERYBODY:
            self._wake_all()
            return
        for news in self._waiting.get(str(payload), ()):
            news.set()

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for news in waiting:
                news.set()
