"""Customers of one EVSP in three countries: zone, currency and tax of the place (985, 986)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clearinghouse.ledger import Account
from clearinghouse.storage_ledger import ledger_balances
from gem.roaming.v1.cdr_clearing_pb2 import CdrOddity, ClearedCdr, PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse.clearing import EVSP, Clearing
from tests.clearinghouse.contract_holder import ContractHolder
from tests.clearinghouse_ledger import agree
from tests.clearinghouse_records import charged, price, record, set_cost, tariff

pytestmark = pytest.mark.usecase(1511, 1512)
#: Operator id, zone, currency, tax in percent.
GERMANY = ("DE*ABC", "Europe/Berlin", "EUR", 19)
BRITAIN = ("GB*LDN", "Europe/London", "GBP", 20)
FINLAND = ("FI*HEL", "Europe/Helsinki", "EUR", 25)
Country = tuple[str, str, str, int]
LATE = datetime(2026, 11, 1, tzinfo=UTC)


def session(
    cdr_id: str, country: Country, start: datetime, minutes: int, kwh: int, cost: tuple[int, int]
) -> ChargeDetailRecord:
    """Give a session by the tariff of all three: 0.20 at night from ten to six, else 0.50."""
    operator_id, zone, currency, vat = country
    night = price("ENERGY", "0.20", vat, start_minute=22 * 60, end_minute=6 * 60)
    rates = tariff(night, price("ENERGY", "0.50", vat), currency=currency)
    made = record(rates, [(minutes, charged(kwh))], start, zone)
    made.cdr_id = made.operator_session_id = made.session_id = cdr_id
    made.operator_id, made.currency_code = operator_id, currency
    made.authorization_reference, made.authorization_method = f"A-{cdr_id}", 1  # type: ignore[assignment]  # REQUEST
    made.identification.kind = 1  # type: ignore[assignment]  # RFID
    made.identification.contract_id = "NL-TNM-C00122045-K"
    made.location.evse_id = f"{operator_id}*E{cdr_id}"
    made.total_energy_milli_wh, made.total_time_ms = kwh * 1_000_000, minutes * 60_000
    set_cost(made.total_cost, *(amount * 10_000 for amount in cost))
    set_cost(made.total_energy_cost, *(amount * 10_000 for amount in cost))
    return made


async def cleared(clearing: Clearing, *records: ChargeDetailRecord) -> dict[str, str]:
    """Clear records, each handed in by its own operator; give the states."""
    clearing.now = LATE
    for made in records:
        operator = f"operator-{made.operator_id[:2].lower()}"
        await clearing.authorize(made, operator_id=operator)
        await clearing.submit(made, sender=operator)
    await clearing.clear()
    return await clearing.states()


async def test_one_instant_is_day_here_and_night_there_and_money_is_that_of_the_place(
    clearing: Clearing, holder: ContractHolder
) -> None:
    at = datetime(2026, 6, 30, 20, 30, tzinfo=UTC)
    states = await cleared(
        clearing,
        session("BERLIN", GERMANY, at, 30, 5, (100, 119)),
        session("LONDON", BRITAIN, at, 30, 5, (250, 300)),
        session("HELSINKI", FINLAND, at, 30, 5, (100, 125)),
    )
    assert set(states.values()) == {"APPROVED"}, await clearing.reasons()
    assert len(holder.kept) == 3
    balances = await ledger_balances(clearing.pool)
    owes = {key[2]: owed for key, owed in balances.items() if key[:2] == (EVSP, Account.RECEIVABLE)}
    assert owes == {"EUR": 2_440_000, "GBP": 3_000_000}
    taxes = {key[0]: -owed for key, owed in balances.items() if key[1] is Account.TAX}
    assert taxes == {"operator-de": 190_000, "operator-gb": 500_000, "operator-fi": 250_000}
    for currency in ("EUR", "GBP"):
        assert sum(value for key, value in balances.items() if key[2] == currency) == 0


async def test_a_zone_a_currency_or_a_tax_of_another_place_is_found(clearing: Clearing) -> None:
    at = datetime(2026, 6, 30, 20, 30, tzinfo=UTC)
    zone, currency, tax = (
        session(name, BRITAIN, at, 30, 5, (250, 300)) for name in ("ZONE", "CURRENCY", "TAX")
    )
    zone.location.time_zone = "Europe/Berlin"
    currency.currency_code = "EUR"
    set_cost(tax.total_cost, 2_500_000, 2_975_000)
    await cleared(clearing, zone, currency, tax)
    reasons = await clearing.reasons()
    assert reasons.keys() == {"zone", "currency", "tax"}


@pytest.mark.parametrize(
    ("start", "cost"),
    [
        # From 1:30 to 3:30 on the clock of Berlin: an hour.
        (datetime(2026, 3, 29, 0, 30, tzinfo=UTC), (200, 238)),
        # From 2:30 to 2:30.
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), (200, 238)),
        # From 5:30 to 6:30 after the night that had an hour less: half at night.
        (datetime(2026, 3, 29, 3, 30, tzinfo=UTC), (350, 417)),
    ],
)
async def test_a_night_in_which_clocks_change_is_cleared(
    clearing: Clearing, holder: ContractHolder, start: datetime, cost: tuple[int, int]
) -> None:
    made = session("NIGHT", GERMANY, start, 60, 10, cost)
    made.charging_start_time.FromDatetime(start)
    made.charging_end_time.FromDatetime(start + timedelta(minutes=60))
    assert await cleared(clearing, made) == {"night": "APPROVED"}, await clearing.reasons()
    assert len(holder.kept) == 1
    (row,) = await clearing.pool.fetch("SELECT assessment FROM clearinghouse.cdr")
    oddities = ClearedCdr.FromString(row["assessment"]).oddities
    changes = start.hour == 0
    assert list(oddities) == [CdrOddity.CDR_ODDITY_CLOCK_CHANGE] * changes


async def test_a_currency_in_which_the_two_do_not_settle_is_found(clearing: Clearing) -> None:
    at = datetime(2026, 6, 30, 20, 30, tzinfo=UTC)
    await clearing.pool.execute("TRUNCATE clearinghouse.agreement")
    before = at - timedelta(days=1)
    for operator, currency, said in (
        ("operator-gb", "EUR", True),
        ("operator-de", "EUR", True),
        # What nobody said is no more than the clearing house's default.
        ("operator-fi", "SEK", False),
    ):
        values = {"currency_code": currency, "detailed": said, "recorded_at": before}
        await agree(clearing.pool, operator, EVSP, **values)
    await cleared(
        clearing,
        session("LONDON", BRITAIN, at, 30, 5, (250, 300)),
        session("BERLIN", GERMANY, at, 30, 5, (100, 119)),
        session("HELSINKI", FINLAND, at, 30, 5, (100, 125)),
    )
    await clearing.pool.execute("TRUNCATE clearinghouse.agreement")
    reason = PlausibilityReason.PLAUSIBILITY_REASON_CURRENCY
    assert await clearing.reasons() == {"london": {reason}}
