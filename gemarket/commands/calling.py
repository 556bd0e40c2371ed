"""What commands that call core services share: who calls, how answers and refusals are shown."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from gemarket.client import to_json
from gemarket.commands.ending import ending
from gemarket.console import errors, output, shown, table
from gemarket.core_client import CoreClient, connected
from gemarket.options import layout_of
from gemarket.times import instant_of

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Most entries shown.")]
Work = Callable[[CoreClient], Awaitable[None]]


def run(work: Work, caller: str, data_dir: Path | None) -> None:
    """Do the work as one of the market's parties or people; ends with the reason if it fails."""

    async def connect() -> None:
        async with connected(layout_of(data_dir), caller) as market:
            await work(market)

    run_async(connect())


def run_async(work: Any) -> None:
    """Do the work; ends with the reason where it fails."""
    with ending("gemarket"):
        uvloop.run(work)


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
        output.print(table(title, columns, map(row, found)))
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
    return instant_of(text) if text else None


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
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        console=errors,
    )
