"""`gemarket log`: whether the transaction log is what was written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import asyncpg
import typer
import uvloop
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gem.marketplace.v1.session_service_pb2 import WhoAmIRequest
from gem.marketplace.v1.session_service_pb2_grpc import SessionServiceStub
from gem.marketplace.v1.transaction_service_pb2_grpc import TransactionServiceStub
from gemarket.commands.ending import ending
from gemarket.console import errors, output, table
from gemarket.core_client import open_as
from gemarket.endpoints import read_endpoints
from gemarket.log_evidence import OwnVerification, fetch_heads
from gemarket.options import As, DataDir, layout_of
from marketplace.log_chain import date_of, number_of
from marketplace.log_heads import NO_HEADS, Heads, read_heads, write_heads
from marketplace.log_verification import Break
from marketplace.storage_log_verification import LogVerification, reading

if TYPE_CHECKING:
    from gem.marketplace.v1.transaction_service_pb2_grpc import TransactionServiceAsyncStub

application = typer.Typer(help="Whether the log is what was written.", no_args_is_help=True)

From = Annotated[str, typer.Option("--from", metavar="DAY", help="First day in UTC: 2026-02-01.")]
To = Annotated[str, typer.Option("--to", metavar="DAY", help="Last day in UTC.")]
#: Breaks shown at most; more are counted.
_MOST_SHOWN = 1000
_TIMEOUT_S = 20.0


@application.command("heads")
def heads(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the heads are kept.")],
    *,
    caller: As = "",
    first_day: From = "",
    last_day: To = "",
    data_dir: DataDir = None,
) -> None:
    """Fetch the heads of the log's chains, to be kept outside the market."""

    async def work() -> None:
        first, last = _days(first_day, last_day)
        async with open_as(layout_of(data_dir), caller) as channel:
            stub: TransactionServiceAsyncStub = TransactionServiceStub(channel)
            found = await fetch_heads(stub, *_texts(first, last))
        write_heads(file, found)
        text = f"{len(found.chains)} heads in {file}"
        output.print(text, highlight=False, soft_wrap=True)

    _run(work)


@application.command("verify")
def verify(
    *,
    kept: Annotated[
        Path | None, typer.Option("--heads", metavar="FILE", help="Heads that were kept.")
    ] = None,
    first_day: From = "",
    last_day: To = "",
    own: Annotated[
        bool, typer.Option("--own", help="Over the wire: what the market shows to a partner.")
    ] = False,
    caller: As = "",
    database_url: Annotated[
        str, typer.Option(metavar="URL", help="Database; else the running market's.")
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Verify the log's chains; ends with 1 and a table of the breaks where it is not what it was.

    Reads the database, and cannot change it.
    """

    async def work() -> None:
        first, last = _days(first_day, last_day)
        known = NO_HEADS if kept is None else read_heads(kept)
        if own:
            await _verify_own(caller, data_dir, known, first, last)
        else:
            url = database_url or read_endpoints(layout_of(data_dir).endpoints).database_url
            await _verify_all(url, known, first, last)

    _run(work)


async def _verify_all(url: str, kept: Heads, first: int | None, last: int | None) -> None:
    async with reading(url) as connection:
        verification = LogVerification(connection, kept, first, last)
        with _progress() as bar:
            task = bar.add_task("entries", total=await verification.count())
            found = verification.breaks(lambda done: bar.update(task, completed=done))
            shown, count = await _gathered(found)
        done = f"{verification.entry_count} entries in {verification.chain_count} chains"
    _conclude(done, shown, count)


async def _verify_own(
    caller: str, data_dir: Path | None, kept: Heads, first: int | None, last: int | None
) -> None:
    within = [
        head
        for head in kept.chains
        if (first is None or head.day >= first) and (last is None or head.day <= last)
    ]
    kept = Heads(kept.register_number, kept.register_hash, within)
    async with open_as(layout_of(data_dir), caller) as channel:
        who = await SessionServiceStub(channel).WhoAmI(WhoAmIRequest(), timeout=_TIMEOUT_S)
        stub: TransactionServiceAsyncStub = TransactionServiceStub(channel)
        current = await fetch_heads(stub, *_texts(first, last))
        verification = OwnVerification(stub, who.subject_id, kept, current)
        with _progress() as bar:
            total = sum(head.sequence for head in current.chains)
            task = bar.add_task("entries", total=total)
            found = verification.breaks(lambda done: bar.update(task, completed=done))
            shown, count = await _gathered(found)
    entries = f"{verification.own_count} own entries among {verification.entry_count}"
    _conclude(entries, shown, count)


async def _gathered(found: AsyncIterator[Break]) -> tuple[list[Break], int]:
    """Give the first breaks, and the number of all."""
    shown: list[Break] = []
    count = 0
    async with aclosing(found) as breaks:  # type: ignore[type-var]  # a generator
        async for one in breaks:
            count += 1
            if len(shown) < _MOST_SHOWN:
                shown.append(one)
    return shown, count


def _conclude(entries: str, shown: list[Break], count: int) -> None:
    if not count:
        output.print(f"The log is what was written: {entries}.", highlight=False)
        return
    rows = (
        (
            "" if one.day is None else date_of(one.day).isoformat(),
            "register" if one.day is None else str(one.chain_id or ""),
            "" if one.sequence is None else str(one.sequence),
            str(one.entry_id or ""),
            str(one.kind),
            str(one.count),
        )
        for one in shown
    )
    columns = ("day", "chain", "sequence", "entry", "kind", "entries")
    output.print(table("Breaks", columns, rows))
    errors.print(f"[red]The log is not what was written:[/] {count} breaks", highlight=False)
    raise typer.Exit(1)


def _days(first: str, last: str) -> tuple[int | None, int | None]:
    return _day(first), _day(last)


def _day(text: str) -> int | None:
    if not text:
        return None
    try:
        return number_of(date.fromisoformat(text))
    except ValueError:
        raise ValueError(f"{text!r} is no day such as 2026-02-01") from None


def _texts(*days: int | None) -> tuple[str, ...]:
    return tuple("" if day is None else date_of(day).isoformat() for day in days)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=errors)


def _run(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work; ends with the reason where it fails."""
    try:
        with ending("gemarket log"):
            uvloop.run(work())  # type: ignore[arg-type]  # a coroutine
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        errors.print(f"[red]gemarket log:[/] the database said {type(error).__name__}")
        raise typer.Exit(2) from None
