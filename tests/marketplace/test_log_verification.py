"""`LogVerification` on PostgreSQL: whatever is changed is found, and nothing else."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from marketplace.chain_session import ChainSession
from marketplace.log_chain import DAY_NS, link
from marketplace.log_heads import ChainHead, Heads
from marketplace.log_verification import BreakKind
from marketplace.storage_log_verification import LogVerification, reading
from marketplace.storage_transaction_write import CHAINED_COLUMNS, ENTRY_COLUMNS, placed_row
from tests.log_chains import (
    a_whole_log,
    breaks_of,
    change,
    kinds_of,
    longest_chain,
    write,
)
from tests.transaction_log_support import (
    IN_DOUBT,
    OK,
    connected,
    entry_of,
    rows,
)

pytestmark = pytest.mark.usecase(1242)

CHANGED, MISSING = BreakKind.CHANGED, BreakKind.MISSING
#: How one byte of a column is changed, by its type.
_OTHER = {
    "uuid": "encode(set_byte(uuid_send({0}), 3, get_byte(uuid_send({0}), 3) # 1), 'hex')::uuid",
    "text": "overlay({0} PLACING 'z' FROM 2 FOR 1)",
    "bigint": "{0} # 1",
    "smallint": "({0} # 1)::smallint",
    "bytea": "set_byte({0}, 5, get_byte({0}, 5) # 1)",
    "timestamptz": "{0} + interval '1 microsecond'",
}
_TYPES = {
    **dict.fromkeys(("transaction_id", "call_id", "worker_id", "chain_id"), "uuid"),
    **dict.fromkeys(("status", "reason", "code"), "smallint"),
    **dict.fromkeys(("started_at", "recorded_at"), "timestamptz"),
    **dict.fromkeys(("request_digest", "answer_digest", "nonce"), "bytea"),
    **dict.fromkeys(("record_hash", "chain_hash"), "bytea"),
    **dict.fromkeys(("duration_us", "request_bytes", "answer_bytes", "item_count"), "bigint"),
    **dict.fromkeys(("value_micros", "units", "price_id", "sequence"), "bigint"),
}


async def test_a_log_that_nobody_touched_is_whole(log_url: str) -> None:
    entries = await a_whole_log(log_url)
    async with reading(log_url) as connection:
        verification = LogVerification(connection)
        told: list[int] = []
        assert [one async for one in verification.breaks(told.append)] == []
        assert verification.entry_count == len(entries) + 1 == told[-1]
        assert verification.chain_count == 2
        assert await verification.count() == len(entries)


async def test_an_empty_log_is_whole(log_url: str) -> None:
    assert await breaks_of(log_url) == []


@pytest.mark.parametrize("place", [2, 5])
@pytest.mark.parametrize("column", CHAINED_COLUMNS)
async def test_a_changed_byte_of_any_column_is_found_where_it_is(
    log_url: str, column: str, place: int
) -> None:
    await write(
        log_url, [entry_of(method=f"/a.B/C{number}", units=7, price_id=3) for number in range(5)]
    )
    row = (await longest_chain(log_url))[place - 1]
    other = _OTHER[_TYPES.get(column, "text")].format(column)
    where = "WHERE transaction_id = $1"
    key = row["transaction_id"]
    await change(
        log_url, f"UPDATE marketplace.service_transaction SET {column} = {other} {where}", key
    )
    breaks = await breaks_of(log_url)
    if column in ("chain_id", "sequence"):  # it is not where it was
        assert {one.kind for one in breaks} & {MISSING, BreakKind.TRUNCATED, BreakKind.DUPLICATED}
        return
    (found,) = breaks
    assert (found.kind, found.chain_id, found.sequence) == (CHANGED, row["chain_id"], place)
    assert (found.entry_id == key) == (column != "transaction_id")


async def test_what_is_no_entry_any_more_is_found(log_url: str) -> None:
    await a_whole_log(log_url)
    await change(log_url, "UPDATE marketplace.service_transaction SET nonce = NULL")
    assert BreakKind.UNCHAINED in await kinds_of(log_url)


async def test_a_change_with_all_its_own_hashes_renewed_is_found(log_url: str) -> None:
    """As by someone who knows how the hashes are made: what follows does not fit any more."""
    await write(log_url, [entry_of() for _ in range(5)])
    chain = await longest_chain(log_url)
    content = entry_of()
    async with connected(log_url) as connection:
        session = ChainSession(uuid4())
        await session.open(connection, [content])
        worker_id = uuid4()
        (made,) = session.place([content], worker_id)
        await session.close(connection)
    forged = dict(zip(CHAINED_COLUMNS, placed_row(made, worker_id), strict=True))
    forged |= {"chain_id": chain[2]["chain_id"], "sequence": 3}
    forged["chain_hash"] = link(chain[1]["chain_hash"], 3, forged["record_hash"])
    await _replace(log_url, chain[2], forged)
    (found,) = [one for one in await breaks_of(log_url) if one.kind is not BreakKind.TRUNCATED]
    assert (found.kind, found.sequence) == (CHANGED, 4)


async def _replace(url: str, row: asyncpg.Record, forged: dict[str, object]) -> None:
    delete = "DELETE FROM marketplace.service_transaction WHERE transaction_id = $1"
    await change(url, delete, row["transaction_id"])
    names = ", ".join(forged)
    values = ", ".join(f"${number}" for number in range(1, len(forged) + 1))
    insert = f"INSERT INTO marketplace.service_transaction ({names}) VALUES ({values})"
    await change(url, insert, *forged.values())


async def test_a_chain_that_was_made_anew_to_its_end_is_found_by_its_registered_head(
    log_url: str,
) -> None:
    await write(log_url, [entry_of() for _ in range(4)])
    await _make_anew(log_url)
    assert {one.kind for one in await breaks_of(log_url)} == {BreakKind.REWRITTEN}


async def _make_anew(url: str) -> None:
    """Change the price of the second entry, and renew all hashes from there on."""
    chain = await longest_chain(url)
    session, head = ChainSession(uuid4()), chain[0]["chain_hash"]
    async with connected(url) as connection:
        for row in chain[1:]:
            values = dict(row)
            kept = {name: values[name] for name in entry_of()._fields if name in values}
            started_ns = int(values["started_at"].timestamp() * 10**6) * 1000
            entry = entry_of(**kept | {"started_ns": started_ns, "value_micros": 1})
            await session.open(connection, [entry])
            (made,) = session.place([entry], values["worker_id"])
            forged = dict(zip(CHAINED_COLUMNS, placed_row(made, values["worker_id"]), strict=True))
            forged |= {"chain_id": row["chain_id"], "sequence": row["sequence"]}
            head = link(head, row["sequence"], forged["record_hash"])
            await _replace(url, row, forged | {"chain_hash": head})
        await session.close(connection)


async def test_heads_from_outside_show_what_the_database_cannot(log_url: str) -> None:
    """A chain that is made anew together with the register, or goes away with it."""
    await write(log_url, [entry_of() for _ in range(4)])
    chain = await longest_chain(log_url)
    last = chain[-1]
    day = int(last["started_at"].timestamp()) // 86_400
    head = ChainHead(last["chain_id"], day, last["sequence"], last["chain_hash"])
    register = max(await rows(log_url, "transaction_chain_register"), key=lambda row: row["number"])
    kept = Heads(register["number"], register["hash"], [head])
    assert await breaks_of(log_url, kept) == []
    await _make_anew(log_url)
    await change(
        log_url,
        "UPDATE marketplace.transaction_chain_register AS register SET head_hash = chain_hash "
        "FROM marketplace.service_transaction AS entry WHERE entry.chain_id = register.chain_id "
        "AND register.kind = 'CLOSED' AND entry.sequence = register.sequence",
    )
    breaks = await breaks_of(log_url, kept)
    assert (BreakKind.REWRITTEN, 4) in {(one.kind, one.sequence) for one in breaks}
    for table in ("service_transaction", "transaction_chain_register", "transaction_open_chain"):
        async with connected(log_url) as connection:
            await connection.execute(f"DELETE FROM marketplace.{table}")
    assert await breaks_of(log_url) == []
    breaks = await breaks_of(log_url, kept)
    assert {one.kind for one in breaks} == {BreakKind.TRUNCATED}
    assert {one.chain_id for one in breaks} == {None, last["chain_id"]}


@pytest.mark.parametrize("gone", [1, 3])
async def test_a_deleted_entry_is_found(log_url: str, gone: int) -> None:
    await write(log_url, [entry_of() for _ in range(5)])
    row = (await longest_chain(log_url))[gone - 1]
    delete = "DELETE FROM marketplace.service_transaction WHERE transaction_id = $1"
    await change(log_url, delete, row["transaction_id"])
    (found,) = await breaks_of(log_url)
    assert (found.kind, found.sequence, found.count) == (MISSING, gone, 1)


async def test_a_tail_that_is_cut_off_is_found(log_url: str) -> None:
    await write(log_url, [entry_of() for _ in range(5)])
    await change(log_url, "DELETE FROM marketplace.service_transaction WHERE sequence > 3")
    (found,) = await breaks_of(log_url)
    assert (found.kind, found.sequence, found.count) == (BreakKind.TRUNCATED, 4, 2)


async def test_a_whole_chain_that_is_gone_is_found(log_url: str) -> None:
    worker_id = await write(log_url, [entry_of() for _ in range(5)])
    await write(log_url, [entry_of()])
    delete = "DELETE FROM marketplace.service_transaction WHERE worker_id = $1"
    await change(log_url, delete, worker_id)
    (found,) = await breaks_of(log_url)
    assert (found.kind, found.sequence, found.count) == (BreakKind.TRUNCATED, 1, 5)


@pytest.mark.parametrize(("one", "other"), [(2, 3), (2, 5), (4, 5)])
async def test_two_entries_that_change_places_are_found(log_url: str, one: int, other: int) -> None:
    await write(log_url, [entry_of() for _ in range(5)])
    swap = "UPDATE marketplace.service_transaction SET sequence = $1::bigint + $2 - sequence"
    await change(log_url, f"{swap} WHERE sequence IN ($1, $2)", one, other)
    breaks = await breaks_of(log_url)
    reordered = {found.sequence for found in breaks if found.kind is BreakKind.REORDERED}
    assert reordered & {one, other}
    assert {found.kind for found in breaks} <= {BreakKind.REORDERED, CHANGED, BreakKind.REWRITTEN}


async def test_an_entry_that_stands_twice_is_found(log_url: str) -> None:
    await write(log_url, [entry_of() for _ in range(3)])
    double = dict((await longest_chain(log_url))[1]) | {"transaction_id": uuid4()}
    names, marks = ", ".join(double), ", ".join(f"${n}" for n in range(1, len(double) + 1))
    insert = f"INSERT INTO marketplace.service_transaction ({names}) VALUES ({marks})"
    await change(log_url, insert, *double.values())
    found = [one for one in await breaks_of(log_url) if one.kind is BreakKind.DUPLICATED]
    assert [one.sequence for one in found] == [2]


async def test_an_entry_without_a_place_is_found_unless_it_is_older_than_the_chains(
    log_url: str,
) -> None:
    await a_whole_log(log_url)
    older = [entry_of() for _ in range(2)]
    async with connected(log_url) as connection:
        session = ChainSession(uuid4())
        await session.open(connection, older)
        made = session.place(older, uuid4())
        await connection.copy_records_to_table(
            "service_transaction",
            records=[placed_row(each, uuid4())[: len(ENTRY_COLUMNS)] for each in made],
            columns=ENTRY_COLUMNS,
            schema_name="marketplace",
        )
    assert [one.kind for one in await breaks_of(log_url)] == [BreakKind.UNCHAINED] * 2
    note = "INSERT INTO marketplace.transaction_unchained SELECT current_date, $1"
    try:
        await change(log_url, note, 2)
        assert await breaks_of(log_url) == []
        await change(log_url, "UPDATE marketplace.transaction_unchained SET entry_count = 3")
        assert await kinds_of(log_url) == {MISSING}
    finally:
        await change(log_url, "DELETE FROM marketplace.transaction_unchained")


async def test_entries_behind_the_end_of_a_chain_are_found(log_url: str) -> None:
    await write(log_url, [entry_of() for _ in range(3)])
    await write(log_url, [entry_of()])
    chain = await longest_chain(log_url)
    moved = (
        "UPDATE marketplace.service_transaction SET chain_id = $1, sequence = 4 "
        "WHERE sequence = 1 AND chain_id <> $1"
    )
    await change(log_url, moved, chain[0]["chain_id"])
    assert {BreakKind.ADDED, BreakKind.TRUNCATED} <= await kinds_of(log_url)


async def test_a_chain_that_nobody_opened_is_found(log_url: str) -> None:
    await write(log_url, [entry_of() for _ in range(3)])
    await change(log_url, "DELETE FROM marketplace.transaction_chain_register")
    (found,) = await breaks_of(log_url)
    assert (found.kind, found.sequence) == (BreakKind.ADDED, 1)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE {} SET sequence = sequence + 1 WHERE kind = 'CLOSED'", CHANGED),
        ("UPDATE {} SET worker_id = gen_random_uuid() WHERE number = 1", CHANGED),
        ("UPDATE {} SET hash = sha256(hash) WHERE number = 2", CHANGED),
        ("DELETE FROM {} WHERE number = 2", MISSING),
    ],
)
async def test_the_register_itself_is_verified(
    log_url: str, statement: str, kind: BreakKind
) -> None:
    await a_whole_log(log_url)
    await change(log_url, statement.format("marketplace.transaction_chain_register"))
    breaks = await breaks_of(log_url)
    assert kind in {one.kind for one in breaks if one.day is None or one.sequence is not None}


async def test_days_outside_the_range_are_not_verified(log_url: str) -> None:
    day = 20_000
    entries = [entry_of(started_ns=(day + offset) * DAY_NS + 1) for offset in (0, 1, 2)]
    await write(log_url, entries)
    await change(log_url, "UPDATE marketplace.service_transaction SET value_micros = 7")
    assert [one.day for one in await breaks_of(log_url)] == [day, day + 1, day + 2]
    assert [one.day for one in await breaks_of(log_url, first=day + 1)] == [day + 1, day + 2]
    assert [one.day for one in await breaks_of(log_url, first=day + 1, last=day + 1)] == [day + 1]
    assert await breaks_of(log_url, last=day - 1) == []


async def test_verifying_cannot_change_the_database(log_url: str) -> None:
    await a_whole_log(log_url)
    async with reading(log_url) as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM marketplace.service_transaction")


async def test_a_result_that_replaced_in_doubt_has_its_own_place_and_the_doubt_keeps_its(
    log_url: str,
) -> None:
    await a_whole_log(log_url)
    (older,) = await rows(log_url, "transaction_superseded")
    assert older["status"] == IN_DOUBT
    (newer,) = [
        row for row in await rows(log_url) if row["transaction_id"] == older["transaction_id"]
    ]
    assert (newer["status"], newer["chain_id"]) == (OK, older["chain_id"])
    assert newer["sequence"] > older["sequence"]
    await change(log_url, "UPDATE marketplace.transaction_superseded SET value_micros = 5")
    (found,) = await breaks_of(log_url)
    assert (found.kind, found.entry_id) == (CHANGED, older["transaction_id"])
    await change(log_url, "DELETE FROM marketplace.transaction_superseded")
    assert await kinds_of(log_url) == {MISSING}
