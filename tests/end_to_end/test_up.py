"""`gemarket up` as a program: ready, alone in its folder, stopped, killed, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from gemarket.endpoints import Endpoints, NotRunningError, read_endpoints
from gemarket.identity import Identity
from tests.end_to_end.figures import report
from tests.end_to_end.load import until
from tests.end_to_end.whole_market import Party

pytestmark = pytest.mark.fault
_ROOT = Path(__file__).resolve().parents[2]
_OPTIONS = ("--bare", "--port", "0", "--session-port", "0", "--metrics-port", "0", "--workers", "2")


@asynccontextmanager
async def up(folder: Path) -> AsyncIterator[Process]:
    """Start `gemarket up` in a data directory, without waiting for anything."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gemarket.main", "up", *_OPTIONS, "--data-dir", str(folder)),
        env={**os.environ, "PYTHONPATH": str(_ROOT), "COLUMNS": "300"},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(folder: Path, other_than: Endpoints | None = None) -> Endpoints:
    """Wait for `endpoints.json`, of another market than one that was killed."""

    def there() -> bool:
        try:
            return read_endpoints(folder / "endpoints.json") != other_than
        except NotRunningError:
            return False

    await until(there, 60, "the market is ready")
    return read_endpoints(folder / "endpoints.json")


async def publishes(endpoints: Endpoints) -> bool:
    """Say whether a core service answers an operator."""
    files = endpoints.operators["technical"]
    party = Party("t", Identity(Path(files.certificate_file).parent), endpoints.marketplace)
    try:
        async with asyncio.timeout(10):
            await party.core.channel.channel_ready()
    finally:
        await party.close()
    return True


def processes_of(folder: Path) -> list[psutil.Process]:
    """Give every process that has the data directory in its command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or ()
        if process.pid != os.getpid() and any(str(folder) in word for word in line):
            found.append(process)
    return found


async def test_a_market_stops_in_order_and_comes_back_after_a_kill(short_tmp_dir: Path) -> None:
    folder = short_tmp_dir / "up"
    async with up(folder) as first:
        endpoints = await ready(folder)
        assert await publishes(endpoints)
        assert set(endpoints.processes) == {"worker-0", "worker-1"}
        with urllib.request.urlopen(endpoints.metrics, timeout=5) as response:  # noqa: ASYNC210 - short
            assert b"# TYPE " in response.read()
        async with up(folder) as second:
            _, refusal = await asyncio.wait_for(second.communicate(), 30)
            assert second.returncode == 1
            assert b"data_dir: another market runs in this data directory" in refusal
        assert read_endpoints(folder / "endpoints.json") == endpoints, "the first is undisturbed"
        begun_s = time.monotonic()
        first.send_signal(signal.SIGTERM)
        shown, logged = await asyncio.wait_for(first.communicate(), 40)
        stopped_s = time.monotonic() - begun_s
        assert first.returncode == 0, logged.decode()
    assert shown.decode().splitlines()[-2:] == ["draining", "stopped"]
    assert f"ready: {endpoints.marketplace} (2 workers)" in shown.decode()
    assert processes_of(folder) == []
    assert not (folder / "endpoints.json").exists()

    async with up(folder) as killed:
        endpoints = await ready(folder)
        killed.kill()
        await killed.wait()
        workers = [
            psutil.Process(pid) for pid in endpoints.processes.values() if psutil.pid_exists(pid)
        ]
        gone_s = await until(
            lambda: not any(map(psutil.Process.is_running, workers)), 30, "the workers end too"
        )
    async with up(folder) as third:
        again = await ready(folder, other_than=endpoints)
        assert await publishes(again)
        third.send_signal(signal.SIGINT)
        await asyncio.wait_for(third.communicate(), 40)
        assert third.returncode == 0
    assert processes_of(folder) == []
    report("gemarket up killed", stopped_s=stopped_s, workers_gone_s=gone_s)
