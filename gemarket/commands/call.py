"""`gemarket call`: one call of any method, with JSON in and out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
import uvloop

from gemarket.client import (
    ReflectionClient,
    find_method,
    invoke,
    open_channel,
    parse_requests,
    to_json,
)
from gemarket.commands.ending import ending
from gemarket.console import output, shown
from gemarket.endpoints import Endpoints, read_endpoints
from gemarket.options import DataDir, layout_of

Method = Annotated[
    str,
    typer.Argument(metavar="SERVICE/METHOD", help="For instance gem.x.v1.YService/Z."),
]
As = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="PARTY",
        help="Partner, operator, or a folder with key and certificate.",
    ),
]
Json = Annotated[str, typer.Argument(metavar="JSON", help="The request; `-` reads standard input.")]
Budget = Annotated[int, typer.Option(help="Time budget in ms; late providers become entries.")]
Provider = Annotated[str, typer.Option(help="Partner id of the one provider to ask.")]
Listing = Annotated[bool, typer.Option("--list", help="List the services and end.")]


def call(
    method: Method = "",
    request: Json = "{}",
    *,
    caller: As = "",
    budget_ms: Budget = 0,
    provider: Provider = "",
    timeout_s: Annotated[float, typer.Option(help="Deadline of the call in seconds.")] = 30.0,
    listing: Listing = False,
    data_dir: DataDir = None,
) -> None:
    """Call a method of the market as one of its partners; prints each answer as JSON."""
    with ending("gemarket call"):
        endpoints = read_endpoints(layout_of(data_dir).endpoints)
        metadata = _metadata(budget_ms, provider)
        text = sys.stdin.read() if request == "-" else request
        chosen = caller or next(iter(endpoints.partners), "business")
        work = (
            _list(endpoints, chosen)
            if listing
            else _call(endpoints, chosen, method, text, timeout_s, metadata)
        )
        uvloop.run(work)


def _metadata(budget_ms: int, provider: str) -> tuple[tuple[str, str], ...]:
    budget = (("gem-budget-ms", str(budget_ms)),) if budget_ms else ()
    return (*budget, *((("gem-provider", provider),) if provider else ()))


async def _list(endpoints: Endpoints, caller: str) -> None:
    async with open_channel(endpoints.marketplace, endpoints.party(caller)) as channel:
        for service in sorted(await ReflectionClient(channel).services()):
            output.print(shown(service), highlight=False)


async def _call(
    endpoints: Endpoints,
    caller: str,
    name: str,
    text: str,
    timeout_s: float,
    metadata: tuple[tuple[str, str], ...],
) -> None:
    async with open_channel(endpoints.marketplace, endpoints.party(caller)) as channel:
        method = await find_method(channel, name)
        requests = parse_requests(method, text)
        answers = invoke(channel, method, requests, timeout_s=timeout_s, metadata=metadata)
        async for answer in answers:
            output.print_json(to_json(answer))
