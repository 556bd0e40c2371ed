"""A partner's check of evidence without a market: what it accepts, and what it finds."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from gem.marketplace.v1 import log_evidence_pb2 as evidence
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gemarket.log_evidence import EvidenceCheck
from marketplace.log_chain import link, record_bytes, record_hash
from marketplace.log_heads import ChainHead
from marketplace.log_verification import Break, BreakKind
from tests.transaction_log_support import entry_of

DAY = 20_000
START = bytes(32)
#: Whose entries follow each other in a chain: one's own, or others'.
CHAINS = st.lists(st.booleans(), min_size=1, max_size=12)


@dataclass
class Evidence:
    """A chain as the market streams it, and all of its heads."""

    chain_id: UUID = field(default_factory=uuid4)
    pieces: list[wire.ExportLogEvidenceResponse] = field(default_factory=list)
    heads: list[ChainHead] = field(default_factory=list)


def evidence_of(own: list[bool], cut_at: int = 1000) -> Evidence:
    """Make a chain; a new piece begins every `cut_at` entries."""
    made, head = Evidence(), START
    start = evidence.LogHead(chain_id=str(made.chain_id), day="2024-10-04", chain_hash=START)
    made.pieces.append(wire.ExportLogEvidenceResponse(start=start))
    made.heads.append(ChainHead(made.chain_id, DAY, 0, START))
    for number, is_own in enumerate(own, 1):
        entry, nonce = entry_of(), os.urandom(16)
        record = record_bytes(entry, entry.started_ns // 1000, uuid4().bytes, 7)
        hashed = record_hash(nonce, record)
        head = link(head, number, hashed)
        if number % cut_at == 0:
            made.pieces.append(wire.ExportLogEvidenceResponse())
        links = made.pieces[-1].links
        if is_own:
            links.add(own=evidence.OwnLogEntry(canonical_record=record, nonce=nonce))
        elif links and links[-1].HasField("opaque"):
            links[-1].opaque.record_hashes += hashed
        else:
            links.add(opaque=evidence.OpaqueEntries(record_hashes=hashed))
        made.heads.append(ChainHead(made.chain_id, DAY, number, head))
    return made


def breaks(heads: list[ChainHead], *given_evidence: Evidence) -> list[Break]:
    by_chain: dict[UUID, list[ChainHead]] = {}
    for head in heads:
        by_chain.setdefault(head.chain_id, []).append(head)
    check = EvidenceCheck("evsp", DAY, by_chain)
    pieces = [piece for one in given_evidence for piece in one.pieces]
    return [one for piece in pieces for one in check.take(piece)] + list(check.finish())


@given(CHAINS, CHAINS, st.integers(1, 5), st.data())
def test_what_the_market_wrote_fits_all_heads_in_any_order_and_in_any_pieces(
    one: list[bool], other: list[bool], cut_at: int, data: st.DataObject
) -> None:
    first, second = evidence_of(one, cut_at), evidence_of(other, cut_at)
    heads = data.draw(st.permutations(first.heads + second.heads))
    assert breaks(heads, first, second) == []
    check = EvidenceCheck("evsp", DAY, {})
    for piece in (*first.pieces, *second.pieces):
        assert list(check.take(piece)) == []
    assert (check.entry_count, len(check.own)) == (len(one) + len(other), sum(one) + sum(other))


@given(CHAINS, st.data())
def test_any_other_byte_in_what_is_shown_does_not_fit_the_head(
    own: list[bool], data: st.DataObject
) -> None:
    shown = evidence_of(own)
    at = data.draw(st.integers(0, len(shown.pieces[0].links) - 1))
    one = shown.pieces[0].links[at]
    name = "own" if one.HasField("own") else "opaque"
    part = getattr(one, name)
    of_it = data.draw(st.sampled_from(["canonical_record", "nonce"])) if name == "own" else ""
    content = bytearray(getattr(part, of_it or "record_hashes"))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1
    setattr(part, of_it or "record_hashes", bytes(content))
    kinds = {found.kind for found in breaks(shown.heads[-1:], shown)}
    assert BreakKind.REWRITTEN in kinds


@given(CHAINS, st.data())
def test_a_shorter_chain_than_a_head_said_is_cut_off(own: list[bool], data: st.DataObject) -> None:
    shown = evidence_of(own)
    length = data.draw(st.integers(0, len(own) - 1))
    shorter = evidence_of(own[:length])
    shorter.pieces[0].start.chain_id = str(shown.chain_id)
    (found,) = breaks(shown.heads[-1:], shorter)
    assert (found.kind, found.chain_id) == (BreakKind.TRUNCATED, shown.chain_id)
    assert (found.sequence, found.count) == (length + 1, len(own) - length)


def test_a_chain_that_is_not_shown_at_all_is_cut_off() -> None:
    shown, hidden = evidence_of([True, False]), evidence_of([False, True, True])
    (found,) = breaks([*shown.heads, hidden.heads[-1]], shown)
    assert (found.kind, found.chain_id) == (BreakKind.TRUNCATED, hidden.chain_id)
    assert (found.sequence, found.count) == (1, 3)
    assert len(breaks(hidden.heads[-1:])) == 1


def test_another_beginning_is_not_what_a_head_said() -> None:
    shown = evidence_of([True])
    shown.pieces[0].start.chain_hash = bytes([1]) * 32
    kinds = [one.kind for one in breaks(shown.heads, shown)]
    assert kinds == [BreakKind.REWRITTEN] * 2


def test_entries_before_any_chain_begins_are_refused() -> None:
    shown = evidence_of([True, True])
    shown.pieces[0].ClearField("start")
    found = breaks([], shown)
    assert [one.kind for one in found] == [BreakKind.CHANGED]


def test_a_head_is_compared_at_its_place_and_not_at_another() -> None:
    shown = evidence_of([False] * 4)
    wrong = ChainHead(shown.chain_id, DAY, 2, shown.heads[3].hash)
    (found,) = breaks([*shown.heads, wrong], shown)
    assert (found.kind, found.sequence) == (BreakKind.REWRITTEN, 2)
