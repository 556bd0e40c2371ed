"""Chains across days, partitions and the step of the schema that brought them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from foundation.migrations import migrate
from marketplace.log_chain import DAY_NS, number_of
from marketplace.log_verification import BreakKind
from marketplace.partitions import bounds, ensure_partitions, partition_name
from marketplace.storage_transaction_write import CHAINED_COLUMNS, ENTRY_COLUMNS
from tests.conftest import MigratedDatabase
from tests.log_chains import breaks_of, change, kinds_of, write
from tests.transaction_log_support import connected, entry_of, rows

pytestmark = pytest.mark.usecase(1242)
DAY = date(2026, 12, 30)
FIRST_NS = number_of(DAY) * DAY_NS
#: The last step of the schema that knew no chains.
BEFORE = "0007"


async def test_a_chain_goes_with_its_day_and_ends_with_it(
    migrated_database: MigratedDatabase,
) -> None:
    url = await migrated_database("marketplace")
    async with connected(url) as connection:
        await ensure_partitions(connection, DAY, 1)
    await write(url, [entry_of(started_ns=FIRST_NS + offset * DAY_NS // 2) for offset in range(4)])
    places = {
        (row["started_at"].date(), row["chain_id"], row["sequence"]) for row in await rows(url)
    }
    assert len({(day, chain) for day, chain, _ in places}) == 2
    assert sorted(sequence for _, _, sequence in places) == [1, 1, 2, 2]
    assert await breaks_of(url) == []


async def test_entries_that_move_to_their_days_partition_stay_whole(
    migrated_database: MigratedDatabase,
) -> None:
    url = await migrated_database("marketplace")
    await write(url, [entry_of(started_ns=FIRST_NS + n) for n in range(5)])
    async with connected(url) as connection:
        await ensure_partitions(connection, DAY, 0)
        left = "SELECT count(*) FROM marketplace.service_transaction_default"
        assert await connection.fetchval(left) == 0
    assert await breaks_of(url) == []


async def test_a_day_can_be_verified_while_another_is_detached(
    migrated_database: MigratedDatabase,
) -> None:
    """A day needs its own partition and the register, and nothing of other days."""
    url = await migrated_database("marketplace")
    async with connected(url) as connection:
        await ensure_partitions(connection, DAY, 1)
    await write(url, [entry_of(started_ns=FIRST_NS + n * DAY_NS // 4) for n in range(8)])
    name = partition_name("service_transaction", DAY)
    detach = f"ALTER TABLE marketplace.service_transaction DETACH PARTITION marketplace.{name}"
    async with connected(url) as connection:
        await connection.execute(detach)
    (found,) = await breaks_of(url)
    assert (found.kind, found.day, found.count) == (BreakKind.TRUNCATED, number_of(DAY), 4)
    assert await breaks_of(url, first=number_of(DAY) + 1) == []
    start, end = bounds(DAY)
    attach = (
        f"ALTER TABLE marketplace.service_transaction ATTACH PARTITION marketplace.{name} "
        f"FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
    )
    async with connected(url) as connection:
        await connection.execute(attach)
    assert await breaks_of(url) == []


async def test_an_entry_that_is_moved_to_another_day_is_found_on_both(
    migrated_database: MigratedDatabase,
) -> None:
    url = await migrated_database("marketplace")
    await write(url, [entry_of(started_ns=FIRST_NS + n) for n in range(3)])
    move = "UPDATE marketplace.service_transaction SET started_at = started_at + $1"
    await change(url, f"{move} WHERE sequence = 2", timedelta(days=1))
    days = {(one.day, one.kind) for one in await breaks_of(url)}
    assert (number_of(DAY), BreakKind.MISSING) in days
    assert (number_of(DAY) + 1, BreakKind.CHANGED) in days


async def test_entries_from_before_the_chains_are_counted_and_none_can_be_slipped_in(
    database_url: str,
) -> None:
    await migrate(database_url, "marketplace", BEFORE)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    entry = entry_of()
    old = [
        (
            *(uuid4(), *entry[1:8], noon + timedelta(days=number % 2, seconds=number)),
            *(*entry[9:], uuid4()),
        )
        for number in range(5)
    ]
    async with connected(database_url) as connection:
        await connection.copy_records_to_table(
            "service_transaction", records=old, columns=ENTRY_COLUMNS, schema_name="marketplace"
        )
    await migrate(database_url, "marketplace")
    counts = {row["day"]: row["entry_count"] for row in await rows(database_url, _COUNTS)}
    assert counts == {date(2026, 3, 1): 3, date(2026, 3, 2): 2}
    await write(database_url, [entry_of(started_ns=int(noon.timestamp()) * 10**9)])
    assert await breaks_of(database_url) == []
    async with connected(database_url) as connection:
        slipped = (uuid4(), *old[0][1:])
        await connection.copy_records_to_table(
            "service_transaction",
            records=[slipped],
            columns=CHAINED_COLUMNS[: len(slipped)],
            schema_name="marketplace",
        )
    assert await kinds_of(database_url) == {BreakKind.UNCHAINED}


_COUNTS = "transaction_unchained"
