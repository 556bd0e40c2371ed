"""A partner's own check of the log, over the wire: heads, chains, and the entries as listed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from gem.common.v1 import paging_pb2, time_range_pb2
from gem.marketplace.v1 import log_evidence_pb2 as evidence
from gem.marketplace.v1 import transaction_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gemarket.transactions import EXPORT_TIMEOUT_S, ORDERS, TIMEOUT_S, search
from marketplace.log_chain import HASH_BYTES, ChainRecord, link, number_of, read_record, record_hash
from marketplace.log_heads import ChainHead, Heads
from marketplace.log_verification import Break, BreakKind

if TYPE_CHECKING:
    from gem.marketplace.v1.transaction_service_pb2_grpc import TransactionServiceAsyncStub

_PAGE_SIZE = 1000
_MOST_LISTED = 10_000_000
Progress = Callable[[int], None]


async def fetch_heads(
    stub: TransactionServiceAsyncStub, first_day: str = "", last_day: str = ""
) -> Heads:
    """Give the heads of all chains of some days, as they are now."""
    page, chains = paging_pb2.PageRequest(page_size=_PAGE_SIZE), []
    while True:
        request = wire.GetLogHeadsRequest(first_day=first_day, last_day=last_day, page=page)
        answer = await stub.GetLogHeads(request, timeout=TIMEOUT_S)
        chains += [_head(one) for one in answer.heads]
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return Heads(answer.register.number, answer.register.register_hash, chains)


def _head(one: evidence.LogHead) -> ChainHead:
    day = number_of(date.fromisoformat(one.day))
    return ChainHead(UUID(one.chain_id), day, one.sequence, one.chain_hash)


@dataclass(slots=True)
class _Chain:
    """A chain as far as it was recomputed."""

    chain_id: UUID
    hash: bytes
    sequence: int = 0

    def add(self, hashed: bytes) -> None:
        self.sequence += 1
        self.hash = link(self.hash, self.sequence, hashed)


class EvidenceCheck:
    """Recomputes the chains of one day from evidence; give it every piece, and finish.

    Heads are known from elsewhere; what is listed says what the market shows of the same entries.
    """

    def __init__(self, partner_id: str, day: int, heads: dict[UUID, list[ChainHead]]) -> None:
        self._partner_id = partner_id
        self._place = Break(BreakKind.CHANGED, day)
        self._heads = {
            chain_id: sorted(known, key=lambda head: head.sequence)
            for chain_id, known in heads.items()
        }
        self._chain: _Chain | None = None
        #: Content of every version of an own entry that stands in a chain.
        self.own: dict[UUID, list[ChainRecord]] = {}
        self.entry_count = 0

    def take(self, piece: wire.ExportLogEvidenceResponse) -> Iterator[Break]:
        """Give what is wrong in a piece."""
        if piece.HasField("start"):
            yield from self._end_chain()
            start = piece.start
            self._chain = _Chain(UUID(start.chain_id), start.chain_hash)
            yield from self._compare()
        for one in piece.links:
            if self._chain is None:
                yield self._place
                return
            if one.WhichOneof("entries") == "own":
                yield from self._take_own(self._chain, one.own)
            else:
                hashes = one.opaque.record_hashes
                for begin in range(0, len(hashes), HASH_BYTES):
                    self._chain.add(hashes[begin : begin + HASH_BYTES])
                    self.entry_count += 1
                    yield from self._compare()

    def _take_own(self, chain: _Chain, own: evidence.OwnLogEntry) -> Iterator[Break]:
        chain.add(record_hash(own.nonce, own.canonical_record))
        self.entry_count += 1
        try:
            record = read_record(own.canonical_record)
        except ValueError:
            yield self._here(BreakKind.CHANGED)
        else:
            entry = record.entry
            if self._partner_id not in (entry.requester_id, entry.provider_id):
                yield self._here(BreakKind.ADDED)
            self.own.setdefault(entry.transaction_id, []).append(record)
        yield from self._compare()

    def _compare(self) -> Iterator[Break]:
        """Compare with the heads that are known of this place."""
        assert self._chain is not None
        known = self._heads.get(self._chain.chain_id, [])
        while known and known[0].sequence <= self._chain.sequence:
            if known.pop(0).hash != self._chain.hash:
                yield self._here(BreakKind.REWRITTEN)

    def _end_chain(self) -> Iterator[Break]:
        if self._chain is not None:
            yield from self._short(self._chain, self._heads.pop(self._chain.chain_id, []))

    def _short(self, chain: _Chain, left: list[ChainHead]) -> Iterator[Break]:
        if left:
            missing = left[-1].sequence - chain.sequence
            here = replace(self._place, kind=BreakKind.TRUNCATED, chain_id=chain.chain_id)
            yield replace(here, sequence=chain.sequence + 1, count=missing)

    def finish(self) -> Iterator[Break]:
        """Give what is missing at the end: of the last chain, and chains that were not shown."""
        yield from self._end_chain()
        for chain_id, left in self._heads.items():
            if chain_id != (self._chain and self._chain.chain_id):
                yield from self._short(_Chain(chain_id, b""), left)

    def listed(self, entry: transaction_pb2.ServiceTransaction) -> Iterator[Break]:
        """Compare an entry as the market lists it with what stands in the chains."""
        entry_id = UUID(entry.transaction_id)
        records = self.own.get(entry_id)
        if records is None:
            yield replace(self._place, kind=BreakKind.UNCHAINED, entry_id=entry_id)
        elif not any(_is_same(entry, record) for record in records):
            yield replace(self._place, entry_id=entry_id)

    def _here(self, kind: BreakKind) -> Break:
        assert self._chain is not None
        chain = self._chain
        return replace(self._place, kind=kind, chain_id=chain.chain_id, sequence=chain.sequence)


def _is_same(shown: transaction_pb2.ServiceTransaction, record: ChainRecord) -> bool:
    entry = record.entry
    return (
        shown.call_id, shown.requester_id, shown.provider_id, shown.contract_id, shown.service_id,
        shown.service_version, shown.method, shown.start_time.ToNanoseconds(), shown.duration_us,
        shown.status, shown.reason, shown.code, shown.request_bytes, shown.answer_bytes,
        shown.request_digest, shown.answer_digest, shown.item_count, shown.value.amount_micros,
        shown.value.currency_code, shown.unit_count if shown.HasField("unit_count") else None,
        shown.price_number,
    ) == (str(entry.call_id), *entry[2:-1], entry.price_id or 0)  # fmt: skip


class OwnVerification:
    """Verifies a partner's own entries of some days."""

    def __init__(
        self, stub: TransactionServiceAsyncStub, partner_id: str, kept: Heads, current: Heads
    ) -> None:
        """`kept` are heads from earlier, `current` what the market says now."""
        self._stub = stub
        self._partner_id = partner_id
        self._heads = (kept, current)
        #: Places of chains that were recomputed, and own entries among them.
        self.entry_count = 0
        self.own_count = 0

    def days(self) -> list[int]:
        """Give the days of which there are heads."""
        return sorted({head.day for heads in self._heads for head in heads.chains})

    async def breaks(self, progress: Progress) -> AsyncIterator[Break]:
        """Give every break, day by day; `progress` is told how many entries were recomputed."""
        for day in self.days():
            async for one in self._day(day, progress):
                yield one

    async def _day(self, day: int, progress: Progress) -> AsyncIterator[Break]:
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        # Listed first: what is recorded meanwhile is in the chains only.
        listed = [entry async for entry in self._listed(start)]
        heads: dict[UUID, list[ChainHead]] = {}
        for known in self._heads:
            for chain_id, of_chain in known.of(day).items():
                heads.setdefault(chain_id, []).extend(of_chain)
        check = EvidenceCheck(self._partner_id, day, heads)
        request = wire.ExportLogEvidenceRequest(day=start.date().isoformat())
        async for piece in self._stub.ExportLogEvidence(request, timeout=EXPORT_TIMEOUT_S):
            for one in check.take(piece):
                yield one
            progress(self.entry_count + check.entry_count)
        for one in check.finish():
            yield one
        for entry in listed:
            for one in check.listed(entry):
                yield one
        self.entry_count += check.entry_count
        self.own_count += len(check.own)

    def _listed(self, start: datetime) -> AsyncIterator[transaction_pb2.ServiceTransaction]:
        period = time_range_pb2.TimeRange()
        period.start_time.FromDatetime(start)
        period.end_time.FromDatetime(start + timedelta(days=1))
        which = wire.TransactionFilter(period=period)
        return search(self._stub, which, ORDERS["earliest"], _MOST_LISTED)
