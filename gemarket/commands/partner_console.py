"""What the commands of `gemarket partners` share: options, the connection, lists."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from gemarket.client import to_json
from gemarket.commands.ending import ending
from gemarket.console import output, table
from gemarket.options import layout_of
from gemarket.partners import Work, connected

As = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="PARTY",
        help="Who asks; else who has logged in, else the business operator.",
    ),
]
Own = Annotated[str, typer.Option("--as", metavar="PARTNER", help="Whose account it is.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the request.")]
Reason = Annotated[str, typer.Argument(metavar="REASON", help="For the other side to read.")]
Role = Annotated[list[str] | None, typer.Option(help="For instance evsp; repeatable.")]
Ids = Annotated[list[str] | None, typer.Option(help="Repeatable.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="Most entries shown.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def run(work: Work, caller: str | None, data_dir: Path | None) -> None:
    """Do the work as one of the market's parties, or as anybody; ends with the reason if it fails.

    The empty name stands for who has logged in, else the business operator; None for anybody.
    """

    async def do() -> None:
        async with connected(layout_of(data_dir), caller) as stub:
            await work(stub)

    with ending("gemarket partners"):
        uvloop.run(do())


def show_list(
    entries: list[Any], title: str, columns: Iterable[str], rows: Iterable[Any], *, json: bool
) -> None:
    """Show a list as a table or as JSON, one object an entry; say so where it is empty."""
    if json:
        for entry in entries:
            output.print_json(to_json(entry))
    elif entries:
        output.print(table(title, tuple(columns), rows))
    else:
        output.print(f"No {title.lower()} match.")
