"""What a month costs: entries, tiers and fees, whose total is their exact sum (process 1495)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.database import open_engine
from foundation.errors import MarketError
from gem.marketplace.v1 import statement_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.contract_pb2 import PriceModel
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.price import tiers_of
from marketplace.price_tiers import graduated
from marketplace.router.target import TransactionEntry
from marketplace.statement_charges import (
    Charge,
    ChargeKind,
    PricedEntries,
    charges_of,
    totals_of,
)
from marketplace.storage_price import PriceStorage
from tests.marketplace.test_price import per_unit, tiered
from tests.transaction_desk import TIMED_OUT, Desk, opened_desk
from tests.transaction_log_support import OK, connected, empty_log, entry_of

pytestmark = pytest.mark.usecase(1471)

ENTRIES, TIER = statement_pb2.CHARGE_KIND_ENTRIES, statement_pb2.CHARGE_KIND_TIER
FEE = statement_pb2.CHARGE_KIND_MONTHLY_FEE
CALL_TIERS = tiered((0, 100), (10, 40), (100, 1))
UNIT_TIERS = tiered(
    (0, 7), (5000, 3), per_count=1000, unit={"field_path": "energy_wh", "unit_name": "Wh"}
)
_CONTRACT = """
INSERT INTO marketplace.contract (contract_id, requester_id, provider_id, service_id, offering_id,
  state, terms, price_per_call_micros, currency_code, price_id, created_at, terminated_at)
VALUES ('contract-1', 'evsp', 'operator', 'service-1', 'offering-1', 'TERMINATED', ''::bytea, 0,
  'EUR', $1, $2, now())
