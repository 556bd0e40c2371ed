"""The ledger against a model: whatever happens in whatever order, every booking counts once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from clearinghouse.clearing_run import Netting
from clearinghouse.ledger import Booking, balances, owed_to, postings
from clearinghouse.storage import Pool, open_pool
from clearinghouse.storage_ledger import ledger_balances
from clearinghouse.storage_settlement import SettlementStorage
from foundation.embedded_postgres import EmbeddedPostgres
from tests.clearinghouse_ledger import MARCH, booked, booking, cleared, emptied, house_database

PARTNERS = ("ash", "birch", "cedar")
ENDS = tuple(MARCH + timedelta(days=30 * number) for number in range(1, 4))
T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture(scope="module")
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    async with house_database(postgres) as url:
        yield url


class Ledger(RuleBasedStateMachine):
    """Books, credits and settles on a real database and in two dictionaries."""

    run: Run[Any]
    pool: Pool
    bookings = Bundle("bookings")

    def __init__(self) -> None:
        super().__init__()
        self.run(emptied(self.pool))
        self.booked: dict[int, Booking] = {}
        #: Which run took a booking.
        self.taken: dict[int, str] = {}
        self.requests: dict[str, str] = {}

    @rule(
        target=bookings,
        parties=st.permutations(PARTNERS),
        currency=st.sampled_from(["EUR", "JPY"]),
        amount=st.integers(0, 10**9),
        tax=st.integers(0, 10**8),
        ended_at=st.sampled_from([end - timedelta(microseconds=1) for end in ENDS] + [*ENDS]),
    )
    def approve(
        self, parties: list[str], currency: str, amount: int, tax: int, ended_at: datetime
    ) -> Booking:
        made = booking(
            len(self.booked) + 1,
            operator_id=parties[0],
            evsp_id=parties[1],
            currency_code=currency,
            amount_without_tax_micros=amount,
            amount_with_tax_micros=amount + tax,
            ended_at=ended_at,
        )
        self._book(made)
        return made

    @rule(made=bookings)
    def approve_again(self, made: Booking) -> None:
        assert self.run(booked(self.pool, [made])) == 0

    @rule(target=bookings, made=consumes(bookings))
    def credit(self, made: Booking) -> Any:
        """Take a booking back; it is then no candidate for another credit."""
        if made.credit_of is not None:
            return multiple(made)
        number = len(self.booked) + 1
        credit = made.credit(number, f"CREDIT{number}", MARCH)
        self._book(credit)
        with pytest.raises(ValueError, match="contradicts"):
            self.run(booked(self.pool, [made.credit(10**6, "SECOND", MARCH)]))
        return multiple(credit)

    @rule(end=st.sampled_from(ENDS), netting=st.sampled_from(Netting))
    def settle(self, end: datetime, netting: Netting) -> None:
        request_id = f"R{len(self.requests)}"
        run = self.run(cleared(self.pool, end, request_id, netting))
        new = self._open_before(end)
        assert run.cdr_count == len(new)
        self.taken.update(dict.fromkeys(new, run.run_id))
        self.requests[request_id] = run.run_id
        again = self.run(cleared(self.pool, end, request_id, netting))
        assert again.run_id == run.run_id

    @rule(end=st.sampled_from(ENDS))
    def settle_twice_at_once(self, end: datetime) -> None:
        async def both() -> list[Any]:
            return list(await asyncio.gather(cleared(self.pool, end), cleared(self.pool, end)))

        runs = self.run(both())
        new = self._open_before(end)
        assert sorted(run.cdr_count for run in runs) == sorted([0, len(new)])
        winner = max(runs, key=lambda run: run.cdr_count)
        self.taken.update(dict.fromkeys(new, winner.run_id))

    @rule(end=st.sampled_from(ENDS), moment_ms=st.integers(0, 20))
    def settle_and_be_killed(self, end: datetime, moment_ms: int) -> None:
        async def killed() -> None:
            run = asyncio.create_task(cleared(self.pool, end, "killed"))
            await asyncio.sleep(moment_ms / 1000)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)

        self.run(killed())
        found = self.run(self._taken())
        new = {ref for ref in found if ref not in self.taken}
        assert new in (set(), set(self._open_before(end))), "all or nothing"
        self.taken.update({ref: found[ref] for ref in new})
        self.run(
            self.pool.execute(
                "UPDATE clearinghouse.clearing_run SET request_id = run_id"
                " WHERE request_id = 'killed'"
            )
        )

    @invariant()
    def the_ledger_is_what_was_booked(self) -> None:
        lines = [line for made in self.booked.values() for line in postings(made)]

        async def stored() -> Any:
            async with self.pool.acquire() as connection:
                return await ledger_balances(connection)

        found = self.run(stored())
        assert found == balances(lines)
        sums: Counter[str] = Counter()
        for (_, _, currency), amount in found.items():
            sums[currency] += amount
        assert not any(sums.values())

    @invariant()
    def every_booking_is_in_the_run_that_took_it_and_in_no_other(self) -> None:
        assert self.run(self._taken()) == self.taken
        self.run(self._check_statements())

    def _book(self, made: Booking) -> None:
        assert self.run(booked(self.pool, [made])) == 1
        self.booked[made.cdr_ref] = made

    def _open_before(self, end: datetime) -> list[int]:
        return [
            ref
            for ref, made in self.booked.items()
            if ref not in self.taken and made.ended_at < end
        ]

    async def _taken(self) -> dict[int, str]:
        rows = await self.pool.fetch(
            "SELECT cdr_ref, run_id FROM clearinghouse.booking"
            " JOIN clearinghouse.clearing_run USING (run_ref)"
        )
        return {row[0]: row[1] for row in rows}

    async def _check_statements(self) -> None:
        """Hold statements, their lines and the net positions of every run against the model."""
        storage = SettlementStorage(self.pool)
        lines: list[str] = []
        for statement in await storage.statements(None, "", 0, 1000):
            found = await storage.lines(statement, ("", ""), 1000)
            lines += [line.cdr_id for line in found]
            assert statement.line_count == len(found)
            assert statement.with_tax_micros == sum(line.amount_with_tax_micros for line in found)
        assert sorted(lines) == sorted(self.booked[ref].cdr_id for ref in self.taken)
        for run in await storage.runs(None, 2**62, 1000):
            refs = [ref for ref, run_id in self.taken.items() if run_id == run.run_id]
            owed = owed_to(line for ref in refs for line in postings(self.booked[ref]))
            net: Counter[tuple[str, str]] = Counter()
            for position in await storage.positions(run.run_ref, None, 1000):
                net[position.partner_id, position.currency_code] += position.net_micros
            assert {key: amount for key, amount in net.items() if amount} == {
                key: amount for key, amount in owed.items() if amount
            }


def _held(database: str, examples: int, steps: int) -> None:
    with asyncio.Runner() as runner:
        pool = runner.run(_opened(database))
        try:
            machine = type("Held", (Ledger,), {"run": staticmethod(runner.run), "pool": pool})
            run_state_machine_as_test(
                machine,
                settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
            )
        finally:
            runner.run(pool.close())


async def _opened(database: str) -> Pool:
    return await open_pool(database, 4)


@pytest.mark.fault
def test_the_ledger_keeps_to_its_model(database: str) -> None:
    _held(database, examples=5, steps=12)


@pytest.mark.fault
@pytest.mark.torture
@pytest.mark.timeout(900)
def test_the_ledger_keeps_to_its_model_for_long(database: str) -> None:
    _held(database, examples=200, steps=40)
