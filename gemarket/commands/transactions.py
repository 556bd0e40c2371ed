"""`gemarket transactions`: search, export and monthly statements of what was called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gem.marketplace.v1 import statement_pb2, transaction_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.transaction_service_pb2_grpc import TransactionServiceStub
from gemarket.client import to_json
from gemarket.commands.ending import ending
from gemarket.console import errors, output, reason_name, status_name, table
from gemarket.core_client import open_as
from gemarket.options import As, DataDir, layout_of
from gemarket.transactions import (
    export,
    filter_of,
    format_of,
    money_text,
    month_of,
    order_of,
    search,
    statement,
)

if TYPE_CHECKING:
    from gem.marketplace.v1.transaction_service_pb2_grpc import TransactionServiceAsyncStub

application = typer.Typer(help="What was called, and what is owed for it.", no_args_is_help=True)

Role = Annotated[str, typer.Option(help="buyer, seller, debtor or creditor.")]
Party = Annotated[str, typer.Option(help="Whose role is meant; else who asks.")]
Partner = Annotated[str, typer.Option(help="Partner on the other side.")]
Service = Annotated[str, typer.Option(help="Service id.")]
Contract = Annotated[str, typer.Option(help="Contract id.")]
Status = Annotated[str, typer.Option(help="For instance ok, or timed-out,refused.")]
Value = Annotated[str, typer.Option(metavar="RANGE", help="In millionths: '0..5000000 EUR'.")]
Since = Annotated[
    str, typer.Option(metavar="TIME", help="First instant, ISO 8601; UTC unless said.")
]
Until = Annotated[str, typer.Option(metavar="TIME", help="First instant that is too late.")]
Order = Annotated[str, typer.Option(help="latest, earliest, highest-value or lowest-value.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Work = Callable[["TransactionServiceAsyncStub"], Awaitable[None]]


@application.command("list")
def list_entries(
    *,
    caller: As = "",
    role: Role = "",
    party: Party = "",
    partner: Partner = "",
    service: Service = "",
    contract: Contract = "",
    status: Status = "",
    value: Value = "",
    since: Since = "",
    until: Until = "",
    order: Order = "latest",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most entries shown.")] = 50,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List transactions."""

    async def work(stub: TransactionServiceAsyncStub) -> None:
        which = filter_of(
            role=role, party=party, partner=partner, service=service, contract=contract,
            status=status, value=value, since=since, until=until,
        )  # fmt: skip
        found = [entry async for entry in search(stub, which, order_of(order), limit)]
        if json:
            for entry in found:
                output.print_json(to_json(entry))
        elif found:
            output.print(_entries_table(found))
        else:
            output.print("No transactions match.")

    _run(work, caller, data_dir)


@application.command("show")
def show(
    transaction_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Show all that is known of one transaction, as JSON."""

    async def work(stub: TransactionServiceAsyncStub) -> None:
        request = wire.GetTransactionRequest(transaction_id=transaction_id)
        output.print_json(to_json((await stub.GetTransaction(request, timeout=20)).transaction))

    _run(work, caller, data_dir)


@application.command("export")
def export_entries(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .csv, .jsonl or .xlsx.")],
    *,
    caller: As = "",
    role: Role = "",
    party: Party = "",
    partner: Partner = "",
    service: Service = "",
    contract: Contract = "",
    status: Status = "",
    value: Value = "",
    since: Since = "",
    until: Until = "",
    order: Order = "latest",
    data_dir: DataDir = None,
) -> None:
    """Export the transactions of a search into a file; an older one is replaced at the end."""

    async def work(stub: TransactionServiceAsyncStub) -> None:
        which = filter_of(
            role=role, party=party, partner=partner, service=service, contract=contract,
            status=status, value=value, since=since, until=until,
        )  # fmt: skip
        request = wire.ExportTransactionsRequest(
            filter=which, order=order_of(order), format=format_of(file), counted=True
        )
        with _progress() as bar:
            task = bar.add_task(file.name, total=None)
            written = await export(
                stub, request, file, lambda done, of: bar.update(task, completed=done, total=of)
            )
        output.print(f"{written} transactions in {file}", highlight=False, soft_wrap=True)

    _run(work, caller, data_dir)


@application.command("statement")
def monthly_statement(
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="Contract id.")],
    month: Annotated[str, typer.Argument(metavar="MONTH", help="For instance 2026-02, in UTC.")],
    *,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show what one contract's transactions of a month add up to."""

    async def work(stub: TransactionServiceAsyncStub) -> None:
        made = await statement(stub, contract, month_of(month))
        if json:
            output.print_json(to_json(made))
        else:
            _show_statement(made, month)

    _run(work, caller, data_dir)


def _run(work: Work, caller: str, data_dir: Path | None) -> None:
    """Do the work as one of the market's parties; ends with the reason where it fails."""

    async def connected() -> None:
        async with open_as(layout_of(data_dir), caller) as channel:
            await work(TransactionServiceStub(channel))

    with ending("gemarket transactions"):
        uvloop.run(connected())


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=errors)


