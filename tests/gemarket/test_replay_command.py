"""`gemarket replay`: recorded sessions over mTLS, until every party's balance is known."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from foundation.certificates import CertificateAuthority
from gem.roaming.v1.session_notice_pb2 import SessionNoticeKind
from gemarket.commands.application import application
from tests.clearing_stand_in import clearing_house
from tests.clearinghouse.test_replay_readers import HEAD, acn_item, row
from tests.external_data import FOLDER, needs
from tests.identities import MakeIdentity
from tests.replay_stand_in import ReplayStandIn

pytestmark = [pytest.mark.usecase(1502), pytest.mark.usecase(1511), pytest.mark.usecase(1512)]


@pytest.fixture
def market(authority: CertificateAuthority) -> ReplayStandIn:
    return ReplayStandIn(authority=authority)


@pytest.fixture
async def folder(
    market: ReplayStandIn, make_identity: MakeIdentity, tmp_path: Path
) -> AsyncIterator[Path]:
    async with clearing_house(market, make_identity, tmp_path, "business") as made:
        yield made


async def run(folder: Path, file: Path | str, *arguments: str) -> Result:
    """Run the command beside the event loop of the tests."""

    def work() -> Result:
        given = ("replay", str(file), *arguments, "--data-dir", str(folder))
        return CliRunner().invoke(application, given, env={"COLUMNS": "300", "TERM": "dumb"})

    return await asyncio.to_thread(work)


def cells(result: Result, start: str) -> list[str]:
    """Give the cells of the row that starts so."""
    (line,) = [line for line in result.stdout.splitlines() if line.strip("│ ").startswith(start)]
    return [cell.strip() for cell in line.strip("│ ").split("│")]


def city(folder: Path, count: int = 20) -> Path:
    """Write sessions of a city, some of them dirty."""
    rows = [row(event=str(number), user=str(number % 7)) for number in range(count)]
    rows += [
        row(event="negative", kwh="-1"),
        row(event="endless", end="", end_date=""),
        row(event="empty", kwh="0"),
        row(event="short", end="10:55"),
        row(event="nowhere", cp=""),
        row(event="guest", user=""),
    ]
    path = folder / "city.csv"
    path.write_text(HEAD + "".join(rows))
    return path


async def test_a_file_of_another_kind_is_refused_before_anybody_is_called(
    folder: Path, market: ReplayStandIn
) -> None:
    for form in ("acn", "dundee"):
        file = folder / "other.txt"
        file.write_text("something else")
        result = await run(folder, file, "--format", form)
        assert result.exit_code == 2
        assert "the file has no" in result.output
    assert market.calls == []


async def test_without_a_clearing_house_nothing_is_replayed(
    folder: Path, market: ReplayStandIn
) -> None:
    market.has_services = False
    result = await run(folder, city(folder), "--format", "dundee")
    assert result.exit_code == 2
    assert "nobody offers gem.roaming.v1.ClearingService" in result.output


async def test_where_no_market_runs_the_reason_is_told(tmp_path: Path) -> None:
    result = await run(tmp_path, city(tmp_path), "--format", "dundee")
    assert result.exit_code == 2
    assert "try `gemarket up`" in result.output


async def test_a_refused_contract_ends_the_replay(folder: Path, market: ReplayStandIn) -> None:
    market.refused = {"any"}
    result = await run(folder, city(folder), "--format", "dundee")
    assert result.exit_code == 2
    assert "a contract was refused" in result.output
    assert market.stored == {}


@pytest.mark.fault
async def test_a_stream_that_ends_early_is_an_error_and_no_loss(
    folder: Path, market: ReplayStandIn
) -> None:
    market.ends_early = True
    result = await run(folder, city(folder, 60), "--format", "dundee")
    # Whichever comes first: that the stream ended, or that it cannot be written to.
    assert result.exit_code in {1, 2}
    assert (
        "ended a stream before it had every record" in result.output or "INTERNAL" in result.output
    )
    market.ends_early = False
    again = await run(folder, city(folder, 60), "--format", "dundee")
    assert again.exit_code == 0, again.output
    assert len(market.stored) == 65


@pytest.mark.fault
async def test_a_call_that_fails_for_a_while_is_repeated(
    folder: Path, market: ReplayStandIn
) -> None:
    market.failures["NotifySession"] = 3
    result = await run(folder, city(folder, 3), "--format", "dundee")
    assert result.exit_code == 0, result.output
    ids = [each.request_id for each in market.requests("NotifySession")]
    assert len(ids) == len(set(ids)) + 3


async def test_money_that_does_not_agree_with_our_own_sums_is_told(
    folder: Path, market: ReplayStandIn
) -> None:
    market.too_much_micros = 10_000
    result = await run(folder, city(folder, 3), "--format", "dundee")
    assert result.exit_code == 1
    assert "the balances do not add up to zero" in result.stdout
    assert "micros more than our own sum" in result.stdout


async def test_sessions_of_a_city_are_cleared_and_every_one_is_explained(folder: Path) -> None:
    result = await run(folder, city(folder), "--format", "dundee")
    assert result.exit_code == 0, result.output
    assert cells(result, "clean")[:2] == ["clean", "21"]
    assert cells(result, "negative energy")[:2] == ["negative energy", "1"]
    assert cells(result, "user missing")[:2] == ["user missing", "1"]
    whole = cells(result, "every session once")
    assert whole[1:] == ["26", "23", "1", "1", "1"], "approved, returned twice, and no session"
    (heads,) = [line for line in result.stdout.splitlines() if line.startswith("┃ class")]
    for outcome in ("returned: negative", "returned: field missing", "not told: no session"):
        assert outcome in heads
    total = cells(result, "all")
    assert total[-1] == "0.00 GBP"
    assert float(total[3]) > 400
    operator = cells(result, "dundee-operator-1")
    assert operator[-1] == operator[-2] == total[-2]
    assert "balances add up to zero, and agree with our own sums" in result.stdout


async def test_calls_of_each_session_come_in_their_order_and_are_bounded(
    folder: Path, market: ReplayStandIn
) -> None:
    await run(folder, city(folder), "--format", "dundee", "--provider", "house")
    assert {each.get("gem-provider") for each in market.metadata[-20:]} == {"house"}
    steps: dict[str, list[str]] = {}
    for name, request in market.calls:
        if name == "Authorize":
            steps.setdefault(request.operator_session_id, []).append("authorize")
        elif name == "NotifySession":
            kind = SessionNoticeKind.Name(request.notice.kind).rpartition("_")[2].lower()
            steps[request.notice.operator_session_id].append(kind)
        elif name == "SubmitChargeDetailRecords":
            for record in request.records:
                steps[record.operator_session_id].append("record")
    shapes = Counter(tuple(each) for each in steps.values())
    assert shapes == {
        ("authorize", "start", "end", "record"): 24,
        ("authorize", "start", "record"): 1,
    }
    assert market.most_in_flight <= 32


async def test_a_customer_who_may_not_charge_has_no_record(
    folder: Path, market: ReplayStandIn
) -> None:
    await run(folder, city(folder, 1), "--format", "dundee", "--limit", "1")
    (who,) = [each.identification for each in market.requests("Authorize")]
    market.strangers = {who.contract_id}
    market.stored.clear()
    result = await run(folder, city(folder, 1), "--format", "dundee", "--limit", "1")
    assert market.stored == {}
    assert "not authorized: unknown" in result.stdout
    assert cells(result, "every session once")[1:] == ["1", "1"]


async def test_a_replay_that_is_repeated_bills_nobody_twice(
    folder: Path, market: ReplayStandIn
) -> None:
    first = await run(folder, city(folder), "--format", "dundee")
    again = await run(folder, city(folder), "--format", "dundee")
    assert again.stdout == first.stdout
    ids = Counter(each.request_id for each in market.requests("Authorize"))
    assert set(ids.values()) == {2}


async def test_sessions_of_a_workplace_are_replayed_up_to_a_limit(
    folder: Path, market: ReplayStandIn
) -> None:
    items: list[Any] = [acn_item(_id=f"a{number}") for number in range(9)]
    items[2] = acn_item(_id="a2", doneChargingTime="Wed, 27 Mar 2019 01:32:13 GMT")
    file = folder / "work.json"
    file.write_text(json.dumps({"_items": items}))
    result = await run(folder, file, "--format", "acn", "--limit", "5", "--ask")
    assert result.exit_code == 0, result.output
    assert cells(result, "charging after unplugging")[:2] == ["charging after unplugging", "1"]
    assert cells(result, "every session once")[1:] == ["5", "5"]
    assert {each.decided_by for each in market.requests("Authorize")} == {0}


@pytest.mark.external_data
@needs("charging-sessions")
@pytest.mark.parametrize(
    ("name", "form"),
    [("acn-office-1.json", "acn"), ("dundee-2018-06-to-09.csv", "dundee")],
)
async def test_real_sessions_are_cleared_with_balances_of_zero(
    folder: Path, name: str, form: str
) -> None:
    file = FOLDER / "charging-sessions" / name
    result = await run(folder, file, "--format", form, "--limit", "40")
    assert result.exit_code == 0, result.output
    assert cells(result, "every session once")[1] == "40"
    assert cells(result, "all")[-1] in {"0.00 USD", "0.00 GBP"}
