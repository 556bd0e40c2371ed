"""Makes batches durable: in PostgreSQL while it answers, in the spill while it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import structlog

from marketplace.chain_session import ChainSession
from marketplace.drain import drain_chunk, within
from marketplace.log_connection import Connection
from marketplace.spill import Spill
from marketplace.storage_transaction_write import write_first
from marketplace.transaction_batch import Batch

Connect: TypeAlias = Callable[[], Awaitable[Connection]]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """How long the writer waits for PostgreSQL, and how much it takes at a time."""

    #: After this a write counts as failed, though it may still commit. Shorter than what the
    #: interceptors wait for the record of a failed call.
    write_timeout_s: float = 1.5
    connect_timeout_s: float = 2.0
    #: Records drained from the spill in one transaction, and how long that may take while callers
    #: do not wait for it.
    drain_records: int = 500
    drain_timeout_s: float = 10.0
    #: Time until the next attempt to find the database back; doubles from the first to the longest.
    first_pause_s: float = 0.1
    longest_pause_s: float = 1.0


async def connect_within(connect: Connect, timeout_s: float) -> Connection:
    """Open a connection in bounded time; raises TimeoutError or what the driver raises."""
    async with asyncio.timeout(timeout_s):
        return await connect()


class DurableWriter:
    """Writes batches one at a time, and drains its spill when the database is back.

    While the spill holds anything, everything goes there, so that order is kept: an intent reaches
    PostgreSQL before its result.
    """

    def __init__(
        self, connect: Connect, spill: Spill, worker_id: UUID, limits: WriterLimits
    ) -> None:
        self._connect = connect
        self._spill = spill
        self._worker_id = worker_id
        self._limits = limits
        self._connection: Connection | None = None
        #: Those of the connection.
        self._chains = ChainSession(worker_id)
        self._turn = asyncio.Lock()
        self._away = asyncio.Event()
        self._away.set()
        #: The other way round.
        self._back = asyncio.Event()
        self.spilled = 0
        self.drained = 0

    @property
    def spilling(self) -> bool:
        """Whether records go to the spill now."""
        return self._away.is_set()

    async def write(self, batch: Batch) -> None:
        """Return when the batch is durable; raises only where the spill cannot take it either."""
        async with self._turn:
            if not self.spilling:
                try:
                    await self._write_to_database(batch)
                except Exception as error:  # noqa: BLE001  # whatever it was, the spill takes it
                    _log.warning(
                        "the transaction log goes to the spill", error=type(error).__name__
                    )
                    self._leave_database()
                else:
                    return
            await self._spill.append(batch)
            self.spilled += len(batch)

    async def _write_to_database(self, batch: Batch) -> None:
        connection = self._connection
        assert connection is not None, "the writer has a connection unless it spills"
        work = write_first(connection, self._worker_id, batch, self._chains)
        await within(connection, self._limits.write_timeout_s, work)

    def _leave_database(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        self._back.clear()
        self._away.set()

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until records go to the database; False where that takes longer."""
        try:
            await asyncio.wait_for(self._back.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def return_to_database(self) -> None:
        """Connect, drain the spill, and write to PostgreSQL from now on; raises if it is away."""
        limits = self._limits
        connection = await connect_within(self._connect, limits.connect_timeout_s)
        chains = ChainSession(self._worker_id)
        try:
            while self._spill.count > limits.drain_records:
                await self._drain(connection, limits.drain_timeout_s, chains)
            async with self._turn:  # nothing is added meanwhile, so the rest is small
                while self._spill.count:
                    await self._drain(connection, limits.write_timeout_s, chains)
                self._connection, self._chains = connection, chains
                self._away.clear()
                self._back.set()
        except BaseException:
            connection.terminate()
            raise

    async def _drain(self, connection: Connection, timeout_s: float, chains: ChainSession) -> None:
        limit = self._limits.drain_records
        self.drained += await drain_chunk(self._spill, connection, limit, timeout_s, chains)

    async def run(self) -> None:
        """Find the database back whenever it was lost; one task runs this until cancelled."""
        pause_s = self._limits.first_pause_s
        while True:
            await self._away.wait()
            try:
                await self.return_to_database()
            except Exception as error:  # noqa: BLE001  # tried again; the spill is safe
                _log.info("the database is still away", error=type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._limits.longest_pause_s)
            else:
                pause_s = self._limits.first_pause_s

    async def close(self) -> None:
        """Close the connection, and its chains; the spill is the caller's."""
        connection, self._connection = self._connection, None
        self._away.set()
        if connection is not None:
            try:
                await within(connection, 1.0, self._chains.close(connection))
            except Exception as error:  # noqa: BLE001  # any worker closes them later
                _log.info("chains were left open", error=type(error).__name__)
            await close_or_cut(connection)


async def close_or_cut(connection: Connection) -> None:
    """Close a connection in order, or cut it where the server does not answer."""
    try:
        async with asyncio.timeout(1.0):
            await connection.close()
    except Exception:  # noqa: BLE001  # it is given up either way
        connection.terminate()
