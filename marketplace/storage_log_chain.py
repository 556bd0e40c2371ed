"""The register of the log's chains: opened, their heads from time to time, closed (0011).

The register is a chain itself. Whoever appends to it does so alone, which is rare: a chain is
opened once for each connection and day, and its head is taken once a minute.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any
from uuid import UUID

from marketplace.log_chain import (
    REGISTER_START,
    Registration,
    chain_start,
    date_of,
    number_of,
    register_link,
    timestamp,
)
from marketplace.log_connection import Connection

#: Chains that are closed, or whose heads are taken, in one go.
_MOST_CHAINS = 1000
_REGISTER_KEY = 0x67656D_72656769

_HELD = """
SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_LAST = """
SELECT number, hash FROM marketplace.transaction_chain_register ORDER BY number DESC LIMIT 1
"""

_LOCK = "SELECT pg_advisory_xact_lock($1)"
# The chain's lock outlives the transaction.
_LOCK_BOTH = "SELECT pg_advisory_lock($2), pg_advisory_xact_lock($1)"

_APPEND = """
INSERT INTO marketplace.transaction_chain_register
  (number, kind, chain_id, day, worker_id, sequence, head_hash, recorded_at, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

_OPEN = f"""
WITH open AS (
  INSERT INTO marketplace.transaction_open_chain (chain_id, day, worker_id, start_hash)
  VALUES ($3, $4, $5, $7)
) {_APPEND}
"""  # noqa: S608  # the statement above

_OPEN_CHAINS = """
SELECT chain_id FROM marketplace.transaction_open_chain WHERE worker_id = $1 OR $1 IS NULL LIMIT $2
"""

_CHAIN = """
SELECT open.day, open.worker_id, open.start_hash,
  (SELECT max(sequence) FROM marketplace.transaction_chain_register AS known
   WHERE known.chain_id = open.chain_id) AS registered
FROM marketplace.transaction_open_chain AS open WHERE chain_id = $1
"""

_HEAD = """
SELECT sequence, chain_hash FROM (
  (SELECT sequence, chain_hash FROM marketplace.service_transaction
   WHERE chain_id = $1 AND started_at >= $2 AND started_at < $3
   ORDER BY sequence DESC LIMIT 1)
  UNION ALL
  (SELECT sequence, chain_hash FROM marketplace.transaction_superseded
   WHERE chain_id = $1 ORDER BY sequence DESC LIMIT 1)
) AS last ORDER BY sequence DESC LIMIT 1
"""


def lock_key(owner_id: UUID) -> int:
    """Give the key of the advisory lock of a living worker or chain: the id's first 8 bytes."""
    return int.from_bytes(owner_id.bytes[:8], "big", signed=True)


async def held_keys(connection: Connection) -> set[int]:
    """Give the keys of all advisory locks that sessions of this database hold."""
    return {row["key"] for row in await connection.fetch(_HELD)}


async def open_chain(connection: Connection, chain_id: UUID, day: int, worker_id: UUID) -> bytes:
    """Register a chain that only this session writes to; give the hash before its first entry.

    The session holds the chain's lock until it ends, and with it whatever it is still doing: who
    gets the lock knows that nothing is added any more.
    """
    date_of(day)
    async with connection.transaction():
        await connection.execute(_LOCK_BOTH, _REGISTER_KEY, lock_key(chain_id))
        number, last = await _end_of_register(connection)
        start = chain_start(chain_id, day, worker_id, last)
        opened = Registration(
            number, "OPENED", chain_id, day, worker_id, 0, start, time.time_ns() // 1000
        )
        await connection.execute(_OPEN, *_row(last, opened))
    return start


async def release_chain(connection: Connection, chain_id: UUID) -> None:
    """Give a chain's lock up; it is closed by whoever finds it so."""
    await connection.execute("SELECT pg_advisory_unlock($1)", lock_key(chain_id))


async def close_chains(connection: Connection, own: Collection[UUID] = ()) -> int:
    """Register the last head of every chain that nobody can write to any more; give how many.

    `own` are the chains of this very session, whose locks do not stop it.
    """
    rows = await connection.fetch(_OPEN_CHAINS, None, _MOST_CHAINS)
    open_ids = [row["chain_id"] for row in rows if row["chain_id"] not in own]
    if not open_ids:
        return 0
    held = await held_keys(connection)
    ended = [chain_id for chain_id in open_ids if lock_key(chain_id) not in held]
    for chain_id in ended:
        await close_chain(connection, chain_id)
    return len(ended)


async def close_chain(connection: Connection, chain_id: UUID) -> None:
    """Register a chain's last head, unless another session holds the chain or did so already."""
    async with connection.transaction():
        alone = "SELECT pg_try_advisory_xact_lock($1)"
        if await connection.fetchval(alone, lock_key(chain_id)):
            await _register_head(connection, chain_id, "CLOSED")
            gone = "DELETE FROM marketplace.transaction_open_chain WHERE chain_id = $1"
            await connection.execute(gone, chain_id)


async def register_heads(connection: Connection, worker_id: UUID) -> None:
    """Register the head of each of a worker's chains that has grown since the last time."""
    for row in await connection.fetch(_OPEN_CHAINS, worker_id, _MOST_CHAINS):
        async with connection.transaction():
            await _register_head(connection, row["chain_id"], "HEAD")


async def _register_head(connection: Connection, chain_id: UUID, kind: str) -> None:
    await connection.execute(_LOCK, _REGISTER_KEY)
    number, last = await _end_of_register(connection)
    rows = await connection.fetch(_CHAIN, chain_id)
    if not rows:  # another worker has closed it
        return
    (chain,) = rows
    day = number_of(chain["day"])
    first, following = (timestamp((day + days) * 86_400 * 10**9) for days in (0, 1))
    heads = await connection.fetch(_HEAD, chain_id, first, following)
    sequence, head = heads[0] if heads else (0, chain["start_hash"])
    if kind == "CLOSED" or sequence > chain["registered"]:
        worker_id, recorded_us = chain["worker_id"], time.time_ns() // 1000
        known = Registration(number, kind, chain_id, day, worker_id, sequence, head, recorded_us)
        await connection.execute(_APPEND, *_row(last, known))


async def _end_of_register(connection: Connection) -> tuple[int, bytes]:
    """Give the register's next number and last hash; under its lock."""
    rows = await connection.fetch(_LAST)
    return (rows[0]["number"] + 1, rows[0]["hash"]) if rows else (1, REGISTER_START)


def _row(last: bytes, record: Registration) -> tuple[Any, ...]:
    at = timestamp(record.recorded_us * 1000)
    return (*record[:3], date_of(record.day), *record[4:7], at, register_link(last, record))
