"""SettlementService as the marketplace meets it: mutual TLS, a real database, several partners."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from clearinghouse.clearing_run import Netting
from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.storage import Pool, open_pool
from foundation.embedded_postgres import EmbeddedPostgres
from gem.common.v1.time_range_pb2 import TimeRange
from gem.roaming.v1 import settlement_service_pb2 as messages
from gem.roaming.v1.settlement_pb2 import ClearingRunState, NettingKind, SettlementStatement
from gem.roaming.v1.settlement_service_pb2_grpc import SettlementServiceStub
from tests.clearinghouse_ledger import (
    APRIL,
    EUR,
    EVSP,
    HOUSE,
    MARCH,
    OPERATOR,
    booked,
    booking,
    by,
    cleared,
    emptied,
    house_database,
    refused,
    serving,
    settings_for,
)
from tests.identities import Identity, MakeIdentity

if TYPE_CHECKING:
    from gem.roaming.v1.settlement_service_pb2_grpc import SettlementServiceAsyncStub

NOT_FOUND = ("NOT_FOUND", "NOT_FOUND")
INVALID = ("INVALID_ARGUMENT", "REQUEST_INVALID")
FORMATS = (
    messages.STATEMENT_FORMAT_CSV,
    messages.STATEMENT_FORMAT_XLSX,
    messages.STATEMENT_FORMAT_PDF,
)


@pytest.fixture(scope="module")
async def settings(
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    make_identity: MakeIdentity,
) -> AsyncIterator[ProviderSettings]:
    folder: Path = tmp_path_factory.mktemp("house")
    async with house_database(postgres) as url:
        yield settings_for(folder, make_identity(HOUSE), url)


@pytest.fixture(scope="module")
async def stub(
    settings: ProviderSettings, marketplace_identity: Identity
) -> AsyncIterator[SettlementServiceAsyncStub]:
    async with serving(settings, marketplace_identity) as channel:
        yield SettlementServiceStub(channel)


@pytest.fixture
async def pool(settings: ProviderSettings) -> AsyncIterator[Pool]:
    async with open_pool(settings.database_url, 4) as made:
        await emptied(made)
        yield made


def command(**changes: Any) -> messages.RunClearingRequest:
    period = TimeRange()
    period.start_time.FromDatetime(MARCH)
    period.end_time.FromDatetime(APRIL)
    values = {
        "request_id": "R",
        "period": period,
        "netting": NettingKind.NETTING_KIND_BILATERAL,
        **changes,
    }
    return messages.RunClearingRequest(**values)


async def statements_of(
    stub: SettlementServiceAsyncStub, partner_id: str
) -> list[SettlementStatement]:
    request = messages.ListStatementsRequest()
    request.page.page_size = 1000
    answer = await stub.ListStatements(request, metadata=by(partner_id))
    return list(answer.statements)


async def exported(
    stub: SettlementServiceAsyncStub, partner_id: str, statement_id: str, form: int
) -> bytes:
    request = messages.ExportStatementRequest(statement_id=statement_id, format=form)  # type: ignore[arg-type]  # one of FORMATS
    call = stub.ExportStatement(request, metadata=by(partner_id))
    return b"".join([answer.content async for answer in call])


async def test_only_the_marketplace_is_answered(
    settings: ProviderSettings, make_identity: MakeIdentity
) -> None:
    async with serving(settings, make_identity(EVSP)) as channel:
        stub = SettlementServiceStub(channel)
        call = stub.ListStatements(messages.ListStatementsRequest(), metadata=by(EVSP))
        assert await refused(call) == ("PERMISSION_DENIED", "NOT_THE_MARKETPLACE")


@pytest.mark.parametrize("partner_id", [OPERATOR, EVSP, "other-clearing-house"])
async def test_no_partner_settles_a_period(
    stub: SettlementServiceAsyncStub, pool: Pool, partner_id: str
) -> None:
    await booked(pool, [booking()])
    call = stub.RunClearing(command(), metadata=by(partner_id))
    assert await refused(call) == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
    assert await pool.fetchval("SELECT count(*) FROM clearinghouse.clearing_run") == 0


def _open_period(end: str) -> TimeRange:
    period = command().period
    period.ClearField(end)  # type: ignore[arg-type]  # one of its fields
    return period


@pytest.mark.parametrize(
    "request_message",
    [
        command(request_id=""),
        command(netting=0),
        command(period=_open_period("start_time")),
        command(period=_open_period("end_time")),
        command(period=None),
    ],
)
async def test_a_command_that_breaks_the_rules_is_refused(
    stub: SettlementServiceAsyncStub, request_message: messages.RunClearingRequest
) -> None:
    assert await refused(stub.RunClearing(request_message, metadata=by(HOUSE))) == INVALID


async def test_periods_of_no_length_or_beyond_time_are_refused(
    stub: SettlementServiceAsyncStub,
) -> None:
    request = command()
    request.period.start_time.seconds = request.period.end_time.seconds
    request.period.end_time.nanos = 1
    assert await refused(stub.RunClearing(request, metadata=by(HOUSE))) == INVALID
    request.period.end_time.seconds = 2**40
    assert await refused(stub.RunClearing(request, metadata=by(HOUSE))) == INVALID


@pytest.mark.parametrize("token", ["AAAA", "Zm9v", "LTE=", "MQ"])
async def test_a_token_of_no_list_is_refused(stub: SettlementServiceAsyncStub, token: str) -> None:
    request = messages.ListStatementsRequest()
    request.page.page_token = token
    assert await refused(stub.ListStatements(request, metadata=by(EVSP))) == INVALID
    runs = messages.ListClearingRunsRequest()
    runs.page.page_token = token
    assert await refused(stub.ListClearingRuns(runs, metadata=by(EVSP))) == INVALID


Ask = Callable[[Any, str, str, str], Any]
ASKS: dict[str, Ask] = {
    "run": lambda stub, run_id, _, partner_id: stub.GetClearingRun(
        messages.GetClearingRunRequest(run_id=run_id), metadata=by(partner_id)
    ),
    "netting": lambda stub, run_id, _, partner_id: stub.GetNetting(
        messages.GetNettingRequest(run_id=run_id), metadata=by(partner_id)
    ),
    "lines": lambda stub, _, statement_id, partner_id: stub.ListStatementLines(
        messages.ListStatementLinesRequest(statement_id=statement_id), metadata=by(partner_id)
    ),
    "export": lambda stub, _, statement_id, partner_id: stub.ExportStatement(
        messages.ExportStatementRequest(
            statement_id=statement_id, format=messages.STATEMENT_FORMAT_CSV
        ),
        metadata=by(partner_id),
    ),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
async def test_what_is_anothers_is_not_found_like_what_does_not_exist(
    stub: SettlementServiceAsyncStub, pool: Pool, ask: Ask
) -> None:
    await booked(pool, [booking()])
    run = await cleared(pool)
    (statement,) = await statements_of(stub, EVSP)
    for partner_id in ("stranger", "", EVSP.upper(), EVSP + " "):
        if partner_id:
            call = ask(stub, run.run_id, statement.statement_id, partner_id)
            assert await refused(call) == NOT_FOUND
    for strange in ("nothing", "\N{SNOWMAN}" * 64):
        assert await refused(ask(stub, strange, strange, EVSP)) == NOT_FOUND
    assert await statements_of(stub, "stranger") == []


async def test_a_nul_is_refused_and_not_a_defect(
    stub: SettlementServiceAsyncStub,
) -> None:
    call = stub.GetNetting(messages.GetNettingRequest(run_id="\0"), metadata=by(EVSP))
    assert await refused(call) == INVALID


async def test_the_house_settles_a_period_once_however_often_it_asks(
    stub: SettlementServiceAsyncStub, pool: Pool
) -> None:
    await booked(pool, [booking(1), booking(2)])
    first = (await stub.RunClearing(command(), metadata=by(HOUSE))).run
    await booked(pool, [booking(3)])
    assert (await stub.RunClearing(command(), metadata=by(HOUSE))).run == first
    assert first.state == ClearingRunState.CLEARING_RUN_STATE_CLOSED
    assert first.cdr_count == 2
    assert first.period == command().period
    other = command(netting=NettingKind.NETTING_KIND_MULTILATERAL)
    reused = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert await refused(stub.RunClearing(other, metadata=by(HOUSE))) == reused
    asked = messages.GetClearingRunRequest(run_id=first.run_id)
    assert (await stub.GetClearingRun(asked, metadata=by(OPERATOR))).run == first


async def test_runs_are_listed_the_latest_first_page_by_page(
    stub: SettlementServiceAsyncStub, pool: Pool
) -> None:
    made = []
    for number in range(5):
        await booked(pool, [booking(number)])
        made.append((await cleared(pool)).run_id)
    found: list[str] = []
    request = messages.ListClearingRunsRequest()
    request.page.page_size = 2
    for _ in range(3):
        answer = await stub.ListClearingRuns(request, metadata=by(EVSP))
        found += [run.run_id for run in answer.runs]
        request.page.page_token = answer.page.next_page_token
    assert not answer.page.next_page_token
    assert found == made[::-1]


async def test_lines_come_by_operator_and_id_each_once(
    stub: SettlementServiceAsyncStub, pool: Pool
) -> None:
    ids = ["a b", "\N{SNOWMAN}", "x\ny", *(f"CDR{number}" for number in range(20))]
    await booked(
        pool,
        [
            booking(number, cdr_id=cdr_id, record_operator_id=("DE*ABC", "DE*ABD")[number % 2])
            for number, cdr_id in enumerate(ids)
        ],
    )
    await cleared(pool)
    (statement,) = await statements_of(stub, EVSP)
    request = messages.ListStatementLinesRequest(statement_id=statement.statement_id)
    request.page.page_size = 4
    found = []
    while True:
        answer = await stub.ListStatementLines(request, metadata=by(OPERATOR))
        found += [(line.operator_id, line.cdr_id) for line in answer.lines]
        request.page.page_token = answer.page.next_page_token
        if not request.page.page_token:
            break
    assert found == sorted(found)
    assert sorted(cdr_id for _, cdr_id in found) == sorted(ids)


async def test_a_statement_says_who_owes_whom_what(
    stub: SettlementServiceAsyncStub, pool: Pool
) -> None:
    first = booking(1)
    await booked(pool, [first, booking(2), first.credit(3, "CREDIT", MARCH)])
    run = await cleared(pool)
    (statement,) = await statements_of(stub, OPERATOR)
    assert [statement] == await statements_of(stub, EVSP)
    assert (statement.debtor_partner_id, statement.creditor_partner_id) == (EVSP, OPERATOR)
    assert statement.without_tax.amount_micros == 5_000_000
    assert statement.with_tax.amount_micros == 6_000_000
    assert statement.with_tax.currency_code == EUR
    assert (statement.line_count, statement.run_id) == (3, run.run_id)
    request = messages.ListStatementLinesRequest(statement_id=statement.statement_id)
    lines = (await stub.ListStatementLines(request, metadata=by(EVSP))).lines
    (credit,) = [line for line in lines if line.credited_cdr_id]
    assert (credit.cdr_id, credit.credited_cdr_id) == ("CREDIT", "CDR1")
    assert (credit.without_tax_micros, credit.with_tax_micros) == (-5_000_000, -6_000_000)


@pytest.mark.parametrize("seed", range(3))
async def test_no_partner_sees_anothers_statements_or_amounts(
    stub: SettlementServiceAsyncStub, pool: Pool, seed: int
) -> None:
    """Everything that each partner can read, against what the bookings say is his."""
    random = Random(seed)
    partners = [f"partner-{letter}" for letter in "abcdef"]
    bookings = []
    for number in range(120):
        operator_id, evsp_id = random.sample(partners, 2)
        amount = random.randrange(1, 10**9)
        bookings.append(
            booking(
                number,
                operator_id=operator_id,
                evsp_id=evsp_id,
                currency_code=random.choice(["EUR", "JPY"]),
                amount_without_tax_micros=amount,
                amount_with_tax_micros=amount + random.randrange(10**6),
            )
        )
    await booked(pool, bookings)
    run = await cleared(pool, netting=random.choice(list(Netting)))
    net: defaultdict[str, int] = defaultdict(int)
    for partner in partners:
        own = [each for each in bookings if partner in {each.operator_id, each.evsp_id}]
        seen: list[str] = []
        for statement in await statements_of(stub, partner):
            assert partner in {statement.debtor_partner_id, statement.creditor_partner_id}
            text = await exported(stub, partner, statement.statement_id, FORMATS[0])
            rows = list(csv.DictReader(io.StringIO(text.decode())))
            seen += [row["cdr_id"] for row in rows]
            assert len(rows) == statement.line_count
        assert sorted(seen) == sorted(each.cdr_id for each in own), f"seed {seed}"
        asked = messages.GetClearingRunRequest(run_id=run.run_id)
        shown = (await stub.GetClearingRun(asked, metadata=by(partner))).run
        assert shown.cdr_count == len(own), "how much others do is not his to know"
        answer = await stub.GetNetting(
            messages.GetNettingRequest(run_id=run.run_id), metadata=by(partner)
        )
        assert {position.partner_id for position in answer.positions} <= {partner}
        for position in answer.positions:
            net[position.net.currency_code] += position.net.amount_micros
    assert set(net.values()) <= {0}, f"seed {seed}"
    everything = await stub.GetNetting(
        messages.GetNettingRequest(run_id=run.run_id), metadata=by(HOUSE)
    )
    assert {position.partner_id for position in everything.positions} == set(partners)


async def test_a_database_that_is_away_is_unavailable(
    tmp_path: Path, make_identity: MakeIdentity, marketplace_identity: Identity
) -> None:
    url = "postgresql+asyncpg://nobody@/nothing?host=/nonexistent"
    away = settings_for(tmp_path, make_identity(HOUSE), url)
    async with serving(away, marketplace_identity) as channel:
        stub: Any = SettlementServiceStub(channel)
        calls: list[Awaitable[object]] = [
            stub.ListStatements(messages.ListStatementsRequest(), metadata=by(EVSP)),
            ASKS["export"](stub, "", "S", EVSP),
        ]
        for call in calls:
            assert await refused(call) == ("UNAVAILABLE", "STORAGE_UNAVAILABLE")


async def test_a_session_before_the_period_is_in_it_when_no_run_took_it(
    stub: SettlementServiceAsyncStub, pool: Pool
) -> None:
    long_ago = MARCH - timedelta(days=90)
    await booked(pool, [booking(started_at=long_ago, ended_at=long_ago)])
    assert (await stub.RunClearing(command(), metadata=by(HOUSE))).run.cdr_count == 1