"""
_EVENT = """
INSERT INTO marketplace.contract_event (contract_id, kind, state, actor, occurred_at)
VALUES ('contract-1', $1, $1, 'evsp', $2)
"""
_PRICE = """
INSERT INTO marketplace.contract_price (contract_id, service_id, price_id, effective_at)
VALUES ('contract-1', 'service-1', $1, $2)
"""


def day(number: int, hour: int = 12, month: int = 2) -> datetime:
    return datetime(2026, month, number, hour, tzinfo=UTC)


def instant_ns(at: datetime) -> int:
    return int(at.timestamp()) * 10**9


def fee(micros: int) -> PriceModel:
    price = {"amount_micros": micros, "currency_code": "EUR"}
    return PriceModel(per_month={"price": price})  # type: ignore[arg-type]  # nested messages


class Ledger:
    """A contract whose prices and history a test writes, and its statements."""

    def __init__(self, url: str, desk: Desk) -> None:
        self._url = url
        self.desk = desk

    async def kept(self, model: PriceModel) -> int:
        engine = open_engine(self._url, 1)
        try:
            async with engine.begin() as connection:
                price_id = (await PriceStorage(connection).kept(model)).price_id
        finally:
            await engine.dispose()
        assert price_id is not None
        return price_id

    async def contract(
        self,
        prices: list[tuple[int | None, datetime]],
        *events: tuple[str, datetime],
    ) -> None:
        async with connected(self._url) as connection:
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(_CONTRACT, prices[0][0], prices[0][1])
            for price_id, since in prices:
                await connection.execute(_PRICE, price_id, since)
            for state, at in events:
                await connection.execute(_EVENT, state, at)

    async def statement(self, month: str = "2026-02") -> statement_pb2.MonthlyStatement:
        request = wire.GetMonthlyStatementRequest(contract_id="contract-1", month=month)
        answer = await self.desk.partner("evsp").ask("GetMonthlyStatement", request)
        made: statement_pb2.MonthlyStatement = answer.statement
        sums: Counter[str] = Counter()
        for charge in made.charges:
            sums[charge.value.currency_code] += charge.value.amount_micros
        assert {v.currency_code: v.amount_micros for v in made.totals} == sums, "exact, always"
        return made


@pytest.fixture
async def ledger(control_plane_url: str) -> AsyncIterator[Ledger]:
    await empty_log(control_plane_url)
    async with opened_desk(control_plane_url) as desk:
        yield Ledger(control_plane_url, desk)


def lines(made: statement_pb2.MonthlyStatement, kind: int) -> list[Any]:
    return [charge for charge in made.charges if charge.kind == kind]


async def test_an_old_contract_without_price_ids_owes_what_its_entries_say(ledger: Ledger) -> None:
    await ledger.contract([(None, day(1))], ("ACTIVE", day(1)))
    await ledger.desk.keep(
        *(entry_of(started_ns=instant_ns(day(3)), value_micros=20_000) for _ in range(3)),
        entry_of(started_ns=instant_ns(day(3)), status=TIMED_OUT, value_micros=0),
    )
    made = await ledger.statement()
    (charge,) = made.charges
    assert (charge.kind, charge.price_number, charge.call_count) == (ENTRIES, 0, 3)
    assert not charge.HasField("unit_count")
    assert not charge.HasField("price")
    assert list(made.totals) == list(made.values)
    assert made.totals[0].amount_micros == 60_000


async def test_a_month_with_nothing_in_it_owes_nothing(ledger: Ledger) -> None:
    await ledger.contract([(None, day(1))], ("ACTIVE", day(1)))
    made = await ledger.statement()
    assert (len(made.charges), len(made.totals)) == (0, 0)


async def test_under_a_price_per_unit_the_total_is_the_sum_of_the_log(ledger: Ledger) -> None:
    price_id = await ledger.kept(per_unit("energy_wh"))
    await ledger.contract([(price_id, day(1))], ("ACTIVE", day(1)))
    dice = random.Random(5)
    entries = [
        entry_of(
            started_ns=instant_ns(day(dice.randrange(1, 28))),
            value_micros=dice.randrange(10**6),
            units=dice.randrange(10**9),
            price_id=price_id,
        )
        for _ in range(50)
    ]
    await ledger.desk.keep(*entries)
    made = await ledger.statement()
    (charge,) = made.charges
    assert (charge.kind, charge.price_number, charge.call_count) == (ENTRIES, price_id, 50)
    assert charge.unit_count == sum(entry.units or 0 for entry in entries)
    assert charge.price.per_unit.unit.unit_name == "Wh"
    assert list(made.totals) == list(made.values)


def rated(model: PriceModel, count: int) -> int:
    found = graduated(tiers_of(model.tiered), model.tiered.per_count, count)
    return sum(line.value_micros for line in found)


async def test_tiers_are_rated_over_the_calls_of_the_month_and_begin_anew_with_the_next(
    ledger: Ledger,
) -> None:
    price_id = await ledger.kept(CALL_TIERS)
    await ledger.contract([(price_id, day(1))], ("ACTIVE", day(1)))
    kept = [(day(2), OK)] * 12 + [(day(4), TIMED_OUT)] * 5 + [(day(3, month=3), OK)] * 2
    await ledger.desk.keep(
        *(
            entry_of(started_ns=instant_ns(at), status=status, value_micros=0, price_id=price_id)
            for at, status in kept
        )
    )
    made = await ledger.statement()
    assert [(c.from_count, c.call_count, c.value.amount_micros) for c in lines(made, TIER)] == [
        (0, 10, 1000),
        (10, 2, 80),
    ]
    assert made.totals[0].amount_micros == 1080
    assert made.values[0].amount_micros == 0, "no entry has a value by itself"
    (march,) = lines(await ledger.statement("2026-03"), TIER)
    assert (march.from_count, march.call_count, march.value.amount_micros) == (0, 2, 200)


async def test_a_change_of_price_within_a_month_rates_each_entry_by_its_own(
    ledger: Ledger,
) -> None:
    """Per call, then tiers of units, then a fee: what an entry names is what it costs."""
    units, monthly = await ledger.kept(UNIT_TIERS), await ledger.kept(fee(2_800_000))
    prices = [(None, day(1)), (units, day(10)), (monthly, day(20, 15))]
    await ledger.contract(
        prices, ("ACTIVE", day(1)), ("SUSPENDED", day(22)), ("TERMINATED", day(25))
    )
    await ledger.desk.keep(
        entry_of(started_ns=instant_ns(day(9)), value_micros=20_000),
        # Planned just before the change and begun after it: its own price counts.
        entry_of(started_ns=instant_ns(day(11)), value_micros=20_000),
        *(
            entry_of(started_ns=instant_ns(day(12)), value_micros=0, units=wh, price_id=units)
            for wh in (4000, 2500)
        ),
        entry_of(started_ns=instant_ns(day(21)), value_micros=0, price_id=monthly),
    )
    made = await ledger.statement()
    tiers = [(c.from_count, c.unit_count, c.value.amount_micros) for c in lines(made, TIER)]
    assert tiers == [(0, 5000, 35), (5000, 1500, 5)]
    (month,) = lines(made, FEE)
    # The 20th still belongs to the price that was in force first on it; the 25th counts.
    assert (month.days, month.value.amount_micros) == (5, 500_000)
    by_price = {c.price_number: c.value.amount_micros for c in lines(made, ENTRIES)}
    assert by_price == {0: 40_000, units: 0, monthly: 0}
    assert made.totals[0].amount_micros == 40_000 + 40 + 500_000


async def test_a_fee_is_owed_without_any_call_and_for_days_that_have_begun(ledger: Ledger) -> None:
    price_id = await ledger.kept(fee(31_000_000))
    await ledger.contract([(price_id, day(1, month=1))], ("ACTIVE", day(1, month=1)))
    (january,) = (await ledger.statement("2026-01")).charges
    assert (january.kind, january.days, january.value.amount_micros) == (FEE, 31, 31_000_000)
    assert january.price.per_month.price.amount_micros == 31_000_000
    today = datetime.now(tz=UTC)
    running = await ledger.statement(f"{today:%Y-%m}")
    assert [c.days for c in running.charges] == [today.day]
    assert (await ledger.statement("2999-01")).charges == []


async def test_more_units_than_a_statement_can_say_are_refused_and_not_cut(ledger: Ledger) -> None:
    price_id = await ledger.kept(UNIT_TIERS)
    await ledger.contract([(price_id, day(1))], ("ACTIVE", day(1)))
    await ledger.desk.keep(
        *(
            entry_of(started_ns=instant_ns(day(2)), value_micros=0, units=2**62, price_id=price_id)
            for _ in range(3)
        )
    )
    with pytest.raises(MarketError) as refused:
        await ledger.statement()
    assert refused.value.reason == ErrorReason.ERROR_REASON_INTERNAL


async def test_an_entry_shows_its_units_and_its_price(ledger: Ledger) -> None:
    kept: list[TransactionEntry] = [
        entry_of(units=0, price_id=4),
        entry_of(units=12, price_id=4),
        entry_of(),
    ]
    await ledger.desk.keep(*kept)
    shown = {entry.transaction_id: entry for entry in await ledger.desk.partner("evsp").listed()}
    for entry in kept:
        found = shown[str(entry.transaction_id)]
        assert found.HasField("unit_count") == (entry.units is not None)
        assert (found.unit_count, found.price_number) == (entry.units or 0, entry.price_id or 0)


MODELS = {1: CALL_TIERS, 2: UNIT_TIERS, 3: per_unit("energy_wh"), 4: fee(2_800_001)}


@given(
    counts=st.dictionaries(
        st.sampled_from((None, 1, 2, 3, 4)),
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**9), st.integers(0, 10**12)),
    ),
    days=st.dictionaries(st.sampled_from((1, 2, 3, 4)), st.integers(1, 28)),
)
def test_totals_are_the_sums_of_what_is_shown(
    counts: dict[int | None, tuple[int, int, int]], days: dict[int, int]
) -> None:
    entries = [
        PricedEntries(key, "EUR", ok, units if key in {2, 3} else None, value)
        for key, (ok, units, value) in counts.items()
    ]
    charges = charges_of(entries, MODELS, days, 28)
    tiers = [c for c in charges if c.kind is ChargeKind.TIER]
    for key, model in ((1, CALL_TIERS), (2, UNIT_TIERS)):
        count = counts[key][key - 1] if key in counts else 0
        mine = [c for c in tiers if c.price_id == key]
        assert sum(c.call_count + (c.unit_count or 0) for c in mine) == count
        assert sum(c.value_micros for c in mine) == rated(model, count)
    fees = [c for c in charges if c.kind is ChargeKind.MONTHLY_FEE]
    assert [(c.price_id, c.days) for c in fees] == ([(4, days[4])] if 4 in days else [])
    expected = sum(value for *_, value in counts.values())
    expected += sum(c.value_micros for c in [*tiers, *fees])
    assert totals_of(charges) == ({"EUR": expected} if charges else {})


def test_a_total_beyond_money_is_an_error() -> None:
    charges = [Charge(ChargeKind.ENTRIES, 0, "EUR", 9 * 10**17)] * 2
    with pytest.raises(ValueError, match="beyond"):
        totals_of(charges)
