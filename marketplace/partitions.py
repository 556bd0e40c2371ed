"""Daily partitions of the transaction log, made ahead of time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from marketplace.log_connection import Connection

#: Tables that are partitioned by day of `started_at`.
TABLES = ("service_transaction", "failed_call")
#: Who makes partitions does so alone.
_LOCK_KEY = 0x67656D_70617274
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"

_EXISTING = """
SELECT child.relname::text
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = 'marketplace.{table}'::regclass
"""

# ATTACH locks the table against other changes of its shape only; CREATE … PARTITION OF would stop
# every reader and writer. Rows that came before their day's partition move out of the default one.
_MAKE = """
CREATE TABLE marketplace.{name} (LIKE marketplace.{table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
LOCK TABLE marketplace.{table}_default IN ACCESS EXCLUSIVE MODE;
WITH moved AS (
  DELETE FROM marketplace.{table}_default
  WHERE started_at >= '{start}' AND started_at < '{end}' RETURNING *
)
INSERT INTO marketplace.{name} SELECT * FROM moved;
ALTER TABLE marketplace.{table} ATTACH PARTITION marketplace.{name}
  FOR VALUES FROM ('{start}') TO ('{end}');
"""


def partition_name(table: str, day: date) -> str:
    """Name the partition of a day, for instance `failed_call_2026_11_23`."""
    return f"{table}_{day:%Y_%m_%d}"


def bounds(day: date) -> tuple[datetime, datetime]:
    """Give the first instant of a day and the first after it, in UTC."""
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1)


def wanted_days(today: date, days_ahead: int) -> list[date]:
    """List the days that need partitions: yesterday, for what is drained late, to `days_ahead`."""
    return [today + timedelta(days=offset) for offset in range(-1, days_ahead + 1)]


async def ensure_partitions(connection: Connection, today: date, days_ahead: int) -> int:
    """Make the partitions that are missing, each in a transaction of its own; give how many.

    Several workers may do so at once. Raises what the connection raises, for instance when a lock
    is not had within 2 s; what was made until then stays.
    """
    made = 0
    for table in TABLES:
        there = await _existing(connection, table)
        for day in wanted_days(today, days_ahead):
            if partition_name(table, day) not in there:
                made += await _make(connection, table, day)
    return made


async def _existing(connection: Connection, table: str) -> set[str]:
    rows = await connection.fetch(_EXISTING.format(table=table))
    return {row["relname"] for row in rows}


async def _make(connection: Connection, table: str, day: date) -> int:
    name = partition_name(table, day)
    start, end = (instant.isoformat() for instant in bounds(day))
    async with connection.transaction():
        await connection.execute(_LOCK_TIMEOUT)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_KEY)
        if name in await _existing(connection, table):
            return 0
        await connection.execute(_MAKE.format(name=name, table=table, start=start, end=end))
    return 1
