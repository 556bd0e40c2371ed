"""Finds where the transaction log is not what was written: one chain, and the register of chains.

Pure: rows come in the order of a chain, breaks come out. A break is found where it is even if the
rows behind it are sound.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from marketplace.log_chain import (
    REGISTER_START,
    ChainRecord,
    Registration,
    link,
    record_bytes,
    record_hash,
    register_link,
)


class BreakKind(StrEnum):
    """What is wrong."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    TRUNCATED = "truncated"
    #: Consistent in itself, but not what a head said that was taken earlier.
    REWRITTEN = "rewritten"
    #: Behind the end of a chain that was closed, or in a chain that nobody opened.
    ADDED = "added"
    #: Without any place in a chain.
    UNCHAINED = "unchained"


@dataclass(frozen=True, slots=True)
class Break:
    """One place where the log is broken."""

    kind: BreakKind
    #: Day since 1970; None for the register.
    day: int | None = None
    chain_id: UUID | None = None
    #: The first sequence number that is concerned; of the register, its number.
    sequence: int | None = None
    entry_id: UUID | None = None
    #: Number of entries that are concerned.
    count: int = 1


class ChainedRow(NamedTuple):
    """An entry as it is stored."""

    record: ChainRecord
    chain_id: UUID
    sequence: int
    nonce: bytes
    record_hash: bytes
    chain_hash: bytes

    def hashed(self) -> bytes:
        """Hash what is stored now; empty where it cannot be an entry."""
        entry, worker_id, recorded_us = self.record
        try:
            record = record_bytes(entry, entry.started_ns // 1000, worker_id.bytes, recorded_us)
            return record_hash(self.nonce, record)
        except (struct.error, TypeError, AttributeError):
            return b""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What is known from elsewhere: the hash of a chain behind one of its entries."""

    sequence: int
    hash: bytes
    #: Whether nothing comes behind.
    is_last: bool = False


class ChainCheck:
    """Checks one chain of one day; give it every row in order, and finish."""

    def __init__(
        self, day: int, chain_id: UUID, start: bytes | None, heads: Iterable[KnownHead] = ()
    ) -> None:
        """`start` is the hash before the first entry, None for a chain that nobody opened."""
        self._place = Break(BreakKind.CHANGED, day, chain_id)
        self._heads: dict[int, set[bytes]] = {}
        self._least = 0
        self._last: int | None = None
        for head in heads:
            self._heads.setdefault(head.sequence, set()).add(head.hash)
            self._least = max(self._least, head.sequence)
            if head.is_last:
                self._last = head.sequence
        #: The hashes that the next entry may follow: as stored, and as computed. None after a gap.
        self._previous: tuple[bytes, ...] = (start,) if start is not None else ()
        self._sequence = 0
        #: An entry whose own content is sound but that does not follow the one before.
        self._doubtful: Break | None = None
        self._is_known = start is not None
        self._before_is_broken = False

    def take(self, row: ChainedRow) -> list[Break]:
        """Give what is wrong up to this row."""
        here = self._at(BreakKind.CHANGED, row.sequence, row.record.entry.transaction_id)
        found: list[Break] = []
        if row.sequence <= self._sequence:  # also what is less than one
            kind = BreakKind.DUPLICATED if row.sequence > 0 else BreakKind.CHANGED
            return [replace(here, kind=kind)]
        if not self._is_known and self._sequence == 0:
            found.append(replace(here, kind=BreakKind.ADDED))
        if row.sequence > self._sequence + 1:
            found += self._settle_doubt(None)
            if self._is_known or self._sequence:
                found.append(self._gap(BreakKind.MISSING, row.sequence))
            self._previous, self._before_is_broken = (), True
        found += self._check(row, here)
        if self._last is not None and row.sequence > self._last:
            found.append(replace(here, kind=BreakKind.ADDED))
        self._sequence = row.sequence
        return found

    def _check(self, row: ChainedRow, here: Break) -> list[Break]:
        hashed = row.hashed()
        follows = [link(previous, row.sequence, row.record_hash) for previous in self._previous]
        linked = row.chain_hash in follows or row.chain_hash in (
            link(previous, row.sequence, hashed) for previous in self._previous
        )
        found = self._settle_doubt(row, linked=linked)
        is_sound = hashed == row.record_hash
        if not is_sound:
            found.append(here)
        elif self._previous and not linked:
            self._doubtful = here
        expected = self._heads.get(row.sequence, set())
        if not expected <= {row.chain_hash, *follows}:
            found.append(replace(here, kind=BreakKind.REWRITTEN))
        self._previous = (row.chain_hash, *follows[:1])
        if is_sound and linked:
            self._before_is_broken = False
        elif not is_sound:
            self._before_is_broken = True
        return found

    def _settle_doubt(self, row: ChainedRow | None, *, linked: bool = False) -> list[Break]:
        """Say what the doubtful entry was, now that the one behind it is known."""
        doubtful, self._doubtful = self._doubtful, None
        if doubtful is None:
            return []
        stored = self._previous[0]
        if row is None or (
            linked and row.chain_hash != link(stored, row.sequence, row.record_hash)
        ):
            self._before_is_broken = True
            return [doubtful]
        if linked:
            # It leads on to what follows, so what is before it is wrong: told already, if seen.
            return [] if self._before_is_broken else [doubtful]
        self._before_is_broken = True
        return [replace(doubtful, kind=BreakKind.REORDERED)]

    def finish(self) -> list[Break]:
        """Give what is wrong at the chain's end."""
        known = self._heads.get(self._sequence, set())
        if self._before_is_broken and self._doubtful and self._previous[0] in known:
            self._doubtful = None
        found = self._settle_doubt(None)
        if self._sequence < self._least:
            found.append(self._gap(BreakKind.TRUNCATED, self._least + 1))
        return found

    def _gap(self, kind: BreakKind, following: int) -> Break:
        """Give the break of all that is missing before a sequence number."""
        first = self._sequence + 1
        return replace(self._at(kind, first, None), count=following - first)

    def _at(self, kind: BreakKind, sequence: int, entry_id: UUID | None) -> Break:
        return replace(self._place, kind=kind, sequence=sequence, entry_id=entry_id)


class RegisterCheck:
    """Checks the register of chains; give it every record in order, and finish."""

    def __init__(self, known: Mapping[int, bytes]) -> None:
        """`known` are hashes of the register from elsewhere, by number."""
        self._known = dict(known)
        self._previous: bytes | None = REGISTER_START
        self._number = 0

    def take(self, record: Registration, stored_hash: bytes) -> list[Break]:
        """Give what is wrong with this record."""
        found: list[Break] = []
        if record.number != self._number + 1:
            missing = record.number - self._number - 1
            place = Break(BreakKind.MISSING, sequence=self._number + 1, count=missing)
            found.append(place)
            self._previous = None
        if self._previous is not None and register_link(self._previous, record) != stored_hash:
            found.append(self._at(BreakKind.CHANGED, record))
        if self._known.pop(record.number, stored_hash) != stored_hash:
            found.append(self._at(BreakKind.REWRITTEN, record))
        self._previous, self._number = stored_hash, record.number
        return found

    def finish(self) -> list[Break]:
        """Give what is wrong at the register's end."""
        count = max(self._known, default=0) - self._number
        if count <= 0:
            return []
        return [Break(BreakKind.TRUNCATED, sequence=self._number + 1, count=count)]

    def _at(self, kind: BreakKind, record: Registration) -> Break:
        return Break(kind, record.day, record.chain_id, record.number)
