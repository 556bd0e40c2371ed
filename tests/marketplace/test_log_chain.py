"""What is hashed of an entry, and the places that one connection gives to entries."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, date, datetime
from hashlib import sha256
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from marketplace.chain_session import MOST_DAYS, ChainSession
from marketplace.log_chain import (
    DAY_NS,
    REGISTER_START,
    Registration,
    chain_start,
    date_of,
    day_of,
    link,
    number_of,
    read_record,
    record_bytes,
    record_hash,
    register_link,
    since_epoch_us,
    timestamp,
)
from marketplace.router.target import TransactionEntry
from tests.log_chains import breaks_of
from tests.transaction_log_support import connected, entry_of, rows

_BIGINT = st.integers(-(2**63), 2**63 - 1)
_SMALL = st.integers(-(2**15), 2**15 - 1)
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_DIGEST = st.binary(max_size=40)
_MICROSECONDS = st.integers(0, 4 * 10**15)
ENTRIES = st.builds(
    TransactionEntry,
    *(st.uuids(), st.uuids(), _TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _TEXT),
    *(_MICROSECONDS.map(lambda us: us * 1000), _BIGINT, _SMALL, _SMALL, _SMALL, _BIGINT, _BIGINT),
    *(_DIGEST, _DIGEST, _BIGINT, _BIGINT, _TEXT, st.none() | _BIGINT, st.none() | _BIGINT),
)
_WORKER = uuid4()


def record_of(entry: TransactionEntry, recorded_us: int = 7) -> bytes:
    return record_bytes(entry, entry.started_ns // 1000, _WORKER.bytes, recorded_us)


@given(ENTRIES, _MICROSECONDS)
def test_a_record_is_read_back_as_it_was_written(entry: TransactionEntry, recorded_us: int) -> None:
    record = read_record(record_of(entry, recorded_us))
    assert record == (entry, _WORKER, recorded_us)


@given(ENTRIES, ENTRIES)
def test_two_entries_have_one_record_only_where_they_are_the_same(
    one: TransactionEntry, other: TransactionEntry
) -> None:
    assert (record_of(one) == record_of(other)) == (one == other)


@given(st.binary(max_size=300))
def test_what_is_no_record_is_refused_or_read_as_what_gives_it_again(content: bytes) -> None:
    try:
        entry, worker_id, recorded_us = read_record(content)
    except ValueError:
        return
    started_us = entry.started_ns // 1000
    assert record_bytes(entry, started_us, worker_id.bytes, recorded_us) == content


def test_equal_entries_have_different_hashes_so_that_none_can_be_guessed() -> None:
    record = record_of(entry_of())
    one, other = (record_hash(os.urandom(16), record) for _ in range(2))
    assert one != other
    assert sha256(record).digest() not in (one, other)


def test_a_link_depends_on_what_is_before_on_the_place_and_on_the_record() -> None:
    a, b = bytes(32), bytes([1]) * 32
    links = {link(a, 1, a), link(b, 1, a), link(a, 2, a), link(a, 1, b)}
    assert len(links) == 4


def test_the_hashes_are_what_the_catalogue_says() -> None:
    """A partner's own program has to come to the same; so this never changes."""
    entry = TransactionEntry(
        UUID(int=1), UUID(int=2), "evsp", "operator", "contract", "service", "1.0", "/a.B/C",
        3_000, 4, 1, 5, 6, 7, 8, b"\x01\x02", b"\x03", 9, -10, "EUR", 13,
    )  # fmt: skip
    record = record_bytes(entry, 3, UUID(int=11).bytes, 12)
    numbers = [(3, 8), (12, 8), (4, 8), (1, 2), (5, 2), (6, 2), (7, 8), (8, 8), (9, 8), (-10, 8)]
    numbers += [(13, 8), (0, 8)]  # one unit count, no price
    assert record == b"".join(
        [
            b"\x01\x01",
            *(UUID(int=number).bytes for number in (1, 2, 11)),
            *(number.to_bytes(size, "big", signed=True) for number, size in numbers),
            *(size.to_bytes(4, "big") for size in (2, 1)),
            b"\x01\x02\x03",
            b"evsp\0operator\0contract\0service\x001.0\0/a.B/C\0EUR",
        ]
    )
    assert record_hash(b"nonce", record) == sha256(b"nonce" + record).digest()
    assert link(bytes(32), 5, bytes(32)) == sha256(bytes(39) + b"\x05" + bytes(32)).digest()


