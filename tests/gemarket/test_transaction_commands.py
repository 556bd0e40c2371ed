"""`gemarket transactions`: exports that break, pages, statements in words, and options."""

from __future__ import annotations

from pathlib import Path

import pytest

from gem.common.v1.money_pb2 import Money
from gem.marketplace.v1 import statement_pb2, transaction_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from tests.gemarket.fake_market import FakeMarket, page

_OK, _LATE = AnswerStatus.ANSWER_STATUS_OK, AnswerStatus.ANSWER_STATUS_TIMED_OUT


def euros(micros: int) -> Money:
    """Give an amount."""
    return Money(amount_micros=micros, currency_code="EUR")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ("--role", "owner"),
            "there is no role 'owner'; there are: buyer, seller, debtor, creditor",
        ),
        (("--status", "ok,lost"), "there is no status 'lost'; there are: ok"),
        (("--order", "newest"), "there is no order 'newest'; there are: latest, earliest"),
        (("--value", "1-2 EUR"), "a range of values is written in millionths"),
        (("--since", "yesterday"), "'yesterday' is no time of ISO 8601"),
        (("--until", "9999-12-31T23:59-01:00"), "'9999-12-31T23:59-01:00' is no time"),
        (("--since", "0001-01-01T00:00+01:00"), "'0001-01-01T00:00+01:00' is no time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("command", [("list",), ("export", "e.csv")], ids=["list", "export"])
def test_an_option_that_makes_no_sense_is_named_before_anything_is_asked(
    market: FakeMarket, command: tuple[str, ...], options: tuple[str, ...], reason: str
) -> None:
    result = market.run("transactions", *command, *options)
    assert result.exit_code == 2
    assert f"gemarket transactions: {reason}" in result.stderr
    assert market.calls == []
    assert list(Path().iterdir()) == []


def test_options_become_the_filter_with_times_in_utc(market: FakeMarket) -> None:
    market.on("ListTransactions", wire.ListTransactionsResponse())
    said = market.good(
        *("transactions", "list", "--role", "seller", "--status", "ok,timed-out", "--order"),
        *("highest-value", "--value", "-5..10 EUR", "--since", "2026-02-01T00:00+05:30"),
        *("--until", "2026-02-01", "--partner", "ampere", "--as", "ampere"),
    )
    assert said == "No transactions match.\n"
    (asked,) = market.asked("ListTransactions", wire.ListTransactionsRequest)
    which = asked.filter
    assert which.period.start_time.ToJsonString() == "2026-01-31T18:30:00Z"
    assert which.period.end_time.ToJsonString() == "2026-02-01T00:00:00Z"
    assert (which.role, which.counterparty_id) == (wire.TRANSACTION_ROLE_SELLER, "ampere")
    assert list(which.statuses) == [_OK, _LATE]
    assert (which.value.least_micros, which.value.most_micros) == (-5, 10)
    assert asked.order == wire.TRANSACTION_ORDER_HIGHEST_VALUE_FIRST


def test_many_pages_are_read_to_the_limit_and_no_further(market: FakeMarket) -> None:
    entries = [transaction_pb2.ServiceTransaction(transaction_id=f"t{n}") for n in range(4)]
    answer = wire.ListTransactionsResponse
    market.on(
        "ListTransactions",
        answer(transactions=entries[:2], page=page("b")),
        answer(transactions=entries[2:3], page=page("c")),
        answer(transactions=entries[3:], page=page("d")),
    )
    shown = market.json("transactions", "list", "--json", "--limit", "4")
    assert [each["transaction_id"] for each in shown] == ["t0", "t1", "t2", "t3"]
    asked = market.asked("ListTransactions", wire.ListTransactionsRequest)
    assert [(each.page.page_token, each.page.page_size) for each in asked] == [
        ("", 4),
        ("b", 2),
        ("c", 1),
    ]


def test_a_table_shows_times_in_milliseconds_and_money_unrounded(market: FakeMarket) -> None:
    entry = transaction_pb2.ServiceTransaction(
        transaction_id="t1",
        requester_id="volt",
        provider_id="ampere",
        method="/a.B/Call",
        status=_LATE,
        duration_us=1_234_567,
        value=euros(-1_000_001),
    )
    market.on("ListTransactions", wire.ListTransactionsResponse(transactions=[entry]))
    (line,) = [row for row in market.good("transactions", "list").splitlines() if "t1" in row]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[1:5] == ["volt", "ampere", "Call", "timed out"]
    assert cells[6:8] == ["1234.6", "-1.000001 EUR"]


def test_a_statement_adds_up_in_words(market: FakeMarket) -> None:
    made = statement_pb2.MonthlyStatement(
        requester_id="volt",
        provider_id="ampere",
        contract_id="c-1",
        transaction_count=12,
        failed_count=2,
        values=[euros(5)],
        totals=[euros(9_000_000)],
    )
    made.lines.add(status=_OK, transaction_count=10, value=euros(5))
    made.charges.add(kind=statement_pb2.CHARGE_KIND_TIER, from_count=100, call_count=3)
    made.charges.add(kind=statement_pb2.CHARGE_KIND_MONTHLY_FEE, days=28, value=euros(9_000_000))
    made.service_level.ok_share_ppm = 833_333
    market.on("GetMonthlyStatement", wire.GetMonthlyStatementResponse(statement=made))
    # The title is wrapped to the width of its table.
    said = " ".join(market.good("transactions", "statement", "c-1", "2026-02").split())
    for text in (
        "2026-02: volt called ampere, contract c-1",
        "tier from 100",
        "monthly fee, 28 days",
        "9.000000 EUR",
        "12 calls, 2 of them failed",
        "answered well: 83.3333 %",
        "The month has not ended",
    ):
        assert text in said
    for month in ("2026-2", "February", "2026-02-01"):
        refused = market.run("transactions", "statement", "c-1", month)
        assert refused.exit_code == 2
        assert "a month is written YYYY-MM" in refused.stderr
