from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from foundation.database import connect_raw, parse_url
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.errors import SettingsError

_REPOSITORY = Path(__file__).parents[2]
_SMALL = {"shared_buffers": "16MB", "max_connections": "20"}
#: What asyncpg raises when the server goes away; the last one if that happens while it writes.
_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError)
#: Runs a program as another system user, who may reach a checkout and a Python in root's home.
_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
_NOBODY += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"]
_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a data folder whose cluster is made once; every test leaves its server stopped.

    It begins with half a cluster, as a killed initdb leaves it.
    """
    with tempfile.TemporaryDirectory(prefix="gem-") as path:
        partial = Path(path) / "postgres.partial"
        partial.mkdir()
        (partial / "PG_VERSION").write_text("18\n")
        yield Path(path)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """Give a server that runs; the test may kill it."""
    embedded = EmbeddedPostgres(folder, _SMALL)
    embedded.start()
    yield embedded
    embedded.stop()


def _sockets_of(server: EmbeddedPostgres) -> Path:
    return Path(str(parse_url(server.url).query["host"]))


def _mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def _value(url: str, query: str) -> object:
    connection = await connect_raw(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def _run(code: str, *arguments: str, identity: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*identity, sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={"PYTHONPATH": f"{_REPOSITORY}:{_REPOSITORY / 'gen'}", "PATH": os.environ["PATH"]},
    )


async def test_durability_cannot_be_switched_off(folder: Path) -> None:
    careless = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = EmbeddedPostgres(folder, _SMALL | careless)
    url = server.start()
    try:
        for name in careless:
            assert await _value(url, f"SHOW {name}") == "on"
    finally:
        server.stop()


async def test_variables_for_another_server_change_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "6000", "PGHOST": "/nowhere", "PGUSER": "x"}.items():
        monkeypatch.setenv(name, value)
    server = EmbeddedPostgres(folder, _SMALL)
    try:
        assert await _value(server.start(), "SELECT 1") == 1
    finally:
        server.stop()


async def test_nobody_comes_in_over_the_network_or_under_another_name(
    server: EmbeddedPostgres,
) -> None:
    assert await _value(server.url, "SHOW listen_addresses") == ""
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await connect_raw(server.url.replace("gemarket@", "postgres@"))


@_AS_ROOT
async def test_another_system_user_does_not_come_in(server: EmbeddedPostgres) -> None:
    code = (
        "import asyncio, sys; from foundation.database import connect_raw;"
        "asyncio.run(connect_raw(sys.argv[1]))"
    )
    refused = await asyncio.to_thread(_run, code, server.url, identity=_NOBODY)
    assert "InvalidAuthorizationSpecificationError" in refused.stderr


def test_a_second_owner_of_the_folder_is_refused(server: EmbeddedPostgres, folder: Path) -> None:
    with pytest.raises(SettingsError, match="data_dir: another process runs"):
        EmbeddedPostgres(folder, _SMALL).start()
    assert server.pid is not None


def _kill_later(server: EmbeddedPostgres) -> None:
    time.sleep(0.2)
    server.kill()


@pytest.mark.fault
async def test_what_was_acknowledged_survives_kill_9(server: EmbeddedPostgres) -> None:
    connection = await connect_raw(server.url)
    await connection.execute("DROP TABLE IF EXISTS entry; CREATE TABLE entry (id int)")
    acknowledged = 0
    killing = asyncio.create_task(asyncio.to_thread(_kill_later, server))
    with suppress(*_BROKEN):
        while True:
            await connection.execute("INSERT INTO entry VALUES ($1)", acknowledged)
            acknowledged += 1
    await killing
    assert acknowledged > 0
    connection.terminate()
    assert server.pid is None
    assert server.start() == server.url
    assert await _value(server.url, "SELECT count(*) FROM entry") in (
        acknowledged,
        acknowledged + 1,
    )


@pytest.mark.fault
async def test_the_server_that_a_killed_process_left_behind_is_replaced(folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path;"
        "from foundation.embedded_postgres import EmbeddedPostgres;"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.start();"
        "print(server.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = await asyncio.to_thread(_run, code, str(folder), identity=[])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    orphan = int(killed.stdout)
    os.kill(orphan, 0)
    server = EmbeddedPostgres(folder, _SMALL)
    url = server.start()
    try:
        with pytest.raises(ProcessLookupError):
            os.kill(orphan, 0)
        assert await _value(url, "SELECT 1") == 1
    finally:
        server.stop()


@pytest.mark.fault
async def test_a_pid_file_that_names_another_program_does_not_matter(folder: Path) -> None:
    server = EmbeddedPostgres(folder, _SMALL)
    server.start()
    server.kill()
    pid_file = folder / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    url = server.start()
    try:
        assert await _value(url, "SELECT 1") == 1
    finally:
        server.stop()


@pytest.mark.fault
def test_a_server_that_was_stopped_in_its_tracks_can_be_shut_down(
    server: EmbeddedPostgres,
) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert server.pid is None


@pytest.mark.fault
def test_half_a_cluster_is_never_used(server: EmbeddedPostgres, folder: Path) -> None:
    assert server.pid is not None
    assert not (folder / "postgres.partial").exists()


async def test_values_of_statements_stay_out_of_the_log(
    server: EmbeddedPostgres, folder: Path
) -> None:
    connection = await connect_raw(server.url)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(
            "CREATE TEMPORARY TABLE person (name text PRIMARY KEY);"
            "INSERT INTO person VALUES ('Mallory'), ('Mallory')"
        )
    await connection.close()
    server.stop()
    logs = [*(folder / "postgres" / "log").iterdir(), folder / "postgres-start.log"]
    text = "".join(log.read_text() for log in logs)
    assert "duplicate key value" in text
    assert "Mallory" not in text


@pytest.fixture
def long_folder(folder: Path) -> Iterator[Path]:
    """Lend the cluster to a data folder whose path is too long for a socket."""
    path = folder / ("long" * 30)
    path.mkdir()
    made = EmbeddedPostgres(folder, _SMALL)
    made.start()
    made.stop()
    (folder / "postgres").rename(path / "postgres")
    yield path
    (path / "postgres").rename(folder / "postgres")
    shutil.rmtree(path)


async def test_a_long_folder_has_its_socket_elsewhere(long_folder: Path) -> None:
    server = EmbeddedPostgres(long_folder, _SMALL)
    try:
        assert await _value(server.start(), "SELECT 1") == 1
        assert len(str(_sockets_of(server))) < 100
        assert _mode_of(_sockets_of(server)) == 0o700
    finally:
        server.stop()
        _sockets_of(server).rmdir()


def test_a_folder_for_sockets_that_somebody_else_made_is_refused(long_folder: Path) -> None:
    server = EmbeddedPostgres(long_folder, _SMALL)
    sockets = _sockets_of(server)
    sockets.symlink_to(long_folder)
    try:
        with pytest.raises(SettingsError, match="is not a folder of"):
            server.start()
        assert server.pid is None
    finally:
        sockets.unlink()


@_AS_ROOT
async def test_a_folder_that_only_root_reaches_keeps_its_mode(folder: Path) -> None:
    os.chmod(folder, 0o700)  # noqa: PTH101  # a moment's work
    server = EmbeddedPostgres(folder, _SMALL)
    url = server.start()
    try:
        assert await _value(url, "SELECT 1") == 1
        assert _mode_of(folder) == 0o700
        assert server.pid is not None
        assert os.stat(f"/proc/{server.pid}").st_uid != 0  # noqa: PTH116  # no real file
    finally:
        server.stop()


@_AS_ROOT
def test_an_ordinary_user_runs_a_server_of_its_own_but_not_roots(
    server: EmbeddedPostgres, folder: Path
) -> None:
    server.stop()
    code = (
        "import sys; from pathlib import Path;"
        "from foundation.embedded_postgres import EmbeddedPostgres;"
        "server = EmbeddedPostgres(Path(sys.argv[1])); print(server.start()); server.stop()"
    )
    with tempfile.TemporaryDirectory(prefix="gem-") as path:
        os.chown(path, 65534, 65534)
        own = _run(code, path, identity=_NOBODY)
        assert own.stdout.startswith("postgresql+asyncpg://"), own.stderr
    others = _run(code, str(folder), identity=_NOBODY)
    assert "data_dir: the database belongs to the system user" in others.stderr
