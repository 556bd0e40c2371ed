"""Search by role, other side and value, in every order, against plain Python (use case 1242)."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.dialects.postgresql.base import PGDialect

from foundation.errors import MarketError
from foundation.validation import violations
from gem.common.v1.paging_pb2 import PageRequest
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.router.target import TransactionEntry
from marketplace.storage_transaction_filter import EntryFilter, Period
from marketplace.storage_transaction_order import ORDERS, entries_of
from tests.transaction_desk import T0_NS, Desk, opened_desk
from tests.transaction_log_support import connected, entry_of

pytestmark = pytest.mark.usecase(1242)

BUYER, SELLER = wire.TRANSACTION_ROLE_BUYER, wire.TRANSACTION_ROLE_SELLER
DEBTOR, CREDITOR = wire.TRANSACTION_ROLE_DEBTOR, wire.TRANSACTION_ROLE_CREDITOR
HIGHEST, LOWEST = (
    wire.TRANSACTION_ORDER_HIGHEST_VALUE_FIRST,
    wire.TRANSACTION_ORDER_LOWEST_VALUE_FIRST,
)
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def entries() -> list[TransactionEntry]:
    dice = random.Random(1242)
    return [
        entry_of(
            requester_id=dice.choice(NAMES),
            provider_id=dice.choice(NAMES),
            started_ns=T0_NS + dice.randrange(6) * 1000,
            value_micros=dice.choice((-5, -1, 0, 0, 1, 7, 10**12)),
            currency_code=dice.choice(("EUR", "SEK")),
        )
        for _ in range(120)
    ]


@pytest.fixture
async def desk(log_url: str, entries: list[TransactionEntry]) -> AsyncIterator[Desk]:
    async with opened_desk(log_url) as opened:
        await opened.keep(*entries)
        yield opened


def plays(entry: TransactionEntry, party: str, role: int) -> bool:
    """Say whether a partner has a part in an entry, in the plainest words."""
    requests, provides = entry.requester_id == party, entry.provider_id == party
    owes = entry.requester_id if entry.value_micros > 0 else entry.provider_id
    owed = entry.provider_id if entry.value_micros > 0 else entry.requester_id
    return {
        0: requests or provides,
        BUYER: requests,
        SELLER: provides,
        DEBTOR: entry.value_micros != 0 and owes == party,
        CREDITOR: entry.value_micros != 0 and owed == party,
    }[role]


def is_opposite(entry: TransactionEntry, party: str, other: str) -> bool:
    return (entry.requester_id, entry.provider_id) in {(party, other), (other, party)}


def key_of(order: int) -> Callable[[TransactionEntry], tuple[Any, ...]]:
    def by_time(entry: TransactionEntry) -> tuple[Any, ...]:
        return (entry.started_ns, entry.transaction_id)

    def by_value(entry: TransactionEntry) -> tuple[Any, ...]:
        return (entry.currency_code, entry.value_micros, *by_time(entry))

    return by_value if order in (HIGHEST, LOWEST) else by_time


def expected(
    entries: list[TransactionEntry], order: int, *, me: str = "", **which: Any
) -> list[str]:
    """Search without a database."""
    party, other = which.get("party_id") or me, which.get("counterparty_id", "")
    role, value = which.get("role", 0), which.get("value")
    found = [
        entry
        for entry in entries
        if (not me or me in (entry.requester_id, entry.provider_id))
        and (not party or plays(entry, party, role))
        and (not other or is_opposite(entry, party, other))
        and (value is None or is_within(entry, value))
    ]
    descending = ORDERS[order].descending  # type: ignore[index]  # an enum value
    found.sort(key=key_of(order), reverse=descending)
    return [str(entry.transaction_id) for entry in found]


def is_within(entry: TransactionEntry, value: wire.ValueRange) -> bool:
    return (
        entry.currency_code == value.currency_code
        and (not value.HasField("least_micros") or value.least_micros <= entry.value_micros)
        and (not value.HasField("most_micros") or value.most_micros >= entry.value_micros)
    )


def within(currency: str, least: int | None = None, most: int | None = None) -> wire.ValueRange:
    return wire.ValueRange(currency_code=currency, least_micros=least, most_micros=most)


@pytest.mark.parametrize(
    "which",
    [
        {"value": wire.ValueRange()},
        {"value": within("euro")},
        {"value": within("EUR", 2, 1)},
        {"role": 9},
        {"party_id": "a\0"},
        {"counterparty_id": "x" * 64},
    ],
)
def test_a_condition_that_makes_no_sense_breaks_a_rule_of_the_catalogue(which: Any) -> None:
    assert violations(wire.ListTransactionsRequest(filter=wire.TransactionFilter(**which)))


def test_an_order_that_does_not_exist_breaks_a_rule_of_the_catalogue() -> None:
    assert violations(wire.ListTransactionsRequest(order=17))  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("which", [{"role": BUYER}, {"counterparty_id": "a"}])
async def test_an_operator_has_to_name_the_party_whose_role_it_means(
    desk: Desk, which: dict[str, Any]
) -> None:
    with pytest.raises(MarketError) as refused:
        await desk.operator().listed(**which)
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert refused.value.violations[0].field == "filter.party_id"


@pytest.mark.parametrize("order", [HIGHEST, LOWEST])
@pytest.mark.parametrize("text", ["12.00", "EUR|1|x", "EUR|99999999999999999999|1.00", "E|1"])
async def test_a_token_of_another_order_is_refused(desk: Desk, order: int, text: str) -> None:
    page = PageRequest(page_token=base64.urlsafe_b64encode(text.encode()).decode())
    request = wire.ListTransactionsRequest(page=page, order=order)  # type: ignore[arg-type]  # an enum value
    with pytest.raises(MarketError) as refused:
        await desk.partner("a").ask("ListTransactions", request)
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


async def test_a_search_that_finds_nothing_is_an_empty_list(desk: Desk) -> None:
    assert await desk.partner("a").listed(value=within("CHF")) == []
    assert await desk.partner("nobody").listed(order=HIGHEST) == []


async def test_a_search_finds_what_plain_python_finds_page_by_page_in_order(
    desk: Desk, entries: list[TransactionEntry]
) -> None:
    dice = random.Random(927)
    for _ in range(120):
        which: dict[str, Any] = {}
        if dice.random() < 0.6:
            which["role"] = dice.choice((BUYER, SELLER, DEBTOR, CREDITOR))
        if dice.random() < 0.4:
            which["counterparty_id"] = dice.choice(NAMES)
        me = dice.choice(("", *NAMES))
        if dice.random() < 0.5 or (which and not me):
            which["party_id"] = dice.choice(NAMES)
        if dice.random() < 0.4:
            bounds = (("EUR",), ("SEK", 0), ("EUR", None, -1), ("SEK", -1, 7))
            which["value"] = within(*dice.choice(bounds))
        order, page_size = dice.choice(sorted(ORDERS)), dice.choice((7, 1000))
        reader = desk.partner(me) if me else desk.operator()
        found = [entry.transaction_id for entry in await reader.listed(page_size, order, **which)]
        assert found == expected(entries, order, me=me, **which), (me, which, order)


@pytest.mark.usefixtures("desk")
async def test_a_month_by_value_is_read_along_indexes_and_sorts_nothing(log_url: str) -> None:
    """What makes ten million entries no slower than ten thousand."""
    which = EntryFilter(period=Period(datetime(2026, 9, 1, tzinfo=UTC)))
    sides = which.sides(Actor("a", is_partner=True))
    query = entries_of(sides, ORDERS[HIGHEST], None, 101)
    dialect = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's
    text = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    async with connected(log_url) as connection, connection.transaction():
        # A small table is read whole; a large one is not.
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute("SET LOCAL enable_bitmapscan = off")
        # So small that sorting may seem cheaper; what no index can order is sorted all the same.
        await connection.execute("SET LOCAL enable_sort = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {text}"))
    assert "requester_id_currency_code" in plan
    assert "provider_id_currency_code" in plan
    nodes = {line.strip().removeprefix("->").split("(")[0].strip() for line in plan.splitlines()}
    assert "Sort" not in nodes, plan
