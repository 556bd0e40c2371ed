"""What every worker does beside its calls: say that it is alive, and clear up after the dead."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import structlog

from marketplace.chain_session import ChainSession
from marketplace.drain import drain_chunk, within
from marketplace.durable_writer import Connect, close_or_cut, connect_within
from marketplace.in_doubt import InDoubtResolver, announce, depart
from marketplace.log_connection import Connection
from marketplace.partitions import ensure_partitions
from marketplace.spill import adopt
from marketplace.storage_log_chain import close_chains, register_heads

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HousekeepingLimits:
    """How often, and how long it may take."""

    sweep_every_s: float = 1.0
    #: A worker counts as dead when it is missing for this long.
    dead_after_s: float = 2.0
    connect_timeout_s: float = 2.0
    #: Longest wait for one step of the work.
    step_timeout_s: float = 10.0
    #: Longest time that one sweep spends on spills of dead workers.
    orphans_s: float = 2.0
    partitions_every_s: float = 600.0
    #: Time until the next attempt when partitions could not be made.
    partitions_again_s: float = 30.0
    partition_days_ahead: int = 7
    #: How often chains of the log whose writer has gone are closed, and how often the heads of
    #: this worker's are registered.
    chains_every_s: float = 5.0
    heads_every_s: float = 60.0
    drain_records: int = 500
    spill_max_bytes: int = 1 << 30


class Housekeeping:
    """Holds the worker's advisory lock on a connection of its own, and sweeps once a second."""

    def __init__(
        self,
        connect: Connect,
        folder: Path,
        worker_id: UUID,
        resolver: InDoubtResolver,
        own_settled: Callable[[], bool],
        limits: HousekeepingLimits,
    ) -> None:
        """`own_settled` says whether this worker's own spill is empty."""
        self._connect = connect
        self._folder = folder
        self._worker_id = worker_id
        self._resolver = resolver
        self._own_settled = own_settled
        self._limits = limits
        self._connection: Connection | None = None
        #: Those of the connection.
        self._chains = ChainSession(worker_id)
        self._partitions_due_s = 0.0
        self._chains_due_s = 0.0
        self._heads_due_s = 0.0
        self._ready = asyncio.Event()
        self.adopted = 0
        self.doubted = 0

    async def wait_ready(self, timeout_s: float) -> bool:
        """Wait until this worker is announced and has partitions; False if that takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Sweep until cancelled; one task runs this. A lost connection is made anew."""
        while True:
            try:
                await self._sweep_while_connected()
            except Exception as error:  # noqa: BLE001  # tried again; nothing depends on one sweep
                _log.warning("a sweep of the transaction log failed", error=type(error).__name__)
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
            await asyncio.sleep(self._limits.sweep_every_s)

    async def _sweep_while_connected(self) -> None:
        connection = await connect_within(self._connect, self._limits.connect_timeout_s)
        self._connection, self._chains = connection, ChainSession(self._worker_id)
        who = announce(connection, self._worker_id, socket.gethostname(), os.getpid())
        await within(connection, self._limits.step_timeout_s, who)
        while True:
            await self.sweep(connection)
            await asyncio.sleep(self._limits.sweep_every_s)

    async def sweep(self, connection: Connection) -> None:
        """Do everything once: partitions, spills of dead workers, intents of dead workers."""
        step_s = self._limits.step_timeout_s
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._partitions_due_s:
            await self._make_partitions(connection, now_s)
        self._ready.set()
        try:
            await self._drain_orphans(connection)  # before intents: results may be there
        except sqlite3.Error as error:
            _log.critical("a spill of a dead worker cannot be read", error=type(error).__name__)
        self.doubted += await within(
            connection, step_s, self._resolver.sweep(connection, now_s, self._chains)
        )
        if self._own_settled():
            own = self._resolver.sweep_own(connection, self._chains)
            self.doubted += await within(connection, step_s, own)
        await self._keep_chains(connection, now_s)

    async def _keep_chains(self, connection: Connection, now_s: float) -> None:
        """Close chains that nobody writes to any more, and register the heads of our own."""
        limits = self._limits
        if now_s >= self._chains_due_s:
            closing = close_chains(connection, self._chains.held)
            await within(connection, limits.step_timeout_s, closing)
            self._chains_due_s = now_s + limits.chains_every_s
        if now_s >= self._heads_due_s:
            heads = register_heads(connection, self._worker_id)
            await within(connection, limits.step_timeout_s, heads)
            self._heads_due_s = now_s + limits.heads_every_s

    async def _make_partitions(self, connection: Connection, now_s: float) -> None:
        limits = self._limits
        ensure = ensure_partitions(
            connection, datetime.now(UTC).date(), limits.partition_days_ahead
        )
        self._partitions_due_s = now_s + limits.partitions_every_s
        try:
            await within(connection, limits.step_timeout_s, ensure)
        except asyncpg.PostgresError as error:
            if connection.is_closed():
                self._partitions_due_s = now_s
                raise
            # The default partition takes the entries meanwhile.
            self._partitions_due_s = now_s + limits.partitions_again_s
            _log.error("partitions could not be made", error=type(error).__name__)

    async def _drain_orphans(self, connection: Connection) -> None:
        """Drain what dead workers left, for a bounded time; the rest is for the next sweep."""
        limits, loop = self._limits, asyncio.get_running_loop()
        until_s = loop.time() + limits.orphans_s
        while (
            loop.time() < until_s
            and (spill := await adopt(self._folder, limits.spill_max_bytes)) is not None
        ):
            try:
                while spill.count and loop.time() < until_s:
                    self.adopted += await drain_chunk(
                        spill,
                        connection,
                        limits.drain_records,
                        limits.step_timeout_s,
                        self._chains,
                    )
            finally:
                await spill.close()

    async def close(self) -> None:
        """Say goodbye where the database answers, and close the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await within(connection, 1.0, self._chains.close(connection))
            await within(connection, 1.0, depart(connection, self._worker_id))
        except Exception as error:  # noqa: BLE001  # the next sweep of any worker finds it out
            _log.info("a worker left without goodbye", error=type(error).__name__)
        await close_or_cut(connection)
