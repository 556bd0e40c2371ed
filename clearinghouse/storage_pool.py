"""Connections of the clearing house to PostgreSQL, schema `clearinghouse`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from foundation.database import CONNECT_TIMEOUT_S, parse_url

COMMAND_TIMEOUT_S = 5.0
POOL_SIZE = 4
_SERVER_SETTINGS = {
    "application_name": "gem-clearinghouse",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    "timezone": "UTC",
}

#: What the driver raises when the database is away, stopped, overloaded or too slow.
DATABASE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What it says of a connection that broke between two messages.
    asyncpg.InternalClientError,
)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy[asyncpg.Record]"


def open_pool(url: str, size: int = POOL_SIZE) -> Pool:
    """Open a pool that connects at its first use, so that it opens while PostgreSQL is away.

    Enter it with `async with`, or await it and close it.
    """
    dsn = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings=_SERVER_SETTINGS,
    )


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Open a transaction on a connection of the pool; the block's end commits it."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection
