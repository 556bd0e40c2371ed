"""Connections to PostgreSQL, and the refusal of a server that may lose what it acknowledged."""

from __future__ import annotations

import asyncpg
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from foundation.errors import SettingsError

#: What setting a refusal of the server names.
KEY = "database_url"
OLDEST_SERVER = 15
CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
POOL_TIMEOUT_S = 5.0
_DRIVER = "postgresql+asyncpg"
#: A statement that outlives its client's patience ends on the server too.
_SERVER_SETTINGS = {
    "application_name": "gemarket",
    "statement_timeout": f"{int(COMMAND_TIMEOUT_S)}s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    "timezone": "UTC",
}


def parse_url(address: str) -> URL:
    """Read a database address; `postgres://` and `postgresql://` mean the same driver.

    Raises SettingsError, without the address: it may hold a password.
    """
    try:
        url = make_url(address)
    except ArgumentError:
        raise SettingsError(KEY, "this is no database URL") from None
    if url.drivername not in ("postgres", "postgresql", _DRIVER):
        raise SettingsError(KEY, "only PostgreSQL serves: postgresql://user@host/database")
    return url.set(drivername=_DRIVER)


def open_engine(url: str, pool_size: int) -> AsyncEngine:
    """Open a pool of at most `pool_size` connections; none is made before the first is needed.

    A connection is awaited 5 s at most, a statement 30 s. A connection that a restart of the server
    broke is replaced when it is next taken.
    """
    return create_async_engine(
        parse_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": COMMAND_TIMEOUT_S,
            "server_settings": _SERVER_SETTINGS,
        },
    )


async def connect_raw(
    url: str, command_timeout_s: float | None = COMMAND_TIMEOUT_S
) -> asyncpg.Connection:
    """Open one asyncpg connection outside any pool, for COPY and LISTEN; the caller closes it."""
    address = parse_url(url).set(drivername="postgresql")
    return await asyncpg.connect(
        address.render_as_string(hide_password=False),
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings=_SERVER_SETTINGS,
    )


async def check_database(engine: AsyncEngine) -> None:
    """Refuse a server that could lose acknowledged entries: SettingsError on `database_url`."""
    names = ("server_version_num", "fsync", "synchronous_commit", "full_page_writes")
    query = text("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
    async with engine.connect() as connection:
        row = (await connection.execute(query)).one()
    version, *switches = row
    if int(version) < OLDEST_SERVER * 10_000:
        raise SettingsError(KEY, f"the server must be PostgreSQL {OLDEST_SERVER} or newer")
    for name, value in zip(names[1:], switches, strict=True):
        if value == "off":
            raise SettingsError(
                KEY, f"the server runs with {name}=off and could lose what it acknowledged"
            )
