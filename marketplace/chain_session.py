"""The chains that one connection writes to: one for each day that it writes entries of.

A chain ends with its connection. Where it is not known whether a write was committed, its chain is
left as it is and a new one begins: the rows say what there is, and nothing is ever put behind a
head that may not exist.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from struct import Struct
from typing import NamedTuple
from uuid import UUID, uuid4

from marketplace.log_chain import DAY_NS, NONCE_BYTES, record_bytes
from marketplace.log_connection import Connection
from marketplace.router.target import TransactionEntry
from marketplace.storage_log_chain import close_chain, open_chain, release_chain

#: Days whose chains a session keeps open; beyond, the one that was opened first is given up, unless
#: what is written at the moment needs it.
MOST_DAYS = 8
_DAY_US = DAY_NS // 1000
_sequence_bytes = Struct(">q").pack


class Head(NamedTuple):
    """The last entry of a chain; sequence zero where it has none yet."""

    chain_id: UUID
    sequence: int
    hash: bytes


class Placed(NamedTuple):
    """An entry with its place in a chain; its start and when it was recorded in microseconds."""

    entry: TransactionEntry
    started_us: int
    recorded_us: int
    chain_id: UUID
    sequence: int
    nonce: bytes
    record_hash: bytes
    chain_hash: bytes


class ChainSession:
    """Heads of the chains of one connection, as committed and as in the transaction going on."""

    def __init__(self, worker_id: UUID) -> None:
        """`worker_id` is the boot id of the worker that writes."""
        self._worker_id = worker_id
        self._heads: dict[int, Head] = {}
        self._staged: dict[int, Head] = {}
        #: Every chain whose lock the connection holds.
        self._held: set[UUID] = set()

    @property
    def held(self) -> frozenset[UUID]:
        """Chains that this connection holds; nobody else can write to them, or close them."""
        return frozenset(self._held)

    async def open(self, connection: Connection, entries: Iterable[TransactionEntry]) -> None:
        """See that there is a chain for the day of every entry; to be done before a transaction.

        Raises what the connection raises, and ValueError or OverflowError for a day beyond the
        calendar.
        """
        wanted = {entry.started_ns // DAY_NS for entry in entries}
        for day in wanted - self._heads.keys():
            spare = next((other for other in self._heads if other not in wanted), None)
            if len(self._heads) >= MOST_DAYS and spare is not None:
                await self._give_up(connection, spare)
            chain_id = uuid4()
            self._held.add(chain_id)
            start = await open_chain(connection, chain_id, day, self._worker_id)
            self._heads[day] = Head(chain_id, 0, start)

    async def _give_up(self, connection: Connection, day: int) -> None:
        chain_id = self._heads.pop(day).chain_id
        await release_chain(connection, chain_id)
        self._held.discard(chain_id)

    async def close(self, connection: Connection) -> None:
        """Register the last heads of all chains; nothing can be written to them any more."""
        self.forget()
        for chain_id in self._held:
            await close_chain(connection, chain_id)
        self._held.clear()

    def place(self, entries: Sequence[TransactionEntry], worker_id: UUID) -> list[Placed]:
        """Give the entries a place each, hashed in this order; only of days that are open.

        `worker_id` is the worker that asked the providers. Hot path: a few microseconds an entry.
        """
        recorded_us, worker = time.time_ns() // 1000, worker_id.bytes
        nonces, at = os.urandom(NONCE_BYTES * len(entries)), 0
        placed: list[Placed] = []
        today, chain_id, sequence, head = -1, worker_id, 0, b""
        for entry in entries:
            started_us = entry.started_ns // 1000
            if (day := started_us // _DAY_US) != today:
                if placed:
                    self._staged[today] = Head(chain_id, sequence, head)
                today = day
                chain_id, sequence, head = self._staged.get(day) or self._heads[day]
            nonce = nonces[at : at + NONCE_BYTES]
            at += NONCE_BYTES
            hashed = sha256(nonce + record_bytes(entry, started_us, worker, recorded_us)).digest()
            sequence += 1
            head = sha256(head + _sequence_bytes(sequence) + hashed).digest()
            placed.append(
                Placed(entry, started_us, recorded_us, chain_id, sequence, nonce, hashed, head)
            )
        if placed:
            self._staged[today] = Head(chain_id, sequence, head)
        return placed

    def settle(self) -> None:
        """What was given a place is committed."""
        self._heads.update(self._staged)
        self._staged.clear()

    def restore(self) -> None:
        """What was given a place is certainly not committed."""
        self._staged.clear()

    def forget(self) -> None:
        """Nobody knows whether it is committed: these chains end here, wherever that is."""
        self._heads.clear()
        self._staged.clear()

    @contextmanager
    def statement(self) -> Iterator[None]:
        """Write with one statement outside any transaction: a failure says nothing about it."""
        try:
            yield
        except BaseException:
            self.forget()
            raise
        self.settle()

    @asynccontextmanager
    async def transaction(self, connection: Connection) -> AsyncIterator[None]:
        """Write in a transaction; what fails before its commit has certainly not happened."""
        committing = False
        try:
            async with connection.transaction():
                yield
                committing = True
        except BaseException:
            if committing:
                self.forget()
            else:
                self.restore()
            raise
        self.settle()
