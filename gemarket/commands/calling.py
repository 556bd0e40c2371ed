"""What commands that call core services share: who calls, how answers and refusals are shown."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from gemarket.client import to_json
from gemarket.console import errors, output, show_failure, table
from gemarket.core_client import CoreClient, connected
from gemarket.endpoints import NotRunningError
from gemarket.options import layout_of

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Most entries shown.")]
Work = Callable[[CoreClient], Awaitable[None]]
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def run(work: Work, caller: str, data_dir: Path | None) -> None:
    """Do the work as one of the market's parties or people; ends with the reason if it fails."""

    async def connect() -> None:
        async with connected(layout_of(data_dir), caller) as market:
            await work(market)

    run_async(connect())


def run_async(work: Any) -> None:
    """Do the work; ends with the reason where it fails."""
    try:
        uvloop.run(work)
    except aio.AioRpcError as error:
        show_failure(error)
        raise typer.Exit(1) from None
    except (NotRunningError, KeyError, ValueError, OSError) as error:
        text = error if isinstance(error, OSError) else error.args[0]
        errors.print(f"[red]gemarket:[/] {escape(str(text))}", highlight=False)
        raise typer.Exit(2) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None


def shown(text: str) -> str:
    """Give a text of others as a terminal may show it: no markup, no control characters."""
    return escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def show(message: Any) -> None:
    """Print a message as JSON."""
    output.print_json(to_json(message))


def show_all(
    found: Sequence[Any],
    title: str,
    columns: Sequence[str],
    row: Callable[[Any], Sequence[str]],
    *,
    json: bool,
) -> None:
    """Print a list: as a table or as one JSON object after the other; says where it is empty."""
    if json:
        for each in found:
            show(each)
    elif found:
        rows: Iterable[Sequence[str]] = ([shown(cell) for cell in row(each)] for each in found)
        output.print(table(title, columns, rows))
    else:
        output.print(f"{title}: there are none that match.", highlight=False)


def told(text: str) -> None:
    """Print one line about what was done."""
    output.print(shown(text), highlight=False, soft_wrap=True)


async def pages(
    market: CoreClient, method: str, request: Any, response: Any, field: str, limit: int
) -> list[Any]:
    """Give the first entries of a list, page by page."""
    found: list[Any] = []
    while len(found) < limit:
        request.page.page_size = min(limit - len(found), 1000)
        answer = await market.ask(method, request, response)
        found += getattr(answer, field)
        request.page.page_token = answer.page.next_page_token
        if not request.page.page_token:
            break
    return found


def enum_name(enum: Any, prefix: str, number: int) -> str:
    """Give a value of a proto enum in lower case words."""
    return str(enum.Name(number)).removeprefix(f"{prefix}_").lower().replace("_", "-")


def enum_value(enum: Any, prefix: str, name: str) -> Any:
    """Give the value of a proto enum by its name in words; ValueError with the known ones."""
    known = {enum_name(enum, prefix, number): number for number in enum.values() if number}
    if name not in known:
        raise ValueError(f"there is no {name!r}; there are: {', '.join(known)}")
    return known[name]


def instant(text: str) -> Timestamp | None:
    """Read a time of ISO 8601, in UTC unless it says; None of an empty one; ValueError."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time of ISO 8601, such as 2026-02-01T08:00") from None
    made = Timestamp()
    made.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return made


def when(message: Timestamp) -> str:
    """Show a time to the second."""
    return f"{message.ToDatetime():%Y-%m-%d %H:%M:%S}"


def secret(prompt: str) -> str:
    """Read what must not be seen: from a prompt, or a line of standard input; never an argument."""
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True))
    return sys.stdin.readline().rstrip("\r\n")


def bytes_progress() -> Progress:
    """Make a bar for bytes that are sent or received."""
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=errors)
