"""Reads the whole log from PostgreSQL and verifies it, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from foundation.database import parse_url
from marketplace.log_chain import (
    DAY_NS,
    ChainRecord,
    Registration,
    number_of,
    since_epoch_us,
    timestamp,
)
from marketplace.log_heads import NO_HEADS, Heads
from marketplace.log_verification import (
    Break,
    BreakKind,
    ChainCheck,
    ChainedRow,
    KnownHead,
    RegisterCheck,
)
from marketplace.router.target import TransactionEntry

#: Rows fetched at a time.
_FETCHED = 1000
_DAY_US = DAY_NS // 1000
_CONNECT_TIMEOUT_S = 5.0
_STARTED = TransactionEntry._fields.index("started_ns")
_ENTRY = ", ".join(
    (*TransactionEntry._fields[:_STARTED], "started_at", *TransactionEntry._fields[_STARTED + 1 :])
)
_COLUMNS = f"{_ENTRY}, worker_id, recorded_at, chain_id, sequence, nonce, record_hash, chain_hash"

_ROWS = f"""
SELECT {_COLUMNS} FROM marketplace.service_transaction
WHERE started_at >= $1 AND started_at < $2
UNION ALL
SELECT {_COLUMNS} FROM marketplace.transaction_superseded
WHERE started_at >= $1 AND started_at < $2
ORDER BY chain_id NULLS FIRST, sequence NULLS FIRST, recorded_at
"""  # noqa: S608  # names of columns

_NEXT_START = """
SELECT min(started_at) FROM (
  SELECT min(started_at) AS started_at FROM marketplace.service_transaction WHERE started_at >= $1
  UNION ALL
  SELECT min(started_at) FROM marketplace.transaction_superseded WHERE started_at >= $1
) AS next
"""
_NEXT_DAY = """
SELECT min(day) FROM marketplace.transaction_chain_register WHERE kind = 'OPENED' AND day >= $1
"""
_COUNT = """
SELECT count(*) FROM marketplace.service_transaction WHERE started_at >= $1 AND started_at < $2
"""
_REGISTER = """
SELECT number, kind, chain_id, day, worker_id, sequence, head_hash, recorded_at, hash
FROM marketplace.transaction_chain_register ORDER BY number
"""
_OPENED = """
SELECT chain_id FROM marketplace.transaction_chain_register WHERE kind = 'OPENED' AND day = $1
ORDER BY chain_id
"""
_HEADS_OF = """
SELECT kind, sequence, head_hash FROM marketplace.transaction_chain_register WHERE chain_id = $1
"""
_UNCHAINED = "SELECT entry_count FROM marketplace.transaction_unchained WHERE day = $1"
Progress = Callable[[int], None]


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection that cannot change anything, for statements that take long.

    Raises SettingsError for what is no URL of PostgreSQL, and what the driver raises.
    """
    address = parse_url(url).set(drivername="postgresql")
    connection = await asyncpg.connect(
        address.render_as_string(hide_password=False),
        timeout=_CONNECT_TIMEOUT_S,
        server_settings={
            "application_name": "gemarket log verify",
            "default_transaction_read_only": "on",
            "jit": "off",
            "timezone": "UTC",
        },
    )
    try:
        yield connection
    finally:
        await connection.close()


