"""The spill: a crash-safe file for what PostgreSQL cannot take at the moment.

One SQLite file for each worker, named by the worker's boot id, with a lock file beside it. The lock
(`flock`) is held as long as its process lives, so that a file whose lock can be had belongs to
nobody, and whoever gets the lock drains it. What is drained twice changes nothing (`write_again`),
so that a crash between writing and removing is harmless.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

import structlog

from marketplace.transaction_batch import Batch, Kind, decode, encode

SUFFIX = ".spill"
LOCK_SUFFIX = ".lock"
PAGE_BYTES = 4096
_log = structlog.get_logger(__name__)
_BUSY_TIMEOUT_S = 5.0
_P = ParamSpec("_P")
_R = TypeVar("_R")

_TABLES = """
CREATE TABLE IF NOT EXISTS record (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS rejected (
  sequence INTEGER PRIMARY KEY, kind INTEGER NOT NULL, body TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The oldest records of a spill, up to and including a sequence number."""

    last_sequence: int
    batch: Batch


class Spill:
    """One open spill file; made by `open_own` or `adopt`. SQLite runs in a thread of its own."""

    def __init__(self, path: Path, lock: int, max_bytes: int) -> None:
        """Open the file under a lock that the caller holds; blocks, so run it in a thread."""
        self.worker_id = UUID(hex=path.stem)
        self._path = path
        self._lock = lock
        self._count = 0
        self._rejected = 0
        self._database = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(max_bytes)
        except sqlite3.Error:
            self._database.close()
            raise
        _sync_folder(path.parent)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spill")

    def _prepare(self, max_bytes: int) -> None:
        self._database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._database.execute("PRAGMA journal_mode = WAL")
        # FULL: every commit is synced before it returns; the default of WAL would not be.
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_BYTES)}")
        self._database.executescript(_TABLES)
        self._recount()

    @property
    def count(self) -> int:
        """Number of records that wait to be drained."""
        return self._count

    @property
    def rejected(self) -> int:
        """Number of records that PostgreSQL refuses for good; a person has to look at them."""
        return self._rejected

    async def append(self, batch: Batch) -> None:
        """Keep a batch, all of it or nothing; durable when this returns.

        Raises sqlite3.Error where the disk or the file is full.
        """
        await self._run(Spill._append, batch)

    async def first(self, limit: int) -> Chunk | None:
        """Give the oldest records, at most `limit`; None when nothing is left."""
        return await self._run(Spill._first, limit)

    async def remove(self, last_sequence: int) -> None:
        """Forget the records up to and including `last_sequence`, which are in PostgreSQL now."""
        await self._run(Spill._remove, last_sequence)

    async def reject(self, last_sequence: int) -> None:
        """Put the records up to and including `last_sequence` aside, for good."""
        await self._run(Spill._reject, last_sequence)

    async def close(self) -> None:
        """Close the file and give up the lock; an empty file is deleted."""
        await self._run(Spill._close)
        self._thread.shutdown(wait=False)

    async def _run(
        self,
        work: Callable[Concatenate[Spill, _P], _R],
        *arguments: _P.args,
        **keywords: _P.kwargs,
    ) -> _R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(self, *arguments, **keywords))

    def _append(self, batch: Batch) -> None:
        rows = [(int(kind), encode(record)) for kind, record in batch.records()]
        with self._transaction() as database:
            database.executemany("INSERT INTO record (kind, body) VALUES (?, ?)", rows)
        self._count += len(rows)

    def _first(self, limit: int) -> Chunk | None:
        query = "SELECT sequence, kind, body FROM record ORDER BY sequence LIMIT ?"
        rows = self._database.execute(query, (limit,)).fetchall()
        if not rows:
            return None
        batch = Batch()
        lists = batch.lists()
        for sequence, kind, body in rows:
            try:
                lists[Kind(kind)].append(decode(Kind(kind), body))
            except (ValueError, TypeError):
                _log.critical("a record of a spill cannot be read; it stays there, aside")
                self._put_aside(sequence, sequence)
        return Chunk(rows[-1][0], batch)

    def _remove(self, last_sequence: int) -> None:
        with self._transaction() as database:
            gone = database.execute("DELETE FROM record WHERE sequence <= ?", (last_sequence,))
        self._count -= gone.rowcount

    def _reject(self, last_sequence: int) -> None:
        self._put_aside(0, last_sequence)

    def _put_aside(self, first: int, last: int) -> None:
        which = "FROM record WHERE sequence BETWEEN ? AND ?"
        with self._transaction() as database:
            database.execute(f"INSERT INTO rejected SELECT * {which}", (first, last))
            database.execute(f"DELETE {which}", (first, last))
        self._recount()

    def _recount(self) -> None:
        counts = "SELECT (SELECT count(*) FROM record), (SELECT count(*) FROM rejected)"
        self._count, self._rejected = self._database.execute(counts).fetchone()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)

    def _close(self) -> None:
        self._database.close()
        if not self._count and not self._rejected:
            # The lock file goes last: without it, nobody can tell whose a spill file is.
            for path in (self._path, *_companions(self._path), lock_path(self._path)):
                path.unlink(missing_ok=True)
        os.close(self._lock)


class _Transaction:
    """`BEGIN IMMEDIATE` to COMMIT, or ROLLBACK where something is raised."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._database.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite may have rolled back by itself, for instance when the disk is full.
        with suppress(sqlite3.Error):
            self._database.execute("ROLLBACK")


async def open_own(folder: Path, worker_id: UUID, max_bytes: int) -> Spill:
    """Make the spill file of this worker; raises OSError or sqlite3.Error if the disk says no."""

    def make() -> Spill:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{worker_id.hex}{SUFFIX}"
        lock = _take(lock_path(path))
        assert lock is not None, "a boot id is never used twice"
        return Spill(path, lock, max_bytes)

    return await asyncio.to_thread(make)


async def adopt(folder: Path, max_bytes: int) -> Spill | None:
    """Take over a spill file with records to drain whose worker is dead; None without any."""

    def look() -> Spill | None:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            lock = _take(lock_path(path))
            if lock is None:
                continue
            spill = _open_orphan(path, lock, max_bytes)
            if spill is not None:
                return spill
        return None

    return await asyncio.to_thread(look)


def _open_orphan(path: Path, lock: int, max_bytes: int) -> Spill | None:
    """Open a dead worker's file; None, and the lock given up, where there is nothing to drain."""
    if not path.exists():  # drained and deleted between listing and locking
        lock_path(path).unlink(missing_ok=True)
        os.close(lock)
        return None
    try:
        spill = Spill(path, lock, max_bytes)
    except (sqlite3.DatabaseError, ValueError):
        _log.critical("a spill file cannot be read and stays where it is", file=path.name)
        os.close(lock)
        return None
    if spill.count or not spill.rejected:
        return spill
    spill._close()  # noqa: SLF001  # only rejected records: the file stays for a person to look at
    return None


def lock_path(path: Path) -> Path:
    """Give the lock file of a spill file."""
    return path.with_suffix(LOCK_SUFFIX)


def _companions(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + end) for end in ("-wal", "-shm"))


def _take(path: Path) -> int | None:
    """Lock a file, made where it does not exist; None while another process (or spill) holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, not only its content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
