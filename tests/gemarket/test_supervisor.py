"""Child processes: started until ready, started again when they die, stopped for certain."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from gemarket.supervisor import KEPT_MEMORY, OWN_POLLING, ChildFailedError, ChildSpec, Supervisor

_ROOT = Path(__file__).resolve().parents[2]
MakeSupervisor = Callable[..., Supervisor]


def child(way: str, name: str = "") -> ChildSpec:
    """Describe a child of `tests/gemarket/child.py`."""
    environment = {"PYTHONPATH": str(_ROOT)}
    return ChildSpec(name or way, "tests.gemarket.child", (way,), environment)


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def until(condition: Callable[[], bool]) -> None:
    """Wait, not for ever, until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - processes give no events
            await asyncio.sleep(0.02)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeSupervisor]:
    """Give supervisors whose children do not outlive the test."""
    made: list[Supervisor] = []

    def supervisor(**options: object) -> Supervisor:
        made.append(Supervisor(tmp_path / "logs", **options))  # type: ignore[arg-type]
        return made[-1]

    yield supervisor
    for each in made:
        await each.close(0.0)


async def test_a_child_that_ends_before_it_is_ready_is_a_failure_that_names_its_log(
    make: MakeSupervisor, tmp_path: Path
) -> None:
    with pytest.raises(ChildFailedError, match=r"fails did not become ready; see .*fails\.log"):
        await make().start(child("fails"))
    assert "something is wrong" in (tmp_path / "logs" / "fails.log").read_text()


async def test_a_silent_child_is_killed_after_the_timeout(make: MakeSupervisor) -> None:
    supervisor = make(start_timeout_s=1.5)
    starting = asyncio.create_task(supervisor.start(child("silent")))
    await until(lambda: "silent" in supervisor.pids())
    pid = supervisor.pids()["silent"]
    with pytest.raises(ChildFailedError):
        await starting
    assert not alive(pid)


async def test_when_one_of_several_fails_none_is_left_behind(make: MakeSupervisor) -> None:
    supervisor = make()
    with pytest.raises(ChildFailedError):
        await supervisor.start(child("fails"), child("slow"), child("json"))
    pids = [pid for name, pid in supervisor.pids().items() if name != "fails"]
    await supervisor.close(5.0)
    assert [pid for pid in pids if alive(pid)] == []
    assert supervisor.pids() == {}


async def test_a_child_that_dies_is_started_again_and_its_end_is_told(
    make: MakeSupervisor,
) -> None:
    ended: list[int] = []
    supervisor = make(on_end=ended.append)
    await supervisor.start(child("well"), child("json"))
    first = supervisor.pids()
    os.kill(first["well"], signal.SIGKILL)
    await until(lambda: supervisor.pids()["well"] != first["well"])
    assert ended == [first["well"]]
    assert alive(supervisor.pids()["well"])
    assert supervisor.pids()["json"] == first["json"], "its sibling is left alone"


async def test_a_child_that_is_stopped_stays_so(make: MakeSupervisor) -> None:
    supervisor = make()
    await supervisor.start(child("well"))
    pid = supervisor.pids()["well"]
    begun_s = time.monotonic()
    await supervisor.stop("well", 10.0)
    assert time.monotonic() - begun_s < 5.0, "SIGTERM ends it, not the grace"
    assert not alive(pid)
    await asyncio.sleep(1.0)
    assert supervisor.pids() == {}
    await supervisor.stop("well", 1.0)


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(
    make: MakeSupervisor,
) -> None:
    supervisor = make()
    await supervisor.start(child("stubborn"), child("well"))
    pids = list(supervisor.pids().values())
    begun_s = time.monotonic()
    await supervisor.close(0.5)
    assert 0.5 <= time.monotonic() - begun_s < 5.0
    assert [pid for pid in pids if alive(pid)] == []


async def test_what_a_child_prints_goes_to_its_log(make: MakeSupervisor, tmp_path: Path) -> None:
    supervisor = make()
    await supervisor.start(child("well", name="talker"))
    await supervisor.stop("talker", 5.0)
    assert (tmp_path / "logs" / "talker.log").read_text() == "a line before\nready\n"


async def test_a_child_keeps_its_memory_and_polls_unless_the_operator_says_otherwise(
    make: MakeSupervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*KEPT_MEMORY, *OWN_POLLING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "131072")
    supervisor = make()
    await supervisor.start(child("settings"))
    await supervisor.stop("settings", 5.0)
    told = (tmp_path / "logs" / "settings.log").read_text().splitlines()[0]
    expected = {**KEPT_MEMORY, **OWN_POLLING, "MALLOC_TOP_PAD_": "131072"}
    assert ast.literal_eval(told) == expected
    assert KEPT_MEMORY["MALLOC_TRIM_THRESHOLD_"] == "67108864"