def test_a_chain_begins_with_all_that_names_it_and_what_was_known_before() -> None:
    chain_id, worker_id = uuid4(), uuid4()
    start = chain_start(chain_id, 3, worker_id, REGISTER_START)
    assert start != chain_start(uuid4(), 3, worker_id, REGISTER_START)
    assert start != chain_start(chain_id, 4, worker_id, REGISTER_START)
    assert start != chain_start(chain_id, 3, uuid4(), REGISTER_START)
    assert start != chain_start(chain_id, 3, worker_id, bytes(32))


def test_every_field_of_a_registration_is_hashed() -> None:
    record = Registration(1, "OPENED", uuid4(), 2, uuid4(), 0, bytes(32), 3)
    others = [2, "CLOSED", uuid4(), 3, uuid4(), 1, bytes([1]) * 32, 4]
    changed = [
        record._replace(**{name: other})  # type: ignore[arg-type]  # each of its field's type
        for name, other in zip(Registration._fields, others, strict=True)
    ]
    hashes = {register_link(REGISTER_START, each) for each in (record, *changed)}
    assert len(hashes) == 1 + len(others)


def test_days_begin_at_midnight_in_utc() -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    since_ns = since_epoch_us(midnight) * 1000
    assert timestamp(since_ns) == midnight
    assert date_of(day_of(since_ns)) == date(2026, 3, 1)
    assert date_of(day_of(since_ns - 1)) == date(2026, 2, 28)
    assert number_of(date(1970, 1, 2)) == 1


async def test_a_session_writes_one_chain_for_each_day_in_the_order_given(log_url: str) -> None:
    noon = 20_000 * DAY_NS + DAY_NS // 2
    entries = [entry_of(started_ns=noon + offset * DAY_NS) for offset in (0, 1, 0, 1, 1)]
    async with connected(log_url) as connection:
        session = ChainSession(uuid4())
        await session.open(connection, entries)
        made = session.place(entries[:3], uuid4())
        session.settle()
        made += session.place(entries[3:], uuid4())
    places = [(each.chain_id, each.sequence) for each in made]
    first, second = places[0][0], places[1][0]
    assert first != second
    assert places == [(first, 1), (second, 1), (first, 2), (second, 2), (second, 3)]
    assert len({each.nonce for each in made}) == len(made), "each has its own nonce"


async def test_what_was_not_committed_leaves_its_place_to_the_next(log_url: str) -> None:
    entries = [entry_of() for _ in range(2)]
    async with connected(log_url) as connection:
        session = ChainSession(uuid4())
        await session.open(connection, entries)
        with suppress(ConnectionError):
            async with session.transaction(connection):
                session.place(entries, uuid4())
                raise ConnectionError
        (placed,) = session.place(entries[:1], uuid4())
    assert placed.sequence == 1


async def test_after_a_write_of_unknown_outcome_another_chain_begins(log_url: str) -> None:
    entries = [entry_of()]
    async with connected(log_url) as connection:
        session = ChainSession(uuid4())
        await session.open(connection, entries)
        with suppress(TimeoutError), session.statement():
            (first,) = session.place(entries, uuid4())
            raise TimeoutError
        await session.open(connection, entries)
        (second,) = session.place(entries, uuid4())
        assert len(session.held) == 2
    assert (first.sequence, second.sequence) == (1, 1)
    assert first.chain_id != second.chain_id


async def test_a_session_keeps_a_bounded_number_of_days_open(log_url: str) -> None:
    entries = [entry_of(started_ns=day * DAY_NS) for day in range(1, MOST_DAYS + 5)]
    async with connected(log_url) as connection:
        session = ChainSession(uuid4())
        for entry in entries:
            await session.open(connection, [entry])
        assert len(session.held) == MOST_DAYS
        await session.open(connection, entries)
        assert len(session.place(entries, uuid4())) == len(entries), "one write may need more"
        session.restore()
        await session.close(connection)
        assert session.held == frozenset()
    assert await rows(log_url, "transaction_open_chain"), "whoever finds them closes them"
    assert await breaks_of(log_url) == []
