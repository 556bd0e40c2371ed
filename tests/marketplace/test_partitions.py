"""Daily partitions: made ahead, several workers at once, and nothing lost without one."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from foundation.database import connect_raw
from marketplace.partitions import (
    TABLES,
    bounds,
    ensure_partitions,
    partition_name,
    wanted_days,
)
from marketplace.storage_transaction_write import write_first
from marketplace.transaction_batch import Batch
from tests.conftest import MigratedDatabase
from tests.transaction_log_support import connected, entry_of, failed_of

DAY = date(2026, 12, 31)
NOON_NS = int(datetime(2026, 12, 31, 12, tzinfo=UTC).timestamp()) * 10**9


def test_a_day_begins_and_ends_at_midnight_in_utc() -> None:
    assert bounds(DAY) == (
        datetime(2026, 12, 31, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )
    assert partition_name("failed_call", DAY) == "failed_call_2026_12_31"


def test_yesterday_has_a_partition_too_for_what_is_drained_late() -> None:
    assert wanted_days(DAY, 1) == [date(2026, 12, 30), DAY, date(2027, 1, 1)]


async def test_partitions_are_made_once_however_many_workers_begin(
    migrated_database: MigratedDatabase,
) -> None:
    url = await migrated_database("marketplace")
    connections = [await connect_raw(url) for _ in range(4)]
    made = await asyncio.gather(*(ensure_partitions(c, DAY, 2) for c in connections))
    assert sum(made) == len(TABLES) * 4
    assert await ensure_partitions(connections[0], DAY, 2) == 0
    assert await ensure_partitions(connections[0], DAY + timedelta(days=1), 2) == len(TABLES)
    for connection in connections:
        await connection.close()


async def test_an_entry_without_its_days_partition_is_kept_and_moves_there_later(
    migrated_database: MigratedDatabase,
) -> None:
    url = await migrated_database("marketplace")
    async with connected(url) as connection:
        batch = Batch(finals=[entry_of(started_ns=NOON_NS)], failed=[failed_of(started_ns=NOON_NS)])
        await write_first(connection, uuid4(), batch)
        assert await _places(connection) == {"service_transaction_default", "failed_call_default"}
        await ensure_partitions(connection, DAY, 0)
        assert await _places(connection) == {partition_name(table, DAY) for table in TABLES}


async def test_a_partition_takes_its_first_and_not_its_last_instant(
    migrated_database: MigratedDatabase,
) -> None:
    url = await migrated_database("marketplace")
    start, end = (int(instant.timestamp()) * 10**9 for instant in bounds(DAY))
    async with connected(url) as connection:
        await ensure_partitions(connection, DAY, 1)
        await write_first(connection, uuid4(), Batch(finals=[entry_of(started_ns=start)]))
        await write_first(connection, uuid4(), Batch(finals=[entry_of(started_ns=end - 1)]))
        assert await _places(connection) == {partition_name("service_transaction", DAY)}
        await write_first(connection, uuid4(), Batch(finals=[entry_of(started_ns=end)]))
        assert len(await _places(connection)) == 2


async def test_a_partition_has_the_indexes_and_the_key_of_its_table(
    migrated_database: MigratedDatabase,
) -> None:
    url = await migrated_database("marketplace")
    entry = entry_of(started_ns=NOON_NS)
    async with connected(url) as connection:
        await ensure_partitions(connection, DAY, 0)
        await write_first(connection, uuid4(), Batch(finals=[entry]))
        with pytest.raises(asyncpg.UniqueViolationError):
            await write_first(connection, uuid4(), Batch(finals=[entry]))
        query = "SELECT count(*) FROM pg_indexes WHERE tablename = $1"
        parent = await connection.fetchval(query, "service_transaction")
        assert (
            await connection.fetchval(query, partition_name("service_transaction", DAY)) == parent
        )


@pytest.mark.fault
async def test_partitions_are_made_under_load_without_an_error(
    migrated_database: MigratedDatabase,
) -> None:
    """Days that nobody writes to are attached while another day is written and read."""
    url = await migrated_database("marketplace")
    done = asyncio.Event()

    async def write() -> int:
        written = 0
        async with connected(url) as connection:
            while not done.is_set():
                batch = Batch(finals=[entry_of(started_ns=NOON_NS) for _ in range(20)])
                await write_first(connection, uuid4(), batch)
                written += len(batch)
        return written

    async with connected(url) as connection:
        await ensure_partitions(connection, DAY, 0)
        writer = asyncio.create_task(write())
        await ensure_partitions(connection, DAY, 10)
        done.set()
        written = await writer
        query = "SELECT count(*) FROM marketplace.service_transaction"
        assert await connection.fetchval(query) == written > 0


async def _places(connection: asyncpg.Connection) -> set[str]:
    names = set()
    for table in TABLES:
        query = f"SELECT DISTINCT tableoid::regclass::text AS name FROM marketplace.{table}"
        names |= {row["name"].removeprefix("marketplace.") for row in await connection.fetch(query)}
    return names
