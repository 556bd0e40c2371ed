"""Clearing runs on a real database: whole or not at all, each booking once, by credit only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from clearinghouse import storage_settlement
from clearinghouse.clearing_run import Netting
from clearinghouse.ledger import Account
from clearinghouse.netting import Position
from clearinghouse.storage import Pool, open_pool
from clearinghouse.storage_ledger import ledger_balances
from clearinghouse.storage_settlement import SettlementStorage
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.clearinghouse_ledger import (
    APRIL,
    EUR,
    EVSP,
    MARCH,
    MAY,
    NOW,
    OPERATOR,
    booked,
    booking,
    cleared,
    emptied,
    house_database,
)

_TABLES = ("clearing_run", "settlement_statement", "net_position")


@pytest.fixture(scope="module")
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    async with house_database(postgres) as url:
        yield url


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, 6) as made:
        await emptied(made)
        yield made


async def reason_of(run: Any) -> int:
    with pytest.raises(MarketError) as refused:
        await run
    return refused.value.reason


async def counts(pool: Pool) -> list[int]:
    query = " UNION ALL ".join(f"SELECT count(*) FROM clearinghouse.{name}" for name in _TABLES)
    return [row[0] for row in await pool.fetch(query)]


async def unsettled(pool: Pool) -> int:
    query = "SELECT count(*) FROM clearinghouse.booking WHERE run_ref IS NULL"
    return int(await pool.fetchval(query))


async def test_a_period_that_has_not_ended_is_refused(pool: Pool) -> None:
    reason = await reason_of(cleared(pool, NOW + timedelta(microseconds=1)))
    assert reason == ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED
    assert await counts(pool) == [0, 0, 0]


async def test_a_request_id_for_another_period_is_refused(pool: Pool) -> None:
    await cleared(pool, request_id="R")
    for other in (cleared(pool, MAY, "R"), cleared(pool, APRIL, "R", Netting.BILATERAL)):
        assert await reason_of(other) == ErrorReason.ERROR_REASON_REQUEST_ID_REUSED


async def test_totals_beyond_all_amounts_are_refused_and_leave_nothing(pool: Pool) -> None:
    most = {"amount_without_tax_micros": 10**18, "amount_with_tax_micros": 10**18}
    for count in (2, 20):  # beyond the limit of amounts, beyond that of the database's numbers
        await booked(pool, [booking(number, **most) for number in range(count)])
        assert await reason_of(cleared(pool)) == ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED
        assert await counts(pool) == [0, 0, 0]


async def test_a_ledger_that_disagrees_with_the_statements_stops_the_run(pool: Pool) -> None:
    await booked(pool, [booking()])
    async with pool.acquire() as connection:
        await connection.execute(
            "ALTER TABLE clearinghouse.ledger_posting DISABLE TRIGGER USER;"
            "DELETE FROM clearinghouse.ledger_posting;"
            "ALTER TABLE clearinghouse.ledger_posting ENABLE TRIGGER USER"
        )
    with pytest.raises(RuntimeError, match="do not agree"):
        await cleared(pool)
    assert await counts(pool) == [0, 0, 0]
    assert await unsettled(pool) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE clearinghouse.booking SET amount_with_tax_micros = 1",
        "UPDATE clearinghouse.booking SET run_ref = NULL",
        "UPDATE clearinghouse.booking SET cdr_id = 'other'",
        "DELETE FROM clearinghouse.booking",
        "UPDATE clearinghouse.ledger_posting SET amount_micros = amount_micros + 1",
        "DELETE FROM clearinghouse.ledger_posting",
        "UPDATE clearinghouse.settlement_statement SET with_tax_micros = 1",
        "DELETE FROM clearinghouse.net_position",
    ],
)
async def test_nobody_changes_what_is_settled(pool: Pool, statement: str) -> None:
    await booked(pool, [booking()])
    await cleared(pool)
    with pytest.raises(asyncpg.PostgresError, match="only added to"):
        await pool.execute(statement)


async def test_postings_that_do_not_balance_are_refused(pool: Pool) -> None:
    await booked(pool, [booking()])
    with pytest.raises(asyncpg.CheckViolationError, match="balance"):
        await pool.execute(
            "INSERT INTO clearinghouse.ledger_posting VALUES (1, 'x', 'TAX', 'EUR', 5)"
            " ON CONFLICT (cdr_ref, account) DO NOTHING;"
            "INSERT INTO clearinghouse.booking (cdr_ref, operator_id, evsp_id,"
            " amount_without_tax_micros, amount_with_tax_micros, currency_code, booked_at,"
            " started_at, ended_at, record_operator_id, cdr_id, energy_milli_wh)"
            " VALUES (2, 'a', 'b', 1, 1, 'EUR', now(), now(), now(), 'DE*ABC', 'C', 0);"
            "INSERT INTO clearinghouse.ledger_posting VALUES (2, 'x', 'TAX', 'EUR', 5)"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_with_tax_micros": -1},
        {"amount_without_tax_micros": -6_000_000},
        {"currency_code": "JPY"},
        {"evsp_id": "other"},
        {"operator_id": "other"},
        {"credit_of": 99},
    ],
)
async def test_a_credit_that_is_not_the_exact_opposite_is_refused(
    pool: Pool, changes: dict[str, object]
) -> None:
    await booked(pool, [booking(1)])
    credit = {
        "credit_of": 1,
        "amount_without_tax_micros": -5_000_000,
        "amount_with_tax_micros": -6_000_000,
    }
    with pytest.raises(ValueError, match="contradicts"):
        await booked(pool, [booking(2, **{**credit, **changes})])


async def test_a_record_is_credited_once_and_an_id_booked_once(pool: Pool) -> None:
    first = booking(1)
    await booked(pool, [first, first.credit(2, "CREDIT", MARCH)])
    for again in (first.credit(3, "SECOND", MARCH), booking(4, cdr_id="CDR1")):
        with pytest.raises(ValueError, match="contradicts"):
            await booked(pool, [again])


async def test_a_booking_that_comes_again_books_nothing(pool: Pool) -> None:
    assert await booked(pool, [booking(1), booking(2)]) == 2
    assert await booked(pool, [booking(1), booking(3)]) == 1
    async with pool.acquire() as connection:
        assert (await ledger_balances(connection, EVSP)) == {
            (EVSP, Account.RECEIVABLE, EUR): 18_000_000
        }


async def test_a_run_of_nothing_is_a_run(pool: Pool) -> None:
    assert (await cleared(pool)).cdr_count == 0
    assert await counts(pool) == [1, 0, 0]


async def test_a_repeated_command_gives_the_first_run(pool: Pool) -> None:
    await booked(pool, [booking(1)])
    first = await cleared(pool, request_id="R")
    await booked(pool, [booking(2)])
    assert await cleared(pool, request_id="R") == first
    assert await unsettled(pool) == 1


async def test_a_run_takes_its_period_and_a_late_record_is_in_the_next(pool: Pool) -> None:
    in_april = {"started_at": APRIL, "ended_at": APRIL + timedelta(hours=1)}
    await booked(pool, [booking(1), booking(2, **in_april)])
    march = await cleared(pool, APRIL)
    await booked(pool, [booking(3)])  # ended in March, approved after March was settled
    april = await cleared(pool, MAY)
    assert (march.cdr_count, april.cdr_count) == (1, 2)
    storage = SettlementStorage(pool)
    (statement,) = await storage.statements(None, april.run_id, 0, 10)
    assert [line.cdr_id for line in await storage.lines(statement, ("", ""), 10)] == [
        "CDR2",
        "CDR3",
    ]


async def test_the_same_period_takes_what_came_late_when_it_is_run_again(pool: Pool) -> None:
    await booked(pool, [booking(1)])
    await cleared(pool, request_id="first")
    await booked(pool, [booking(2)])
    assert (await cleared(pool, request_id="second")).cdr_count == 1


async def test_each_currency_is_settled_by_itself(pool: Pool) -> None:
    yen = {"currency_code": "JPY", "amount_without_tax_micros": 1, "amount_with_tax_micros": 2}
    back = {"operator_id": EVSP, "evsp_id": OPERATOR, "amount_with_tax_micros": 5_500_000}
    await booked(pool, [booking(1), booking(2, **yen), booking(3, **back)])
    run = await cleared(pool, netting=Netting.BILATERAL)
    assert await SettlementStorage(pool).positions(run.run_ref, None, 10) == [
        Position(OPERATOR, EVSP, EUR, 500_000),
        Position(OPERATOR, EVSP, "JPY", 2),
        Position(EVSP, OPERATOR, EUR, -500_000),
        Position(EVSP, OPERATOR, "JPY", -2),
    ]


async def test_a_credit_in_a_later_period_gives_back_what_the_first_one_took(pool: Pool) -> None:
    first = booking(1)
    await booked(pool, [first])
    march = await cleared(pool)
    await booked(pool, [first.credit(2, "CREDIT", MAY)])
    april = await cleared(pool, MAY)
    storage = SettlementStorage(pool)
    for run, sign in ((march, 1), (april, -1)):
        (statement,) = await storage.statements(None, run.run_id, 0, 10)
        assert statement.with_tax_micros == sign * 6_000_000
        assert [p.net_micros for p in await storage.positions(run.run_ref, OPERATOR, 9)] == [
            sign * 6_000_000
        ]
    async with pool.acquire() as connection:
        assert set((await ledger_balances(connection)).values()) == {0}


@pytest.mark.parametrize(("month", "hours"), [(3, 743), (10, 745)])
async def test_a_month_in_which_clocks_change_has_an_hour_less_or_more(
    pool: Pool, month: int, hours: int
) -> None:
    """Periods are instants: the caller's months of Berlin, with a session in every hour."""
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2025, month, 1, tzinfo=berlin).astimezone(UTC)
    end = datetime(2025, month + 1, 1, tzinfo=berlin).astimezone(UTC)
    around = [start + timedelta(hours=hour, minutes=30) for hour in range(-2, hours + 2)]
    await booked(
        pool,
        [booking(ref, started_at=at, ended_at=at) for ref, at in enumerate(around)],
    )
    assert (await cleared(pool, start)).cdr_count == 2
    assert (await cleared(pool, end, start=start)).cdr_count == hours
    assert await unsettled(pool) == 2


