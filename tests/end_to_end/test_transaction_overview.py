"""Use cases 1242 and 1471, and process 1495, over mutual TLS and from the command line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from typer.testing import CliRunner, Result

from gem.marketplace.v1 import transaction_service_pb2 as log
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket.commands.application import application
from marketplace.storage_transaction_export import COLUMNS
from tests.end_to_end.charging import found, reason_of, search, stub
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers, refuses
from tests.end_to_end.whole_market import PRICE_MICROS, Party, WholeMarket

BUYER, SELLER = log.TRANSACTION_ROLE_BUYER, log.TRANSACTION_ROLE_SELLER
DEBTOR, CREDITOR = log.TRANSACTION_ROLE_DEBTOR, log.TRANSACTION_ROLE_CREDITOR
CALLS = 3


@dataclass(frozen=True)
class Trade:
    """A requester that called a good and a bad provider, each as often."""

    requester: Party
    seller: Party
    good_id: str
    bad_id: str
    #: By provider id.
    contracts: dict[str, str]


@pytest.fixture(scope="module")
async def trade(whole: WholeMarket) -> Trade:
    requester = await whole.requester()
    good, bad = ScriptedProvider(answers(found())), ScriptedProvider(refuses(StatusCode.INTERNAL))
    contracts = await whole.contracted(requester, good, bad)
    for _ in range(CALLS):
        await stub(requester).SearchEvses(search(), timeout=10)
    seller = await whole.with_certificate(good.partner_id)
    return Trade(requester, seller, good.partner_id, bad.partner_id, contracts)


def now() -> datetime:
    return datetime.now(tz=UTC)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def listed(party: Party, **which: object) -> list[str]:
    """Give the providers of the entries that a search finds."""
    request = log.ListTransactionsRequest(filter=log.TransactionFilter(**which))  # type: ignore[arg-type]  # any condition
    answer = await party.log.ListTransactions(request, timeout=10)
    return sorted(entry.provider_id for entry in answer.transactions)


@pytest.mark.usecase(1242)
async def test_a_search_that_finds_nothing_is_empty_and_one_without_sense_is_refused(
    whole: WholeMarket, trade: Trade
) -> None:
    assert await listed(trade.requester, role=SELLER) == []
    assert await listed(trade.seller, counterparty_id=trade.bad_id) == []
    with pytest.raises(aio.AioRpcError) as refused:
        await listed(whole.business, role=BUYER)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "REQUEST_INVALID"


@pytest.mark.usecase(1242)
async def test_both_sides_and_the_operator_find_the_calls_by_their_part_in_them(
    whole: WholeMarket, trade: Trade
) -> None:
    all_of_them = sorted([trade.good_id, trade.bad_id] * CALLS)
    assert await listed(trade.requester, role=BUYER) == all_of_them
    assert await listed(trade.requester, role=DEBTOR) == [trade.good_id] * CALLS
    assert await listed(trade.requester, role=CREDITOR) == []
    assert await listed(trade.seller, role=CREDITOR) == [trade.good_id] * CALLS
    assert await listed(trade.seller) == [trade.good_id] * CALLS
    party_id = trade.requester.partner_id
    assert await listed(whole.business, party_id=party_id, role=BUYER) == all_of_them
    ok = log.TransactionFilter(statuses=[mesh.ANSWER_STATUS_OK])
    highest = log.TRANSACTION_ORDER_HIGHEST_VALUE_FIRST
    for which, order in ((ok, 0), (log.TransactionFilter(), highest)):
        request = log.ListTransactionsRequest(filter=which, order=order)  # type: ignore[arg-type]  # an enum value
        first = (await trade.requester.log.ListTransactions(request, timeout=10)).transactions[0]
        assert (first.provider_id, first.value.amount_micros) == (trade.good_id, PRICE_MICROS)


@pytest.mark.usecase(1471)
async def test_the_details_are_for_both_sides_and_for_nobody_else(
    whole: WholeMarket, trade: Trade
) -> None:
    (entry, *_) = [e for e in await entries_of(trade.requester) if e.provider_id == trade.good_id]
    request = log.GetTransactionRequest(transaction_id=entry.transaction_id)
    for party in (trade.requester, trade.seller, whole.business, whole.technical):
        assert (await party.log.GetTransaction(request, timeout=10)).transaction == entry
    stranger = await whole.requester()
    with pytest.raises(aio.AioRpcError) as refused:
        await stranger.log.GetTransaction(request, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND


@pytest.mark.usecase(1242)
async def test_an_export_streams_what_the_list_holds(trade: Trade) -> None:
    request = log.ExportTransactionsRequest(format=log.EXPORT_FORMAT_CSV, counted=True)
    pieces = [piece async for piece in trade.requester.log.ExportTransactions(request, timeout=20)]
    assert pieces[0].total_count == pieces[-1].written_count == 2 * CALLS
    content = b"".join(piece.content for piece in pieces).decode()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    known = {entry.transaction_id for entry in await entries_of(trade.requester)}
    assert {row["transaction_id"] for row in rows} == known
    assert sum(int(row["value_micros"]) for row in rows) == CALLS * PRICE_MICROS


@pytest.mark.usecase(1471)
async def test_a_statement_says_what_is_owed_and_how_well_it_was_served(
    whole: WholeMarket, trade: Trade
) -> None:
    month = f"{now():%Y-%m}"
    good, bad = (
        log.GetMonthlyStatementRequest(contract_id=trade.contracts[name], month=month)
        for name in (trade.good_id, trade.bad_id)
    )
    for party in (trade.requester, trade.seller, whole.business):
        made = (await party.log.GetMonthlyStatement(good, timeout=10)).statement
        (value,) = made.values
        assert (value.amount_micros, value.currency_code) == (CALLS * PRICE_MICROS, "EUR")
        assert (made.transaction_count, made.failed_count) == (CALLS, 0)
        assert made.service_level.ok_share_ppm == 10**6
        assert 0 < made.service_level.median_us <= made.service_level.percentile_99_us
        assert not made.month_ended
    made = (await trade.requester.log.GetMonthlyStatement(bad, timeout=10)).statement
    assert (made.transaction_count, made.failed_count) == (CALLS, CALLS)
    assert made.service_level.ok_share_ppm == 0
    assert [line.status for line in made.lines] == [mesh.ANSWER_STATUS_REFUSED]
    with pytest.raises(aio.AioRpcError) as refused:
        await trade.seller.log.GetMonthlyStatement(bad, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND


async def run(whole: WholeMarket, trade: Trade, *arguments: str) -> Result:
    """Run `gemarket transactions` as the requester."""
    described = whole.market.endpoints({trade.requester.partner_id: trade.requester.identity})
    described.write(whole.market.layout.endpoints)
    given = ("transactions", *arguments, "--data-dir", str(whole.market.layout.root))

    def work() -> Result:
        environment = {"COLUMNS": "300", "TERM": "dumb"}
        return CliRunner().invoke(application, given, env=environment)

    return await asyncio.to_thread(work)


@pytest.mark.usecase(1242)
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("list", "--role", "boss"), "there is no role 'boss'; there are: buyer, seller"),
        (("list", "--status", "fine"), "there is no status 'fine'; there are: ok, refused"),
        (("list", "--order", "random"), "there is no order"),
        (("list", "--value", "5 EUR"), "a range of values is written in millionths"),
        (("list", "--since", "yesterday"), "is no time of ISO 8601"),
        (("list", "--as", "nobody"), "is not known here"),
        (("export", "some.doc"), "there is no ending of a file '.doc'"),
        (("statement", "any", "February"), "a month is written YYYY-MM"),
    ],
)
async def test_an_option_that_makes_no_sense_is_refused_with_the_reason(
    whole: WholeMarket, trade: Trade, arguments: tuple[str, ...], reason: str
) -> None:
    result = await run(whole, trade, *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usecase(1242)
async def test_the_command_line_lists_and_shows(whole: WholeMarket, trade: Trade) -> None:
    nothing = await run(whole, trade, "list", "--role", "seller")
    assert (nothing.exit_code, nothing.stdout) == (0, "No transactions match.\n")
    condition = ("--role", "debtor", "--value", "1.. EUR", "--since", "2026-01-01")
    as_table = await run(whole, trade, "list", *condition, "--order", "highest-value")
    assert as_table.exit_code == 0, as_table.output
    assert as_table.stdout.count("0.025000 EUR") == CALLS
    as_json = await run(whole, trade, "list", "--status", "ok", "--limit", "1", "--json")
    entry = json.loads(as_json.stdout)
    assert entry["provider_id"] == trade.good_id
    details = await run(whole, trade, "show", entry["transaction_id"])
    assert json.loads(details.stdout) == entry
    absent = await run(whole, trade, "show", "018f0000-0000-7000-8000-000000000000")
    assert absent.exit_code == 1
    assert "NOT_FOUND" in absent.stderr


@pytest.mark.usecase(1242)
async def test_the_command_line_exports_in_every_form(
    whole: WholeMarket, trade: Trade, tmp_path: Path
) -> None:
    for ending in ("csv", "jsonl", "xlsx"):
        file = tmp_path / f"calls.{ending}"
        result = await run(whole, trade, "export", str(file))
        assert result.exit_code == 0, result.output
        assert f"{2 * CALLS} transactions in {file}" in result.stdout
        assert f"{2 * CALLS}/{2 * CALLS}" in result.stderr, "the progress bar's end"
    assert (tmp_path / "calls.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    lines = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert [json.loads(line)["requester_id"] for line in lines] == [trade.requester.partner_id] * (
        2 * CALLS
    )
    assert zipfile.is_zipfile(tmp_path / "calls.xlsx")
    assert len(names(tmp_path)) == 3, "nothing half written stays"


@pytest.mark.usecase(1242)
async def test_an_export_that_is_refused_leaves_the_older_file_alone(
    whole: WholeMarket, trade: Trade, tmp_path: Path
) -> None:
    file = tmp_path / "calls.csv"
    file.write_text("of yesterday")
    result = await run(whole, trade, "export", str(file), "--as", "business", "--role", "buyer")
    assert result.exit_code == 1
    assert "REQUEST_INVALID" in result.stderr
    assert file.read_text() == "of yesterday"
    assert names(tmp_path) == ["calls.csv"]


@pytest.mark.usecase(1471)
async def test_the_command_line_shows_a_statement(whole: WholeMarket, trade: Trade) -> None:
    month, contract_id = f"{now():%Y-%m}", trade.contracts[trade.good_id]
    shown = await run(whole, trade, "statement", contract_id, month)
    assert shown.exit_code == 0, shown.output
    for text in ("0.075000 EUR", f"{CALLS} calls, 0 of them failed", "100.0000 %", "median "):
        assert text in shown.stdout
    as_json = json.loads(
        (await run(whole, trade, "statement", contract_id, month, "--json")).stdout
    )
    assert as_json["values"] == [
        {"amount_micros": str(CALLS * PRICE_MICROS), "currency_code": "EUR"}
    ]
    absent = await run(whole, trade, "statement", "nothing", month)
    assert absent.exit_code == 1
    assert "NOT_FOUND" in absent.stderr
