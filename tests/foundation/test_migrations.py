from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from foundation.database import connect_raw
from foundation.migrations import migrate

#: What the fixture `migrated_database` gives: packages in, URL of a fresh database out.
MigratedDatabase = Callable[..., Awaitable[str]]
_REPOSITORY = Path(__file__).parents[2]
_VERSION = '''"""Make a table."""
from alembic import op

revision = "{revision}"
down_revision = {before}


def upgrade() -> None:
    op.execute("SELECT pg_sleep(0.05)")
    op.execute("{statement}")
'''
#: Adds a version to the package: file name without `.py`, revision before it, statement.
AddVersion = Callable[[str, str | None, str], None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a package without versions that can be imported for the time of the test."""
    name = f"shop_{tmp_path.name.replace('-', '_')}"[:40].lower()
    (tmp_path / name / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture
def add_version(tmp_path: Path, package: str) -> AddVersion:
    """Give `add_version(revision, before, statement)`."""

    def add(revision: str, before: str | None, statement: str) -> None:
        content = _VERSION.format(revision=revision, before=repr(before), statement=statement)
        versions = tmp_path / package / "migrations" / "versions"
        (versions / f"{revision}_table.py").write_text(content)

    return add


async def _tables(url: str, schema: str) -> list[str]:
    connection = await connect_raw(url)
    rows = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema
    )
    await connection.close()
    return [row["tablename"] for row in rows]


async def test_a_package_without_versions_is_refused(database_url: str) -> None:
    with pytest.raises(FileNotFoundError):
        await migrate(database_url, "foundation")


@pytest.mark.fault
async def test_a_version_that_fails_leaves_the_database_as_it_was(
    database_url: str, package: str, add_version: AddVersion
) -> None:
    add_version("0001", None, f"CREATE TABLE {package}.first (id int)")
    add_version("0002", "0001", "CREATE NONSENSE")
    with pytest.raises(DBAPIError, match="NONSENSE"):
        await migrate(database_url, package)
    assert await _tables(database_url, package) == []
    await migrate(database_url, package, "0001")
    assert await _tables(database_url, package) == ["alembic_version", "first"]


async def test_tables_and_the_version_live_in_the_schema_of_the_package(
    database_url: str, package: str, add_version: AddVersion
) -> None:
    add_version("0001", None, f"CREATE TABLE {package}.first (id int)")
    await migrate(database_url, package)
    assert await _tables(database_url, package) == ["alembic_version", "first"]
    assert await _tables(database_url, "public") == []


async def test_only_missing_versions_run(
    database_url: str, package: str, add_version: AddVersion
) -> None:
    add_version("0001", None, f"CREATE TABLE {package}.first (id int)")
    await migrate(database_url, package)
    await migrate(database_url, package)
    add_version("0002", "0001", f"CREATE TABLE {package}.second (id int)")
    await migrate(database_url, package)
    assert await _tables(database_url, package) == ["alembic_version", "first", "second"]


async def test_a_test_gets_migrated_databases_of_its_own(
    migrated_database: MigratedDatabase, package: str, add_version: AddVersion
) -> None:
    add_version("0001", None, f"CREATE TABLE {package}.first (id int)")
    first, second = await migrated_database(package), await migrated_database(package)
    connection = await connect_raw(first)
    await connection.execute(f"DROP TABLE {package}.first")
    await connection.close()
    assert await _tables(first, package) == ["alembic_version"]
    assert await _tables(second, package) == ["alembic_version", "first"]


async def test_concurrent_callers_of_one_process_take_turns(
    database_url: str, package: str, add_version: AddVersion
) -> None:
    add_version("0001", None, f"CREATE TABLE {package}.first (id int)")
    await asyncio.gather(*(migrate(database_url, package) for _ in range(4)))
    assert await _tables(database_url, package) == ["alembic_version", "first"]


async def test_concurrent_processes_take_turns(
    database_url: str, package: str, add_version: AddVersion, tmp_path: Path
) -> None:
    add_version("0001", None, f"CREATE TABLE {package}.first (id int)")
    code = (
        "import asyncio, sys; from foundation.migrations import migrate;"
        "asyncio.run(migrate(sys.argv[1], sys.argv[2]))"
    )
    path = ":".join(map(str, (_REPOSITORY, _REPOSITORY / "gen", tmp_path)))
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, database_url, package, env={"PYTHONPATH": path}
        )
        for _ in range(2)
    ]
    assert [await process.wait() for process in started] == [0, 0]
    assert await _tables(database_url, package) == ["alembic_version", "first"]
