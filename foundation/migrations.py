"""Schema migrations: Alembic, driven from here, so that a package brings only its versions.

A package keeps them as `<package>/migrations/versions/NNNN_<what>.py`, ordinary Alembic files with
`revision`, `down_revision` and `upgrade()`; there is no `env.py` and no `alembic.ini`. Its tables
live in the schema named like the package, and so does Alembic's version table.
"""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from foundation.database import CONNECT_TIMEOUT_S, parse_url

#: Longest wait for another process that migrates, and for locks that running calls hold.
LOCK_TIMEOUT_S = 60
#: One lock for all packages: who migrates a database does so alone.
_LOCK_KEY = 0x67656D_6D69_67
#: Alembic keeps its context in module globals, so that one process migrates one thing at a time.
_one_at_a_time = asyncio.Lock()


async def migrate(url: str, package: str, revision: str = "head") -> None:
    """Bring the package's schema of that database up to `revision`, all in one transaction.

    Callers in several processes wait for each other; who finds nothing to do changes nothing. A
    failing version leaves the database as it was and raises what failed.
    """
    engine = create_async_engine(
        parse_url(url), poolclass=NullPool, connect_args={"timeout": CONNECT_TIMEOUT_S}
    )
    try:
        async with _one_at_a_time, engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            await connection.run_sync(_upgrade, package, revision)
    finally:
        await engine.dispose()


def versions_folder(package: str) -> Path:
    """Give the folder of the package's versions; raises FileNotFoundError when it has none."""
    origin = importlib.import_module(package).__file__
    assert origin is not None, "a package with migrations has an __init__.py"
    folder = Path(origin).parent / "migrations" / "versions"
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return folder


def _upgrade(connection: Connection, package: str, revision: str) -> None:
    """Run the versions that are missing, on a connection whose transaction the caller owns."""
    versions = versions_folder(package)
    scripts = ScriptDirectory(str(versions.parent), version_locations=[str(versions)])

    def missing(current: Any, _context: object) -> Any:
        return scripts._upgrade_revs(revision, current)  # noqa: SLF001  # what alembic.command calls

    connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{package}"'))
    with EnvironmentContext(Config(), scripts, fn=missing, destination_rev=revision) as environment:
        environment.configure(connection=connection, version_table_schema=package)
        with environment.begin_transaction():
            environment.run_migrations()
