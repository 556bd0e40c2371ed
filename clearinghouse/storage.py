"""The clearing house's connections to PostgreSQL, schema `clearinghouse`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from foundation.database import CONNECT_TIMEOUT_S, parse_url

#: Of a single statement; what loads many contracts brings its own.
COMMAND_TIMEOUT_S = 10.0
_POOL_SIZE = 8
_SERVER_SETTINGS = {
    "application_name": "gem-clearinghouse",
    "jit": "off",
    "timezone": "UTC",
    # Queries are by key: one plan serves whatever the numbers of contracts and tokens are.
    "plan_cache_mode": "force_generic_plan",
    "idle_in_transaction_session_timeout": "120s",
}

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
#: A connection, or one of a pool that is lent out.
Connection: TypeAlias = Any

#: What the driver raises when the database is away, stopped, overloaded or too slow.
DATABASE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What it says of a connection that broke between two messages.
    asyncpg.InternalClientError,
)


def open_pool(url: str, size: int = _POOL_SIZE) -> Pool:
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
        reset=_keep_session,
    )


async def _keep_session(connection: asyncpg.Connection) -> None:
    """Spare the round trip that resets a session: what is set here is set for one transaction."""
    if connection.is_in_transaction():
        await connection.reset()


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection in a transaction that commits when the block ends."""
    async with pool.acquire() as connection, connection.transaction():
        yield connection


async def probe(pool: Pool) -> bool:
    """Say whether the database answers."""
    try:
        await pool.execute("SELECT FROM clearinghouse.market_cursor LIMIT 1")
    except DATABASE_ERRORS:
        return False
    return True
