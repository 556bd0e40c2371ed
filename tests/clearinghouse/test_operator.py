"""The clearing house's own commands: what they refuse, and what they print."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clearinghouse import operator
from clearinghouse.operator import instant, parser, show
from clearinghouse.provider_settings import read_settings
from clearinghouse.storage import Pool, open_pool
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.errors import MarketError, SettingsError
from tests.clearinghouse_ledger import (
    EVSP,
    HOUSE,
    OPERATOR,
    booked,
    booking,
    emptied,
    house_database,
    settings_for,
)
from tests.identities import MakeIdentity

PERIOD = ("--from", "2026-03-01", "--to", "2026-04-01")


@pytest.fixture(scope="module")
async def config(
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    make_identity: MakeIdentity,
) -> AsyncIterator[Path]:
    folder: Path = tmp_path_factory.mktemp("house")
    async with house_database(postgres) as url:
        settings_for(folder, make_identity(HOUSE), url)
        yield folder / "clearinghouse.json"


@pytest.fixture
async def pool(config: Path) -> AsyncIterator[Pool]:
    async with open_pool(read_settings(config).database_url, 2) as made:
        await emptied(made)
        yield made


def arguments(config: Path, *given: str) -> Namespace:
    return parser().parse_args([*given, "--config", str(config)])


async def report(config: Path, *given: str) -> Any:
    return await operator.run(arguments(config, *given))


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-03-29T02:30", "2026-03-29 02:30:00"]
)
def test_a_time_without_an_offset_is_no_instant(text: str) -> None:
    with pytest.raises(SettingsError):
        instant(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T00:00+01:00", datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("2026-03-29T03:00+02:00", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("2026-10-25T02:00:00+01:00", datetime(2026, 10, 25, 1, tzinfo=UTC)),
        ("2026-03-01T00:00:00Z", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_date_is_midnight_in_utc_and_a_time_says_its_offset(
    text: str, expected: datetime
) -> None:
    assert instant(text) == expected


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("clear",),
        ("clear", "--from", "2026-03-01"),
        ("clear", *PERIOD, "--netting", "other"),
        ("forget", *PERIOD),
    ],
)
def test_a_command_that_is_not_whole_is_not_understood(
    config: Path, given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(config, *given)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (("clear", "--from", "2026-04-01", "--to", "2026-04-01"), 2),
        (("clear", "--from", "2026-04-01", "--to", "2199-04-01"), 1),
    ],
)
async def test_a_refusal_is_a_sentence_and_a_status(
    config: Path, given: tuple[str, ...], status: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clearinghouse.operator", *given, "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (status, b"")
    assert err.count(b"\n") == 1
    assert b"Traceback" not in err


async def test_a_period_is_settled_once_by_the_same_command(config: Path, pool: Pool) -> None:
    back = {"operator_id": EVSP, "evsp_id": OPERATOR, "amount_with_tax_micros": 5_000_000}
    await booked(pool, [booking(1), booking(2), booking(3, **back)])
    first = await report(config, "clear", *PERIOD)
    assert first["cdr_count"] == 3
    assert [entry["line_count"] for entry in first["statements"]] == [1, 2]
    assert first["payments"] == [
        {
            "payer_partner_id": EVSP,
            "payee_partner_id": OPERATOR,
            "amount_micros": 7_000_000,
            "currency_code": "EUR",
        }
    ]
    await booked(pool, [booking(4)])
    assert await report(config, "clear", *PERIOD) == first
    late = await report(config, "clear", *PERIOD, "--request-id", "late")
    assert late["cdr_count"] == 1


async def test_bilateral_payments_are_between_each_two(config: Path, pool: Pool) -> None:
    others = {"operator_id": EVSP, "evsp_id": "third"}
    await booked(pool, [booking(1), booking(2, **others)])
    found = await report(config, "clear", *PERIOD, "--netting", "bilateral")
    assert [(each["payer_partner_id"], each["payee_partner_id"]) for each in found["payments"]] == [
        (EVSP, OPERATOR),
        ("third", EVSP),
    ]
    other = await report(config, "clear", *PERIOD)
    assert (other["run_id"] != found["run_id"], other["cdr_count"]) == (True, 0)


async def test_the_balances_of_the_ledger_add_up_to_nothing(config: Path, pool: Pool) -> None:
    yen = {"currency_code": "JPY"}
    await booked(pool, [booking(1), booking(2, **yen)])
    found = await report(config, "balances")
    assert found["sums_micros"] == {"EUR": 0, "JPY": 0}
    assert [entry["account"] for entry in found["accounts"]] == [
        *("PAYABLE", "PAYABLE", "TAX", "TAX", "RECEIVABLE", "RECEIVABLE"),
    ]


async def test_a_report_is_shown_as_tables(config: Path, pool: Pool) -> None:
    await booked(pool, [booking()])
    console = Console(width=200, record=True, quiet=False)
    show(await report(config, "clear", *PERIOD), console)
    show(await report(config, "clear", *PERIOD, "--request-id", "late"), console)
    text = console.export_text()
    assert "6.00 EUR" in text
    assert "debtor_partner_id" in text
    assert "statements: none" in text


async def test_one_object_is_printed_for_programs(config: Path, pool: Pool) -> None:
    await booked(pool, [booking()])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clearinghouse.operator", "clear", *PERIOD),
        *("--json", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert json.loads(out)["cdr_count"] == 1
    assert process.returncode == 0


async def test_a_period_that_is_not_over_is_refused(config: Path) -> None:
    with pytest.raises(MarketError):
        await report(config, "clear", "--from", "2026-03-01", "--to", "2199-01-01")
