"""The stream of an inbox: catch-up first, then live; each notice once and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.marketplace.v1.notification_service_pb2 import WatchNotificationsRequest
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import AccessRole
from interceptors.call import Call, Caller
from marketplace.actor import Actor
from marketplace.notice import Notice, NoticeKind
from marketplace.notice_feed import NoticeFeed
from marketplace.notification_servicer import NotificationServicer
from marketplace.storage_command import Commands, Work
from marketplace.storage_notice import tell
from tests.control_plane import ControlPlane
from tests.interceptors.support import make_call, raises

_CUT_LISTENERS = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')"
    " AND pid <> pg_backend_pid()"
)


class CountedCommands(Commands):
    """Counts how often the inbox is read."""

    reads = 0

    @asynccontextmanager
    async def read(self, call: Call, actor: Actor | None = None) -> AsyncIterator[Work]:
        self.reads += 1
        async with super().read(call, actor) as work:
            yield work


class Stream:
    """A follower of an inbox."""

    def __init__(self, plane: ControlPlane, who: str, after: int = 0) -> None:
        self.commands = CountedCommands(plane.engine)
        servicer = NotificationServicer(self.commands, plane.notices, sends_email=False)
        role = frozenset({int(AccessRole.ACCESS_ROLE_PARTNER)})
        call = make_call(b"", caller=Caller(who, role, who.encode()))
        self._messages: Any = servicer.WatchNotifications(
            WatchNotificationsRequest(after_sequence=after), call
        )

    async def read(self, count: int) -> list[int]:
        """Wait for so many more and give their sequences."""
        async with asyncio.timeout(10):
            return [(await anext(self._messages)).notification.sequence for _ in range(count)]

    async def is_silent(self) -> bool:
        """Say whether nothing comes for a moment; the stream is of no use afterwards."""
        try:
            await asyncio.wait_for(anext(self._messages), 0.2)
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        await self._messages.aclose()


@asynccontextmanager
async def following(plane: ControlPlane, who: str, after: int = 0) -> AsyncIterator[Stream]:
    """Follow an inbox."""
    stream = Stream(plane, who, after)
    try:
        yield stream
    finally:
        await stream.close()


async def _tell(plane: ControlPlane, *names: str, pause_s: float = 0.0) -> None:
    notices = [Notice(name, NoticeKind.SERVICE_MESSAGE, "T", "T", utc_now()) for name in names]
    async with plane.engine.begin() as connection:
        await tell(connection, notices)
        await asyncio.sleep(pause_s)


async def test_a_stream_catches_up_and_then_goes_on_live(plane: ControlPlane) -> None:
    await _tell(plane, *["volt"] * 250)
    async with following(plane, "volt") as stream:
        assert await stream.read(250) == list(range(1, 251))
        waiting = asyncio.create_task(stream.read(2))
        await _tell(plane, "watt", "volt")
        await _tell(plane, "volt")
        assert await waiting == [251, 252]


async def test_a_stream_resumes_behind_what_was_seen(plane: ControlPlane) -> None:
    await _tell(plane, *["volt"] * 5)
    async with following(plane, "volt", after=3) as stream:
        assert await stream.read(2) == [4, 5]
        assert await stream.is_silent()


async def test_others_notices_do_not_come(plane: ControlPlane) -> None:
    async with following(plane, "volt") as stream:
        await _tell(plane, "watt")
        assert await stream.is_silent()


async def test_what_is_not_committed_does_not_come_and_is_not_skipped(plane: ControlPlane) -> None:
    """Two tell at once; the one that began first commits last, and nothing is passed over."""
    async with following(plane, "volt") as stream:
        slow = asyncio.create_task(_tell(plane, "volt", pause_s=0.3))
        await asyncio.sleep(0.1)
        fast = asyncio.create_task(_tell(plane, "volt"))
        assert await stream.read(2) == [1, 2]
        await asyncio.gather(slow, fast)


async def test_a_stream_that_waits_leaves_the_database_alone(plane: ControlPlane) -> None:
    async with following(plane, "volt") as stream:
        for _ in range(3):
            waiting = asyncio.create_task(stream.read(1))
            await _tell(plane, "volt")
            await waiting
        assert await stream.is_silent()
        # One look for each that came and one that finds no more; the feed's start may wake once.
        assert stream.commands.reads <= 8


async def test_under_load_every_follower_gets_each_notice_once(plane: ControlPlane) -> None:
    order, names = random.Random(7), ["volt", "watt"]
    streams = [Stream(plane, name) for name in names for _ in range(3)]
    readers = [asyncio.create_task(stream.read(60)) for stream in streams]

    async def write() -> None:
        for _ in range(20):
            await _tell(plane, *names, pause_s=order.uniform(0, 0.005))

    await asyncio.gather(*(write() for _ in range(3)))
    for came in await asyncio.gather(*readers):
        assert came == list(range(1, 61))
    for stream in streams:
        await stream.close()


async def test_a_stream_ends_with_its_worker_and_tells_where_to_go_on(plane: ControlPlane) -> None:
    await _tell(plane, "volt")
    async with following(plane, "volt") as stream:
        assert await stream.read(1) == [1]
        waiting = asyncio.create_task(stream.read(1))
        await asyncio.sleep(0.05)
        plane.notices.enter_drain()
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_DRAINING)):
            await waiting


async def test_who_leaves_is_forgotten(plane: ControlPlane) -> None:
    feed: NoticeFeed = plane.notices
    for _ in range(3):
        async with following(plane, "volt") as stream:
            await _tell(plane, "volt")
            await stream.read(1)
            assert feed._waiting.keys() == {"volt"}
    assert feed._waiting == {}


@pytest.mark.fault
async def test_a_stream_misses_nothing_while_the_feed_is_cut_off(plane: ControlPlane) -> None:
    async with following(plane, "volt") as stream:
        for expected in range(1, 4):
            waiting = asyncio.create_task(stream.read(1))
            await asyncio.sleep(0.05)
            async with plane.engine.begin() as connection:
                assert await connection.scalar(_CUT_LISTENERS) >= 1
            await _tell(plane, "volt")
            assert await waiting == [expected]