class LogVerification:
    """Verifies days of the log, and the register; `first` and `last` day narrow it."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        kept: Heads = NO_HEADS,
        first: int | None = None,
        last: int | None = None,
    ) -> None:
        """`kept` are heads from outside the market; days are numbers since 1970."""
        self._connection = connection
        self._kept = kept
        self._first, self._last = first, last
        #: Entries that were read, and chains that were found.
        self.entry_count = 0
        self.chain_count = 0

    async def count(self) -> int:
        """Give the number of entries that are to be verified."""
        start = timestamp(0 if self._first is None else self._first * DAY_NS)
        end = datetime.max.replace(tzinfo=start.tzinfo)
        if self._last is not None:
            end = timestamp((self._last + 1) * DAY_NS)
        return int(await self._connection.fetchval(_COUNT, start, end))

    async def breaks(self, progress: Progress = lambda _: None) -> AsyncIterator[Break]:
        """Give every break, the register's first; `progress` is told how many entries were read."""
        async for one in self._register():
            yield one
        kept_days = {head.day for head in self._kept.chains}
        day = await self._next_day(0 if self._first is None else self._first, kept_days)
        while day is not None and (self._last is None or day <= self._last):
            async for one in self._day(day, progress):
                yield one
            day = await self._next_day(day + 1, kept_days)
        progress(self.entry_count)

    async def _register(self) -> AsyncIterator[Break]:
        kept = {self._kept.register_number: self._kept.register_hash}
        check = RegisterCheck(kept if self._kept.register_number else {})
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in self._connection.cursor(_REGISTER, prefetch=_FETCHED):
                record = Registration(
                    row["number"], row["kind"], row["chain_id"], number_of(row["day"]),
                    row["worker_id"], row["sequence"], row["head_hash"],
                    since_epoch_us(row["recorded_at"]),
                )  # fmt: skip
                for one in check.take(record, row["hash"]):
                    yield one
        for one in check.finish():
            yield one

    async def _next_day(self, day: int, kept: Iterable[int]) -> int | None:
        """Give the next day of which there is, or should be, anything."""
        start = timestamp(day * DAY_NS)
        instant = await self._connection.fetchval(_NEXT_START, start)
        opened = await self._connection.fetchval(_NEXT_DAY, start.date())
        days = [other for other in kept if other >= day]
        if instant is not None:
            days.append(since_epoch_us(instant) // _DAY_US)
        if opened is not None:
            days.append(number_of(opened))
        return min(days, default=None)

    async def _day(self, day: int, progress: Progress) -> AsyncIterator[Break]:
        """Verify a day's chains within one snapshot."""
        connection = self._connection
        start, end = timestamp(day * DAY_NS), timestamp((day + 1) * DAY_NS)
        kept = self._kept.of(day)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            opened = await connection.fetch(_OPENED, start.date())
            unseen = {row["chain_id"] for row in opened} | kept.keys()
            unchained = -(await connection.fetchval(_UNCHAINED, start.date()) or 0)
            check: ChainCheck | None = None
            current: UUID | None = None
            async for values in connection.cursor(_ROWS, start, end, prefetch=_FETCHED):
                self.entry_count += 1
                if self.entry_count % _FETCHED == 0:
                    progress(self.entry_count)
                row = _row(values)
                if row is None:
                    unchained += 1
                    if unchained > 0:
                        yield Break(BreakKind.UNCHAINED, day, entry_id=values["transaction_id"])
                    continue
                if check is None or row.chain_id != current:
                    for one in check.finish() if check else ():
                        yield one
                    current = row.chain_id
                    unseen.discard(current)
                    check = await self._check(day, current, kept)
                for one in check.take(row):
                    yield one
            for one in check.finish() if check else ():
                yield one
            if unchained < 0:
                yield Break(BreakKind.MISSING, day, count=-unchained)
            for chain_id in sorted(unseen):
                for one in (await self._check(day, chain_id, kept)).finish():
                    yield one

    async def _check(
        self, day: int, chain_id: UUID, kept: Mapping[UUID, Iterable[Any]]
    ) -> ChainCheck:
        self.chain_count += 1
        start: bytes | None = None
        heads = [KnownHead(head.sequence, head.hash) for head in kept.get(chain_id, ())]
        for row in await self._connection.fetch(_HEADS_OF, chain_id):
            if row["kind"] == "OPENED":
                start = row["head_hash"]
            else:
                is_last = row["kind"] == "CLOSED"
                heads.append(KnownHead(row["sequence"], row["head_hash"], is_last))
        return ChainCheck(day, chain_id, start, heads)


def _row(values: asyncpg.Record) -> ChainedRow | None:
    """Read a row; None where it has no place in a chain."""
    fields = tuple(values)
    ends = len(TransactionEntry._fields)
    worker_id, recorded_at, chain_id, sequence, nonce, hashed, chain_hash = fields[ends:]
    if chain_id is None or sequence is None or None in (nonce, hashed, chain_hash):
        return None
    started_ns = since_epoch_us(fields[_STARTED]) * 1000
    entry = TransactionEntry._make((*fields[:_STARTED], started_ns, *fields[_STARTED + 1 : ends]))
    record = ChainRecord(entry, worker_id, since_epoch_us(recorded_at))
    return ChainedRow(record, chain_id, sequence, nonce, hashed, chain_hash)
