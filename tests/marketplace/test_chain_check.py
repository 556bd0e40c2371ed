"""`ChainCheck` and `RegisterCheck` without a database: whatever is done to a chain is found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.log_chain import (
    REGISTER_START,
    ChainRecord,
    Registration,
    link,
    record_bytes,
    record_hash,
    register_link,
)
from marketplace.log_verification import (
    Break,
    BreakKind,
    ChainCheck,
    ChainedRow,
    KnownHead,
    RegisterCheck,
)
from tests.transaction_log_support import entry_of

DAY, CHAIN, WORKER = 20_000, uuid4(), uuid4()
START = bytes(range(32))
_FIELDS = ("sequence", "nonce", "record_hash", "chain_hash", "record")


def row_of(previous: bytes, sequence: int, value_micros: int = 0) -> ChainedRow:
    entry = entry_of(value_micros=value_micros)
    nonce = os.urandom(16)
    hashed = record_hash(nonce, record_bytes(entry, entry.started_ns // 1000, WORKER.bytes, 5))
    record = ChainRecord(entry, WORKER, 5)
    return ChainedRow(record, CHAIN, sequence, nonce, hashed, link(previous, sequence, hashed))


def chain_of(size: int) -> list[ChainedRow]:
    made, head = [], START
    for sequence in range(1, size + 1):
        made.append(row_of(head, sequence))
        head = made[-1].chain_hash
    return made


def head_of(row: ChainedRow, *, is_last: bool = False) -> KnownHead:
    return KnownHead(row.sequence, row.chain_hash, is_last)


def breaks(
    rows: Sequence[ChainedRow], heads: Sequence[KnownHead] = (), start: bytes | None = START
) -> list[Break]:
    check = ChainCheck(DAY, CHAIN, start, heads)
    found = [one for row in rows for one in check.take(row)]
    return found + check.finish()


def by_sequence(rows: Sequence[ChainedRow]) -> list[ChainedRow]:
    return sorted(rows, key=lambda row: row.sequence)


@given(st.integers(0, 8), st.data())
def test_a_whole_chain_has_no_break_whatever_heads_are_known(
    size: int, data: st.DataObject
) -> None:
    rows = chain_of(size)
    known = data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []
    heads = [head_of(row) for row in known]
    if rows:
        heads.append(head_of(rows[-1], is_last=True))
    assert breaks(rows, heads) == []


def changed(row: ChainedRow, field: str) -> ChainedRow:
    if field == "record":
        entry = row.record.entry._replace(value_micros=row.record.entry.value_micros + 1)
        return row._replace(record=row.record._replace(entry=entry))
    old = getattr(row, field)
    return row._replace(**{field: bytes([old[0] ^ 1]) + old[1:]})


@given(st.integers(1, 8), st.sampled_from(_FIELDS[1:]), st.data())
def test_one_changed_field_is_one_break_at_its_place(
    size: int, field: str, data: st.DataObject
) -> None:
    rows = chain_of(size)
    last = head_of(rows[-1], is_last=True)
    at = data.draw(st.integers(0, size - 1))
    rows[at] = changed(rows[at], field)
    (found,) = breaks(rows, [last])
    assert (found.kind, found.sequence) == (BreakKind.CHANGED, at + 1)
    assert (found.day, found.chain_id) == (DAY, CHAIN)
    assert found.entry_id == rows[at].record.entry.transaction_id


@given(st.integers(2, 8), st.data())
def test_several_changed_entries_are_all_found(size: int, data: st.DataObject) -> None:
    rows = chain_of(size)
    last = head_of(rows[-1], is_last=True)
    places = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    for at in places:
        rows[at] = changed(rows[at], "record")
    assert {one.sequence for one in breaks(rows, [last])} == {at + 1 for at in places}


@given(st.integers(1, 8), st.data())
def test_every_deleted_entry_is_missing_or_cut_off(size: int, data: st.DataObject) -> None:
    rows = chain_of(size)
    last = head_of(rows[-1], is_last=True)
    gone = data.draw(st.sets(st.integers(1, size), min_size=1))
    left = [row for row in rows if row.sequence not in gone]
    found = breaks(left, [last])
    assert {one.kind for one in found} <= {BreakKind.MISSING, BreakKind.TRUNCATED}
    told = {
        sequence
        for one in found
        for sequence in range(one.sequence or 0, (one.sequence or 0) + one.count)
    }
    assert told == gone


@given(st.integers(2, 8), st.data())
def test_any_other_order_is_found(size: int, data: st.DataObject) -> None:
    rows = chain_of(size)
    order = data.draw(st.permutations(range(size)))
    moved = [row._replace(sequence=to + 1) for row, to in zip(rows, order, strict=True)]
    found = breaks(by_sequence(moved), [head_of(rows[-1], is_last=True)])
    assert bool(found) == (order != list(range(size)))


@given(st.integers(1, 6), st.data())
def test_a_second_entry_at_a_place_is_found(size: int, data: st.DataObject) -> None:
    rows = chain_of(size)
    double = data.draw(st.sampled_from(rows))
    other = row_of(START, double.sequence)
    found = breaks(by_sequence([*rows, other]), [head_of(rows[-1], is_last=True)])
    assert BreakKind.DUPLICATED in {one.kind for one in found}


@pytest.mark.parametrize("sequence", [0, -1, -(2**63)])
def test_a_place_before_the_first_is_none(sequence: int) -> None:
    rows = chain_of(2)
    found = breaks([rows[0]._replace(sequence=sequence), rows[1]])
    assert found[0].kind is BreakKind.CHANGED
    assert (found[1].kind, found[1].sequence) == (BreakKind.MISSING, 1)


@given(st.integers(1, 6), st.data())
def test_a_chain_that_was_made_anew_from_somewhere_on_is_not_what_its_head_said(
    size: int, data: st.DataObject
) -> None:
    rows = chain_of(size)
    head = head_of(rows[-1])
    at = data.draw(st.integers(0, size - 1))
    previous = rows[at - 1].chain_hash if at else START
    for place in range(at, size):
        rows[place] = row_of(previous, place + 1, value_micros=1)
        previous = rows[place].chain_hash
    assert breaks(rows) == [], "in itself it is sound"
    (found,) = breaks(rows, [head])
    assert (found.kind, found.sequence) == (BreakKind.REWRITTEN, size)


def test_what_follows_the_last_is_added() -> None:
    rows = chain_of(4)
    found = breaks(rows, [head_of(rows[1], is_last=True)])
    assert [(one.kind, one.sequence) for one in found] == [
        (BreakKind.ADDED, 3),
        (BreakKind.ADDED, 4),
    ]
    empty = KnownHead(0, START, is_last=True)
    assert len(breaks(rows, [empty])) == 4


def test_a_chain_that_nobody_opened_is_told_once_and_still_checked() -> None:
    rows = chain_of(4)
    (found,) = breaks(rows, start=None)
    assert (found.kind, found.sequence) == (BreakKind.ADDED, 1)
    rows[2] = changed(rows[2], "record")
    kinds = [one.kind for one in breaks(rows, start=None)]
    assert kinds == [BreakKind.ADDED, BreakKind.CHANGED]


def test_a_beginning_that_is_another_is_found() -> None:
    (found,) = breaks(chain_of(3), start=bytes(32))
    assert (found.kind, found.sequence) == (BreakKind.CHANGED, 1)


def test_what_can_be_no_entry_is_changed_and_breaks_nothing_else() -> None:
    rows = chain_of(3)
    for name, other in (("status", 2**40), ("method", None), ("request_digest", None)):
        entry = rows[1].record.entry._replace(**{name: other})  # type: ignore[arg-type]  # wrong
        broken = rows[1]._replace(record=rows[1].record._replace(entry=entry))
        found = breaks([rows[0], broken, rows[2]])
        assert [(one.kind, one.sequence) for one in found] == [(BreakKind.CHANGED, 2)]


def register_of(size: int) -> list[tuple[Registration, bytes]]:
    made, head = [], REGISTER_START
    for number in range(1, size + 1):
        record = Registration(number, "OPENED", uuid4(), DAY, WORKER, 0, START, number)
        head = register_link(head, record)
        made.append((record, head))
    return made


def register_breaks(
    records: Sequence[tuple[Registration, bytes]], known: dict[int, bytes] | None = None
) -> list[Break]:
    check = RegisterCheck(known or {})
    found = [one for record, stored in records for one in check.take(record, stored)]
    return found + check.finish()


@given(st.integers(0, 6), st.data())
def test_a_whole_register_has_no_break(size: int, data: st.DataObject) -> None:
    records = register_of(size)
    known = {record.number: stored for record, stored in records if data.draw(st.booleans())}
    assert register_breaks(records, known) == []


@given(st.integers(1, 6), st.data())
def test_a_changed_field_of_the_register_is_found(size: int, data: st.DataObject) -> None:
    records = register_of(size)
    at = data.draw(st.integers(0, size - 1))
    field = data.draw(st.sampled_from(("kind", "day", "sequence", "recorded_us", "worker_id")))
    record, stored = records[at]
    other = {"kind": "HEAD", "worker_id": UUID(int=1)}.get(field, 77_777)
    records[at] = (record._replace(**{field: other}), stored)  # type: ignore[arg-type]  # its type
    (found,) = register_breaks(records)
    assert (found.kind, found.sequence, found.chain_id) == (
        BreakKind.CHANGED,
        at + 1,
        record.chain_id,
    )


@given(st.integers(2, 6), st.data())
def test_a_record_that_is_gone_from_the_register_is_found(size: int, data: st.DataObject) -> None:
    records = register_of(size)
    kept = {size: records[-1][1]}
    gone = data.draw(st.integers(1, size))
    del records[gone - 1]
    (found,) = register_breaks(records, kept)
    kind = BreakKind.TRUNCATED if gone == size else BreakKind.MISSING
    assert found == replace(Break(kind), sequence=gone)


def test_a_register_that_was_made_anew_is_not_what_was_kept() -> None:
    kept = {3: register_of(3)[-1][1]}
    (found,) = register_breaks(register_of(4), kept)
    assert (found.kind, found.sequence) == (BreakKind.REWRITTEN, 3)
