"""The part of TransactionService by which partners check the log itself (use case 1242)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1 import log_evidence_pb2 as evidence
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import actor_of
from marketplace.log_chain import record_bytes, since_epoch_us
from marketplace.router.target import TransactionEntry
from marketplace.storage_command import transaction
from marketplace.storage_log_evidence import ENTRY_COLUMNS, LogEvidenceStorage
from marketplace.storage_paging import page_by_text
from marketplace.transaction_export import ExportPlaces

_OPAQUE_MOST = 2048
_LINKS_MOST = 1000
#: Well below the limit of a message.
_PIECE_BYTES = 256 * 1024
_FIELDS = len(TransactionEntry._fields)
_STARTED = ENTRY_COLUMNS.index("started_at")
Piece = wire.ExportLogEvidenceResponse


class LogEvidenceServicer:
    """Serves heads and evidence from the database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._evidence = ExportPlaces()

    async def GetLogHeads(  # noqa: N802  # named like the rpc
        self, request: wire.GetLogHeadsRequest, call: Call
    ) -> wire.GetLogHeadsResponse:
        """Give a page of heads; REQUEST_INVALID for days beyond the calendar."""
        actor_of(call)
        page = page_by_text(request.page)
        first = _day(request.first_day, "first_day") if request.first_day else date.min
        last = _day(request.last_day, "last_day") if request.last_day else date.max
        async with self._snapshot() as connection:
            storage = LogEvidenceStorage(connection)
            rows, info = await storage.heads(page, first, last)
            number, last_hash = await storage.register()
        heads = (_head(row.chain_id, row.day, row.sequence, row.chain_hash) for row in rows)
        register = evidence.LogRegisterHead(number=number, register_hash=last_hash)
        return wire.GetLogHeadsResponse(heads=heads, register=register, page=info)

    async def ExportLogEvidence(  # noqa: N802  # named like the rpc
        self, request: wire.ExportLogEvidenceRequest, call: Call
    ) -> AsyncIterator[wire.ExportLogEvidenceResponse]:
        """Stream the chains of a day; see `transaction_export` for the refusals."""
        partner_id, day = actor_of(call).subject_id, _day(request.day, "day")
        with self._evidence.one():
            async with self._snapshot() as connection:
                storage = LogEvidenceStorage(connection)
                writer = _Writer(day, await storage.starts(day))
                async with aclosing(storage.places(day, partner_id)) as places:  # type: ignore[type-var]  # a generator
                    async for rows in places:
                        for piece in writer.pieces(rows):
                            yield piece
                for piece in writer.end():
                    yield piece

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction whose statements all see the same state of the log."""
        async with transaction(self._engine) as connection:
            level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
            await connection.execute(text(level))
            yield connection


class _Writer:
    """Makes pieces of places that come in order."""

    def __init__(self, day: date, starts: dict[UUID, bytes]) -> None:
        self._day = day
        self._waiting = list(starts.items())
        self._current: UUID | None = None
        self._piece = Piece()
        self._bytes = 0
        self._opaque: list[bytes] = []

    def pieces(self, rows: Sequence[Row[Any]]) -> Iterator[Piece]:
        """Give the pieces that are full; a chain that nobody opened is left out."""
        for row in rows:
            if row.chain_id != self._current:
                yield from self._begin(row.chain_id)
                if row.chain_id != self._current:
                    continue
            if not row.is_own:
                self._opaque.append(row.record_hash)
                if len(self._opaque) == _OPAQUE_MOST:
                    self._end_opaque()
            else:
                self._end_opaque()
                own = _own(row)
                self._piece.links.add(own=own)
                self._bytes += own.ByteSize()
            if self._bytes >= _PIECE_BYTES or len(self._piece.links) >= _LINKS_MOST - 1:
                yield from self._take()

    def end(self) -> Iterator[Piece]:
        """Give what is left."""
        yield from self._begin(None)
        yield from self._take()

    def _begin(self, chain_id: UUID | None) -> Iterator[Piece]:
        """Begin every chain up to and including this one; all that are left for None."""
        while self._waiting and (chain_id is None or self._waiting[0][0] <= chain_id):
            yield from self._take()
            self._current, start = self._waiting.pop(0)
            self._piece.start.CopyFrom(_head(self._current, self._day, 0, start))

    def _take(self) -> Iterator[Piece]:
        self._end_opaque()
        if self._piece.HasField("start") or self._piece.links:
            yield self._piece
        self._piece, self._bytes = Piece(), 0

    def _end_opaque(self) -> None:
        if self._opaque:
            hashes = b"".join(self._opaque)
            self._piece.links.add(opaque=evidence.OpaqueEntries(record_hashes=hashes))
            self._bytes += len(hashes)
            self._opaque.clear()


def _own(row: Row[Any]) -> evidence.OwnLogEntry:
    values = [getattr(row, name) for name in ENTRY_COLUMNS]
    worker_id, recorded_at, nonce = values[_FIELDS:]
    started_us, recorded_us = since_epoch_us(values[_STARTED]), since_epoch_us(recorded_at)
    record = record_bytes(values[:_FIELDS], started_us, worker_id.bytes, recorded_us)
    return evidence.OwnLogEntry(
        canonical_record=record, nonce=nonce, is_superseded=row.is_superseded
    )


def _head(chain_id: UUID, day: date, sequence: int, chain_hash: bytes) -> evidence.LogHead:
    return evidence.LogHead(
        chain_id=str(chain_id), day=day.isoformat(), sequence=sequence, chain_hash=chain_hash
    )


def _day(text_: str, field: str) -> date:
    try:
        return date.fromisoformat(text_)
    except ValueError:
        violation = FieldViolation(field, "must be a day of the calendar", "day")
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The calendar has no such day.",
            violations=(violation,),
        ) from None
