"""The transaction log (use case 1491): an entry for each provider asked, durable before the answer.

It is `marketplace.router.record.TransactionLog` and the interceptors' log of failed calls, on top
of group commit, PostgreSQL and the spill. Safe against `kill -9` at any instant of this process or
of the database: keys are chosen by the caller, every write can be repeated, and what is not durable
was not acknowledged.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import structlog

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import FailedCall
from marketplace.durable_writer import Connect, DurableWriter, WriterLimits
from marketplace.group_commit import GroupCommit, GroupLimits
from marketplace.housekeeping import Housekeeping, HousekeepingLimits
from marketplace.in_doubt import InDoubtResolver
from marketplace.router.target import TransactionEntry
from marketplace.spill import Spill, open_own
from marketplace.transaction_batch import Kind, Record

#: A method's name in the log of failed calls is cut here: it is whatever the caller sent.
METHOD_LENGTH = 255
_REPORT_EVERY_S = 1.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogLimits:
    """All limits of the transaction log."""

    group: GroupLimits = field(default_factory=GroupLimits)
    writer: WriterLimits = field(default_factory=WriterLimits)
    housekeeping: HousekeepingLimits = field(default_factory=HousekeepingLimits)
    #: Failed calls that wait to be written, at most; more are counted and dropped.
    pending_failed_calls: int = 5_000
    spill_max_bytes: int = 1 << 30
    start_wait_s: float = 3.0
    flush_s: float = 10.0


@dataclass(frozen=True, slots=True)
class LogFigures:
    """Counters since the start and gauges, for metrics."""

    pending: int
    spilling: bool
    spill_records: int
    rejected_records: int
    spilled: int
    drained: int
    adopted: int
    doubted: int
    open_intents: int
    failed_calls_dropped: int


class DurableTransactionLog:
    """The log of one worker; `start` it before the first call and `close` it after the last."""

    def __init__(
        self,
        connect: Connect,
        folder: Path,
        limits: LogLimits | None = None,
        worker_id: UUID | None = None,
        observe: Callable[[LogFigures], None] | None = None,
    ) -> None:
        """`connect` opens an asyncpg connection; `folder` has the spills of this host's workers.

        `worker_id` is the boot id, random unless a test chooses it; it is never used twice.
        `observe` is told the log's figures once a second.
        """
        self.worker_id = worker_id or uuid4()
        self._connect = connect
        self._observe = observe
        self._folder = folder
        self._limits = limits or LogLimits()
        #: Start of every intent without a result, so that the result has the intent's key.
        self._open: dict[UUID, int] = {}
        self._failed_pending = 0
        self._failed_dropped = 0
        self._closed = True
        self._tasks: list[asyncio.Task[None]] = []
        self._spill: Spill
        self._writer: DurableWriter
        self._group: GroupCommit
        self._housekeeping: Housekeeping

    async def start(self) -> None:
        """Open the spill and begin; a database that is away is waited for a moment, not longer.

        Raises OSError or sqlite3.Error where the spill cannot be opened: without it no entry would
        be safe.
        """
        limits = self._limits
        self._spill = await open_own(self._folder, self.worker_id, limits.spill_max_bytes)
        self._writer = DurableWriter(self._connect, self._spill, self.worker_id, limits.writer)
        self._group = GroupCommit(self._writer.write, limits.group)
        resolver = InDoubtResolver(self.worker_id, self._open, limits.housekeeping.dead_after_s)
        self._housekeeping = Housekeeping(
            self._connect,
            self._folder,
            self.worker_id,
            resolver,
            lambda: not self._writer.spilling,
            limits.housekeeping,
        )
        parts = (self._housekeeping, self._writer, self._group)
        self._tasks = [asyncio.create_task(part.run()) for part in parts]
        if self._observe is not None:
            self._tasks.append(asyncio.create_task(self._report(self._observe)))
        self._closed = False
        ready = await asyncio.gather(
            self._housekeeping.wait_ready(limits.start_wait_s),
            self._writer.wait_ready(limits.start_wait_s),
        )
        if not all(ready):
            _log.warning("the transaction log starts without its database, into the spill")

    async def intend(self, entries: Sequence[TransactionEntry]) -> None:
        """Make intents durable, before any provider is asked.

        Every intent is followed by `record` of the same transaction id, also where this call was
        cancelled. Raises MarketError STORAGE_UNAVAILABLE; then no provider may be asked, and
        nothing has to be recorded.
        """
        for entry in entries:
            self._open[entry.transaction_id] = entry.started_ns
        try:
            await self._durable(self._submit(Kind.INTENT, entries))
        except MarketError:
            self._forget(entries)
            raise

    async def record(self, entries: Sequence[TransactionEntry]) -> None:
        """Make results durable; the answer may leave when this returns.

        A result whose intent was recorded keeps the intent's start. Cancelling the caller does not
        keep the entries from being written. Raises MarketError STORAGE_UNAVAILABLE where neither
        PostgreSQL nor the spill takes them.
        """
        opened = self._open
        if not opened:
            await self._durable(self._submit(Kind.FINAL, entries))
            return
        fresh = [entry for entry in entries if entry.transaction_id not in opened]
        resolved = [self._resolution(e) for e in entries if e.transaction_id in opened]
        # Both are handed over before the first wait: a cancel in between takes nothing back.
        waits = [self._submit(Kind.FINAL, fresh), self._submit(Kind.RESOLUTION, resolved)]
        try:
            for wait in waits:
                await self._durable(wait)
        finally:
            self._forget(resolved)

    async def record_failed(self, failed: FailedCall) -> None:
        """Make an identified call that reached no provider durable; never raises.

        Anonymous calls are not kept. Where thousands wait already, or nothing takes it, it is
        dropped and counted.
        """
        if failed.requester_id is None:
            return
        if self._failed_pending >= self._limits.pending_failed_calls:
            self._failed_dropped += 1
            return
        self._failed_pending += 1
        try:
            method = printable(failed.method)
            kept = dataclasses.replace(failed, method=method)
            await self._durable(self._submit(Kind.FAILED, (kept,)))
        except MarketError:
            self._failed_dropped += 1
        finally:
            self._failed_pending -= 1

    async def flush(self) -> None:
        """Return when everything handed over so far is durable."""
        await self._group.flush()

    def figures(self) -> LogFigures:
        """Give the state of the log in numbers."""
        return LogFigures(
            pending=self._group.pending,
            spilling=self._writer.spilling,
            spill_records=self._spill.count,
            rejected_records=self._spill.rejected,
            spilled=self._writer.spilled,
            drained=self._writer.drained,
            adopted=self._housekeeping.adopted,
            doubted=self._housekeeping.doubted,
            open_intents=len(self._open),
            failed_calls_dropped=self._failed_dropped,
        )

    async def _report(self, observe: Callable[[LogFigures], None]) -> None:
        while True:
            observe(self.figures())
            await asyncio.sleep(_REPORT_EVERY_S)

    async def close(self) -> None:
        """Write what is pending, drain the spill where the database answers, and end.

        What cannot be drained stays in the spill file, which any worker of this host takes over.
        """
        if self._closed:
            return
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.flush_s):
                await self._group.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._spill.count:
            with suppress(Exception):
                async with asyncio.timeout(self._limits.flush_s):
                    await self._writer.return_to_database()
        await self._writer.close()
        await self._housekeeping.close()
        await self._spill.close()

    def _submit(self, kind: Kind, records: Sequence[Record]) -> asyncio.Future[None] | None:
        if not records:
            return None
        if self._closed:
            raise _unavailable()
        return self._group.submit(kind, records)

    async def _durable(self, done: asyncio.Future[None] | None) -> None:
        if done is None:
            return
        try:
            await done
        except (sqlite3.Error, OSError, BufferError) as error:
            _log.critical("the transaction log cannot be written", error=type(error).__name__)
            raise _unavailable() from error

    def _resolution(self, entry: TransactionEntry) -> TransactionEntry:
        started_ns = self._open[entry.transaction_id]
        if entry.started_ns == started_ns:
            return entry
        return entry._replace(started_ns=started_ns)

    def _forget(self, entries: Sequence[TransactionEntry]) -> None:
        for entry in entries:
            self._open.pop(entry.transaction_id, None)


def printable(method: str) -> str:
    """Give what a caller sent as method without anything but visible ASCII, of bounded length."""
    return "".join(c if "!" <= c <= "~" else "?" for c in method[:METHOD_LENGTH])


def _unavailable() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE,
        "the transaction log cannot be written, so the call cannot be answered",
    )
