"""Operators and EVSEs in PostgreSQL, schema `mobility`: SQL and nothing else.

asyncpg without an ORM: a search is one round trip, an import is COPY.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from foundation.database import CONNECT_TIMEOUT_S, parse_url
from mobility.evse_row import COLUMNS, EvseRow

#: A search that takes longer is of no use to a driver (use case 1527 asks for less than 3 s); the
#: caller's deadline ends it earlier.
COMMAND_TIMEOUT_S = 5.0
#: COPY of a large batch and the making of an index may take longer.
BULK_TIMEOUT_S = 600.0
POOL_SIZE = 4
_LOCK_OPERATORS = "LOCK TABLE mobility.operator IN SHARE ROW EXCLUSIVE MODE"
_SERVER_SETTINGS = {
    "application_name": "gem-mobility",
    "jit": "off",
    # Neighbours share pages: what a bitmap saves on them is less than what an early end saves.
    "enable_bitmapscan": "off",
    # A plan that knows the circle and the limit is worth more than the time of planning.
    "plan_cache_mode": "force_custom_plan",
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


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of charging points whose EVSEs the database holds."""

    operator_ref: int
    operator_name: str
    partner_id: str
    operator_ids: tuple[str, ...]


def open_pool(url: str, size: int = POOL_SIZE) -> asyncpg.Pool[asyncpg.Record]:
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


class EvseStorage:
    """Reads and writes EVSEs through a pool; every method is one transaction."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    async def operators(self) -> list[Operator]:
        """List all operators by partner id."""
        rows = await self._pool.fetch(
            "SELECT operator_ref, operator_name, partner_id, operator_ids"
            " FROM mobility.operator ORDER BY partner_id LIMIT 100000"
        )
        return [_operator(row) for row in rows]

    async def operator(self, name_key: str | None, partner_id: str | None) -> Operator | None:
        """Find an operator by the key of its name or by its partner id; None when there is none."""
        row = await self._pool.fetchrow(
            "SELECT operator_ref, operator_name, partner_id, operator_ids"
            " FROM mobility.operator WHERE name_key = $1 OR partner_id = $2",
            name_key,
            partner_id,
        )
        return None if row is None else _operator(row)

    async def register(self, operators: Sequence[tuple[str, str, str, Sequence[str]]]) -> None:
        """Add operators as (name key, name, partner id, operator ids); known ones gain the ids."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_LOCK_OPERATORS)
            await connection.executemany(
                "INSERT INTO mobility.operator AS known"
                " (name_key, operator_name, partner_id, operator_ids) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (name_key) DO UPDATE SET operator_ids = ARRAY(SELECT DISTINCT id"
                " FROM unnest(known.operator_ids || excluded.operator_ids) AS id ORDER BY id)",
                operators,
                timeout=BULK_TIMEOUT_S,
            )

    async def upsert(self, rows: Sequence[tuple[int, EvseRow]]) -> int:
        """Write EVSEs, each with its operator's number, over what is known; give how many are new.

        Of several with the same id the last one stays.
        """
        updates = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[2:])
        columns = ", ".join(COLUMNS)
        last = {(operator_ref, row.evse_key): row for operator_ref, row in rows}
        records = [row.record(operator_ref) for (operator_ref, _), row in last.items()]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS"  # noqa: S608  # our names
                f" SELECT {columns} FROM mobility.evse LIMIT 0"
            )
            await connection.copy_records_to_table(
                "incoming", columns=COLUMNS, records=records, timeout=BULK_TIMEOUT_S
            )
            added: int = await connection.fetchval(
                f"WITH written AS (INSERT INTO mobility.evse ({columns})"  # noqa: S608  # our names
                f" SELECT {columns} FROM incoming"
                f" ON CONFLICT (operator_ref, evse_key) DO UPDATE SET {updates}"
                " RETURNING xmax = 0 AS is_new) SELECT count(*) FROM written WHERE is_new",
                timeout=BULK_TIMEOUT_S,
            )
        return added

    async def copy_all(self, operator_ref: int, batches: Iterable[Sequence[EvseRow]]) -> None:
        """Fill an empty table, as fast as it can, in one transaction that shuts searches out.

        Raises ValueError when the table is not empty.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE mobility.evse")
            if await connection.fetchval("SELECT EXISTS (SELECT FROM mobility.evse)"):
                raise ValueError("the table of EVSEs is not empty")
            index: str = await connection.fetchval(
                "SELECT pg_get_indexdef('mobility.evse_position'::regclass)"
            )
            await connection.execute("DROP INDEX mobility.evse_position")
            for rows in batches:
                await connection.copy_records_to_table(
                    "evse",
                    schema_name="mobility",
                    columns=COLUMNS,
                    records=[row.record(operator_ref) for row in rows],
                    timeout=BULK_TIMEOUT_S,
                )
            await connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
            await connection.execute(index, timeout=BULK_TIMEOUT_S)

    async def analyze(self) -> None:
        """Let the planner learn what a large import brought."""
        await self._pool.execute("VACUUM (ANALYZE) mobility.evse", timeout=BULK_TIMEOUT_S)

    async def set_status(
        self, operator_ref: int, evse_key: str, status: int, status_time: datetime
    ) -> bool:
        """Write a newer status; False when the EVSE is unknown or a later status is stored."""
        done = await self._pool.execute(
            "UPDATE mobility.evse SET status = $3, status_time = $4 WHERE operator_ref = $1"
            " AND evse_key = $2 AND (status_time IS NULL OR status_time <= $4)",
            operator_ref,
            evse_key,
            status,
            status_time,
        )
        return done == "UPDATE 1"

    async def search(self, text: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """Run a query of `search_query`."""
        rows: list[asyncpg.Record] = await self._pool.fetch(text, *arguments)
        return rows

    async def get(self, operator_ref: int, evse_key: str) -> asyncpg.Record | None:
        """Give (message, status, status_time) of one EVSE; None when the operator has none such."""
        return await self._pool.fetchrow(
            "SELECT message, status, status_time FROM mobility.evse"
            " WHERE operator_ref = $1 AND evse_key = $2",
            operator_ref,
            evse_key,
        )

    async def probe(self) -> None:
        """Ask the database anything; raises one of `DATABASE_ERRORS` when it is away."""
        await self._pool.execute("SELECT FROM mobility.operator LIMIT 1")


def _operator(row: asyncpg.Record) -> Operator:
    return Operator(
        row["operator_ref"], row["operator_name"], row["partner_id"], tuple(row["operator_ids"])
    )
