"""The clearing house's own work: `python -m clearinghouse.operator COMMAND --config FILE`.

`clear` settles a period, `balances` shows the ledger. Both work on the database that the settings
of a process name, and print a table, or with `--json` one object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from clearinghouse.clearing_run import ClearingCommand, Netting, run_clearing
from clearinghouse.netting import Payment, payments
from clearinghouse.provider_settings import read_settings
from clearinghouse.statement_export import utc_text
from clearinghouse.storage import DATABASE_ERRORS, Pool, open_pool
from clearinghouse.storage_ledger import ledger_balances
from clearinghouse.storage_settlement import SettlementStorage, StatementRow
from foundation.errors import MarketError, SettingsError
from foundation.money import Money

#: Statements of a run that are shown.
MOST_STATEMENTS = 10_000
#: Positions of which payments are made; all of them, or they would not add up.
MOST_POSITIONS = 1_000_000
_FAILED, _WRONG = 1, 2
Report = dict[str, Any]


async def clear(pool: Pool, house_id: str, arguments: argparse.Namespace) -> Report:
    """Settle a period; the same command again gives the same run."""
    start, end = instant(arguments.start), instant(arguments.end)
    if end <= start:
        raise SettingsError("--to", "must be after --from")
    netting = Netting[arguments.netting.upper()]
    named = arguments.request_id or f"{utc_text(start)}/{utc_text(end)}/{netting.name}"
    command = ClearingCommand(house_id, named, start, end, netting)
    run = await run_clearing(pool, command, datetime.now(UTC))
    storage = SettlementStorage(pool)
    statements = await storage.statements(None, run.run_id, 0, MOST_STATEMENTS)
    positions = await storage.positions(run.run_ref, None, MOST_POSITIONS)
    return {
        "run_id": run.run_id,
        "period_start": utc_text(run.period_start),
        "period_end": utc_text(run.period_end),
        "netting": netting.name,
        "cdr_count": run.cdr_count,
        "statements": [_statement(row) for row in statements],
        "payments": [_payment(payment) for payment in payments(positions)],
    }


def _statement(row: StatementRow) -> Report:
    return {
        "statement_id": row.statement_id,
        "debtor_partner_id": row.evsp_id,
        "creditor_partner_id": row.operator_id,
        "line_count": row.line_count,
        "without_tax_micros": row.without_tax_micros,
        "with_tax_micros": row.with_tax_micros,
        "currency_code": row.currency_code,
    }


def _payment(payment: Payment) -> Report:
    return {
        "payer_partner_id": payment.payer_id,
        "payee_partner_id": payment.payee_id,
        "amount_micros": payment.amount_micros,
        "currency_code": payment.currency_code,
    }


async def balances(pool: Pool) -> Report:
    """Add the whole ledger up: by account, and by currency, where the sum is zero."""
    async with pool.acquire() as connection:
        found = await ledger_balances(connection)
    sums: Counter[str] = Counter()
    for (_, _, currency), amount in found.items():
        sums[currency] += amount
    return {
        "accounts": [
            {
                "partner_id": partner_id,
                "account": account.value,
                "balance_micros": amount,
                "currency_code": currency,
            }
            for (partner_id, account, currency), amount in sorted(found.items())
        ],
        "sums_micros": dict(sorted(sums.items())),
    }


def instant(text: str) -> datetime:
    """Read an instant: a date is its midnight in UTC, a time says its offset from UTC.

    Raises SettingsError for a time without an offset, which on two days a year is two instants.
    """
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError("period", "a date, or a time such as 2026-03-01T00:00+01:00") from None
    if at.tzinfo is None:
        raise SettingsError("period", "a time says its offset: 2026-03-01T00:00+01:00, or Z")
    return at.astimezone(UTC)


def show(report: Report, console: Console) -> None:
    """Print every list of a report as a table, and the rest as lines."""
    for name, value in report.items():
        if not isinstance(value, list):
            console.print(f"{name}: {value}", highlight=False, markup=False)
            continue
        if not value:
            console.print(f"{name}: none", highlight=False)
            continue
        table = Table(title=name, title_justify="left")
        columns = [column for column in value[0] if column != "currency_code"]
        for column in columns:
            is_number = column.endswith(("_micros", "_count"))
            table.add_column(
                column.removesuffix("_micros"),
                justify="right" if is_number else "left",
                overflow="fold",
            )
        for entry in value:
            table.add_row(*(_cell(entry, column) for column in columns))
        console.print(table, highlight=False, markup=False)


def _cell(entry: Report, column: str) -> str:
    if column.endswith("_micros"):
        return str(Money(entry[column], entry["currency_code"]))
    return str(entry[column])


async def run(arguments: argparse.Namespace) -> Report:
    """Do a command; raises what it refuses, and what the database does."""
    settings = read_settings(arguments.config)
    async with open_pool(settings.database_url, 1) as pool:
        if arguments.command == "balances":
            return await balances(pool)
        return await clear(pool, settings.partner_id, arguments)


def parser() -> argparse.ArgumentParser:
    """Give the parser of the commands."""
    made = argparse.ArgumentParser(prog="python -m clearinghouse.operator", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    clearing = commands.add_parser("clear", help="settle a period")
    clearing.add_argument("--from", dest="start", required=True, help="first instant: 2026-03-01")
    clearing.add_argument("--to", dest="end", required=True, help="first instant outside")
    clearing.add_argument(
        "--netting", choices=[kind.name.lower() for kind in Netting], default="multilateral"
    )
    clearing.add_argument(
        "--request-id", help="names the run; another name takes what came late into the period"
    )
    for each in (clearing, commands.add_parser("balances", help="show the ledger")):
        each.add_argument("--config", type=Path, required=True, help="settings of a process")
        each.add_argument("--json", action="store_true", help="print one JSON object")
    return made


def main(given: Sequence[str] | None = None) -> None:
    """Run a command: exit status 1 where it is refused or fails, 2 where it was not understood."""
    arguments = parser().parse_args(given)
    try:
        report = asyncio.run(run(arguments))
    except SettingsError as error:
        _end(str(error), _WRONG)
    except MarketError as error:
        _end(error.message, _FAILED)
    except DATABASE_ERRORS as error:
        _end(f"the database cannot be used: {type(error).__name__}", _FAILED)
    if arguments.json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        show(report, Console())


def _end(text: str, status: int) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
