"""Draining a spill into PostgreSQL, and patience with a server that may have stopped."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable
from typing import TypeVar

import asyncpg
import structlog

from marketplace.chain_session import ChainSession
from marketplace.log_connection import Connection
from marketplace.spill import Spill
from marketplace.storage_transaction_write import write_again

#: What PostgreSQL, or asyncpg on the way to it, says about a record that will never be accepted.
#: Not CheckViolationError: that is a row on its way to the default partition while its day's
#: partition is attached, and passes the next time.
DEFECTS: tuple[type[Exception], ...] = (
    asyncpg.DataError,
    asyncpg.NotNullViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    TypeError,
    OverflowError,
    struct.error,
)
_CUT_GRACE_S = 0.5
_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


async def within(connection: Connection, timeout_s: float, work: Awaitable[_T]) -> _T:
    """Await work on a connection for a bounded time; a connection that takes longer is cut.

    Cut, not cancelled: asyncpg would send its cancellation over a second connection, which a
    stopped server does not answer either. Raises TimeoutError or what asyncpg makes of the cut.
    """
    cut = asyncio.get_running_loop().call_later(timeout_s, connection.terminate)
    try:
        async with asyncio.timeout(timeout_s + _CUT_GRACE_S):
            return await work
    finally:
        cut.cancel()


async def drain_chunk(
    spill: Spill,
    connection: Connection,
    limit: int,
    timeout_s: float,
    chains: ChainSession | None = None,
) -> int:
    """Move the oldest records, at most `limit`, to PostgreSQL; give how many are there now.

    They enter the connection's `chains`, whoever's spill it is. A record that PostgreSQL refuses
    for what is in it is put aside, so that it does not hold up those behind it. Raises what the
    connection raises; the records then stay in the spill.
    """
    chunk = await spill.first(limit)
    if chunk is None or not len(chunk.batch):
        return 0
    work = write_again(connection, spill.worker_id, chunk.batch, chains)
    try:
        await within(connection, timeout_s, work)
    except DEFECTS:
        if connection.is_closed():  # then it says nothing about the record
            raise
        if len(chunk.batch) > 1:
            return await _drain_singly(spill, connection, len(chunk.batch), timeout_s, chains)
        _log.critical("PostgreSQL refuses a record of the transaction log; it stays in the spill")
        await spill.reject(chunk.last_sequence)
        return 0
    await spill.remove(chunk.last_sequence)
    return len(chunk.batch)


async def _drain_singly(
    spill: Spill, connection: Connection, count: int, timeout_s: float, chains: ChainSession | None
) -> int:
    drained = 0
    for _ in range(count):
        drained += await drain_chunk(spill, connection, 1, timeout_s, chains)
    return drained