def _entries_table(entries: list[transaction_pb2.ServiceTransaction]) -> object:
    rows = (
        (
            entry.start_time.ToJsonString(),
            entry.requester_id,
            entry.provider_id,
            entry.method.rpartition("/")[2],
            status_name(entry.status),
            reason_name(entry.reason),
            f"{entry.duration_us / 1000:.1f}",
            money_text(entry.value),
            entry.transaction_id,
        )
        for entry in entries
    )
    columns = ("started", "buyer", "seller", "method", "status", "reason", "ms", "value", "id")
    return table("Transactions", columns, rows)


def _charge(charge: statement_pb2.StatementCharge) -> tuple[str, str, str, str]:
    """Give a line of a statement: what it is for, calls, units, value."""
    units = str(charge.unit_count) if charge.HasField("unit_count") else ""
    calls = str(charge.call_count) if charge.call_count else ""
    what = "calls"
    if charge.kind == statement_pb2.CHARGE_KIND_TIER:
        what = f"tier from {charge.from_count}"
    elif charge.kind == statement_pb2.CHARGE_KIND_MONTHLY_FEE:
        what = f"monthly fee, {charge.days} days"
    return what, calls, units, money_text(charge.value)


def _show_statement(made: statement_pb2.MonthlyStatement, month: str) -> None:
    rows = [
        (status_name(line.status), str(line.transaction_count), money_text(line.value))
        for line in made.lines
    ]
    rows += [("total", "", money_text(value)) for value in made.values]
    text = f"{month}: {made.requester_id} called {made.provider_id}, contract {made.contract_id}"
    output.print(text, highlight=False, soft_wrap=True)
    output.print(table("Calls", ("status", "calls", "value"), rows))
    charges = [_charge(charge) for charge in made.charges]
    charges += [("owed", "", "", money_text(value)) for value in made.totals]
    output.print(table("Charges", ("what", "calls", "units", "value"), charges))
    failed = made.failed_count
    output.print(f"{made.transaction_count} calls, {failed} of them failed", highlight=False)
    level = made.service_level
    if level.HasField("ok_share_ppm"):
        output.print(f"answered well: {level.ok_share_ppm / 10_000:.4f} %", highlight=False)
    if made.HasField("promise"):
        _show_promise(made.promise, level)
    if level.HasField("median_us"):
        times = (level.median_us, level.percentile_95_us, level.percentile_99_us)
        half, most, nearly_all = (f"{time_us / 1000:.3f} ms" for time_us in times)
        text = f"time to answer: median {half}, 95 % within {most}, 99 % within {nearly_all}"
        output.print(text, highlight=False)
    if not made.month_ended:
        output.print("The month has not ended: this is what there is so far.")


def _show_promise(
    promise: statement_pb2.ServiceLevelPromise, level: statement_pb2.ServiceLevel
) -> None:
    if promise.HasField("is_availability_kept"):
        verdict = "kept" if promise.is_availability_kept else "not kept"
        least = f"{promise.availability_permille} ‰ promised"
        text = f"availability: {level.availability_permille} ‰, {least}: {verdict}"
        output.print(text, highlight=False)
    if promise.HasField("is_percentile_95_kept"):
        verdict = "kept" if promise.is_percentile_95_kept else "not kept"
        text = f"95 % within {promise.percentile_95_ms} ms promised: {verdict}"
        output.print(text, highlight=False)
