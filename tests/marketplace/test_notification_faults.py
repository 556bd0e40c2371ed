"""The delivery while workers are killed and stopped, connections cut, mail servers babble."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from marketplace.notification_delivery import Outcome
from tests.control_plane import ControlPlane
from tests.end_to_end.load import until
from tests.mail_server import TAKEN, Mailbox, mail_server
from tests.notification_post import Post

#: Idle connections of a pool are replaced when they are next taken.
_CUT_OTHERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def post(plane: ControlPlane, control_plane_url: str) -> Post:
    return Post(plane, control_plane_url)


@pytest.mark.fault
@pytest.mark.parametrize(
    "greeting", [b"", b"220", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 4096]
)
async def test_a_server_that_makes_no_sense_holds_a_worker_for_a_bounded_time(
    post: Post, greeting: bytes
) -> None:
    await post.subscriber("volt")
    await post.write("volt")
    talks: list[asyncio.StreamWriter] = []

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(writer)
        writer.write(greeting)
        await writer.drain()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    delivery = post.delivery(server.sockets[0].getsockname()[1], timeout_s=0.3)
    outcomes = await asyncio.wait_for(post.work(delivery), 10)
    assert outcomes == [Outcome.UNREACHABLE]
    assert await post.waiting() == 1
    for writer in talks:
        writer.close()
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def worker(url: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process that delivers, as a worker does; kill it in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.delivery_worker", url, str(port)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.fault
async def test_a_worker_that_is_killed_loses_no_e_mail_and_changes_no_order(post: Post) -> None:
    for name in ("volt", "watt"):
        await post.subscriber(name)
    for _ in range(10):
        await post.write("volt", "watt")
    running: list[asyncio.subprocess.Process] = []
    killed_at: list[str] = []

    def answer(_envelope: Any) -> str:
        """Take the e-mail, and at some of them kill the worker before it learns of that."""
        if len(mailbox.taken) in (3, 8, 9):
            running[-1].kill()
            killed_at.append("killed")
        return TAKEN

    async with mail_server(Mailbox(answer=answer)) as mailbox:
        for expected in (1, 2, 3):
            async with worker(post.url, mailbox.port) as process:
                running.append(process)
                assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGKILL
                assert len(killed_at) == expected
        async with worker(post.url, mailbox.port) as process:
            running.append(process)
            await until(post.all_delivered, 20, "all is delivered")
    assert len(mailbox.taken) == 23, "each kill makes one double and no loss"
    for name in ("volt", "watt"):
        came = mailbox.sequences(name)
        assert came == sorted(came)
        assert set(came) == set(range(2, 12))


@pytest.mark.fault
async def test_a_worker_that_is_stopped_keeps_its_e_mail_from_others_for_a_bounded_time(
    post: Post,
) -> None:
    await post.subscriber("volt")
    await post.write("volt", "volt")
    running: list[asyncio.subprocess.Process] = []
    took = asyncio.Event()

    def answer(_envelope: Any) -> str:
        if not took.is_set():
            running[0].send_signal(signal.SIGSTOP)
            took.set()
        return TAKEN

    async with (
        mail_server(Mailbox(answer=answer)) as mailbox,
        worker(post.url, mailbox.port) as process,
    ):
        running.append(process)
        await asyncio.wait_for(took.wait(), 20)
        assert await post.work(post.delivery(mailbox.port)) == []
        other = asyncio.create_task(post.delivery(mailbox.port).run())
        await until(post.all_delivered, 10, "another worker has delivered it")
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    assert mailbox.sequences("volt") == [2, 2, 3]


@pytest.mark.fault
async def test_the_delivery_goes_on_after_its_connection_is_cut(post: Post) -> None:
    await post.subscriber("volt")
    async with mail_server(Mailbox()) as mailbox:
        task = asyncio.create_task(post.delivery(mailbox.port).run())
        for expected in (1, 2, 3):
            await post.write("volt")
            await until(post.all_delivered, 10, "it is delivered")
            assert len(mailbox.taken) == expected
            async with post.plane.engine.begin() as connection:
                await connection.execute(_CUT_OTHERS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert mailbox.sequences("volt") == [2, 3, 4]