async def test_the_end_of_a_period_is_outside(pool: Pool) -> None:
    before = APRIL - timedelta(microseconds=1)
    await booked(pool, [booking(1, ended_at=before), booking(2, ended_at=APRIL)])
    assert (await cleared(pool)).cdr_count == 1


async def test_runs_at_the_same_time_take_every_booking_once(pool: Pool) -> None:
    await booked(pool, [booking(number) for number in range(200)])
    runs = await asyncio.gather(*(cleared(pool) for _ in range(5)))
    assert sorted(run.cdr_count for run in runs) == [0, 0, 0, 0, 200]


async def test_the_same_command_at_the_same_time_is_one_run(pool: Pool) -> None:
    await booked(pool, [booking()])
    runs = await asyncio.gather(*(cleared(pool, request_id="R") for _ in range(5)))
    assert len({run.run_id for run in runs}) == 1
    assert await counts(pool) == [1, 1, 2]


async def test_bookings_during_a_run_are_in_this_run_or_the_next(pool: Pool) -> None:
    async def keep_booking() -> None:
        for number in range(60):
            await booked(pool, [booking(number)])

    writing = asyncio.create_task(keep_booking())
    runs = [await cleared(pool) for _ in range(8)]
    await writing
    runs.append(await cleared(pool))
    assert sum(run.cdr_count for run in runs) == 60
    lines = await pool.fetchval("SELECT sum(line_count) FROM clearinghouse.settlement_statement")
    assert lines == 60


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(5))
async def test_a_run_whose_connection_dies_leaves_all_or_nothing(
    pool: Pool, database: str, seed: int
) -> None:
    bookings = [booking(number, evsp_id=f"evsp-{number % 50}") for number in range(500)]
    await booked(pool, bookings)
    run = asyncio.create_task(cleared(pool))
    await asyncio.sleep(seed * 0.007)
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    died = isinstance((await asyncio.gather(run, return_exceptions=True))[0], BaseException)
    # The pool may still hand out a connection of which nobody noticed that it was cut.
    async with open_pool(database, 2) as fresh:
        runs, statements, positions = await counts(fresh)
        assert (runs, statements, positions) in {(0, 0, 0), (1, 50, 51)}
        assert died or runs == 1, f"seed {seed}"
        assert await unsettled(fresh) == (0 if runs else 500)
        await cleared(fresh)
        assert await unsettled(fresh) == 0
        lines = await fresh.fetchval(
            "SELECT sum(line_count) FROM clearinghouse.settlement_statement"
        )
        assert lines == 500, f"seed {seed}"


async def test_a_run_waits_for_another_and_gives_up_in_time(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_settlement, "_LOCK_TIMEOUT", "100ms")
    async with pool.acquire() as connection, connection.transaction():
        await storage_settlement.wait_for_turn(connection)
        assert await reason_of(cleared(pool)) == ErrorReason.ERROR_REASON_CONFLICT
    assert (await cleared(pool)).cdr_count == 0
