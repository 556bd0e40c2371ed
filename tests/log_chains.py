"""What the tests of the log's chains share: logs of all kinds, and their verification."""

from __future__ import annotations

from uuid import UUID, uuid4

import asyncpg

from foundation.database import connect_raw
from marketplace.chain_session import ChainSession
from marketplace.log_heads import NO_HEADS, Heads
from marketplace.log_verification import Break, BreakKind
from marketplace.router.target import TransactionEntry
from marketplace.storage_log_chain import close_chains
from marketplace.storage_log_verification import LogVerification, reading
from marketplace.storage_transaction_write import write_again, write_first
from marketplace.transaction_batch import Batch
from tests.transaction_log_support import IN_DOUBT, connected, entry_of


async def breaks_of(
    url: str, kept: Heads = NO_HEADS, first: int | None = None, last: int | None = None
) -> list[Break]:
    """Verify a database."""
    async with reading(url) as connection:
        return [one async for one in LogVerification(connection, kept, first, last).breaks()]


async def kinds_of(url: str, kept: Heads = NO_HEADS) -> set[BreakKind]:
    """Give the kinds of all breaks."""
    return {one.kind for one in await breaks_of(url, kept)}


async def write(
    url: str, *batches: list[TransactionEntry], chains: ChainSession | None = None
) -> UUID:
    """Write batches of finals as one worker with one connection, and close its chains."""
    worker_id = uuid4()
    async with connected(url) as connection:
        session = chains or ChainSession(worker_id)
        for batch in batches:
            await write_first(connection, worker_id, Batch(finals=batch), session)
        await session.close(connection)
    return worker_id


async def a_whole_log(url: str) -> list[TransactionEntry]:
    """Make a log with two chains, closed, the second with a result that replaced IN_DOUBT."""
    entries = [entry_of() for _ in range(12)]
    await write(url, entries[:3], entries[3:8])
    worker_id = uuid4()
    async with connected(url) as connection:
        session = ChainSession(worker_id)
        doubt = entries[8]._replace(status=IN_DOUBT, value_micros=0)
        await write_again(connection, worker_id, Batch(finals=[doubt]), session)
        await write_again(connection, worker_id, Batch(finals=entries[8:]), session)
        await session.close(connection)
    return entries


async def change(url: str, statement: str, *arguments: object) -> None:
    """Do something to the database that nobody should, and that does something."""
    async with connected(url) as connection:
        await connection.execute("SET session_replication_role = replica")
        done = await connection.execute(statement, *arguments)
        assert not done.endswith(" 0"), "the test has to change something"


async def longest_chain(url: str) -> list[asyncpg.Record]:
    """Give the rows of the chain with the most entries, in its order."""
    async with connected(url) as connection:
        return await connection.fetch(
            """
            SELECT * FROM marketplace.service_transaction WHERE chain_id = (
              SELECT chain_id FROM marketplace.service_transaction
              GROUP BY chain_id ORDER BY count(*) DESC LIMIT 1) ORDER BY sequence
            """
        )


async def close_all(url: str) -> None:
    """Close what nobody holds, as every worker does every few seconds."""
    connection = await connect_raw(url)
    await close_chains(connection)
    await connection.close()
