"""`gemarket explain-route`: why a call is routed to whom, or refused, now or at a past instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gem.marketplace.v1 import route_explanation_pb2 as wire
from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceStub
from gem.options.v1.options_pb2 import Route
from gemarket.client import to_json
from gemarket.commands.ending import ending
from gemarket.console import output, shown, table
from gemarket.core_client import open_as
from gemarket.options import As, DataDir, layout_of
from gemarket.transactions import TIMEOUT_S, time_of

Method = Annotated[
    str, typer.Argument(metavar="SERVICE/METHOD", help="For instance gem.x.v1.YService/Z.")
]
Requester = Annotated[str, typer.Option(help="Partner whose call is meant; else who asks.")]
Key = Annotated[str, typer.Option(help="Identifier in the request, for calls routed by one.")]
At = Annotated[
    str, typer.Option("--at", metavar="TIME", help="Instant, ISO 8601, UTC unless said; else now.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def explain_route(
    method: Method,
    *,
    caller: As = "",
    requester: Requester = "",
    key: Key = "",
    at: At = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Explain why a call is routed or refused, and by which contract and event."""
    with ending("gemarket explain-route"):
        made = uvloop.run(_asked(method, caller, requester, key, at, data_dir))
    if json:
        output.print_json(to_json(made))
    else:
        _show(made)


async def _asked(
    method: str, caller: str, requester: str, key: str, at: str, data_dir: Path | None
) -> wire.RouteExplanation:
    request = wire.ExplainRouteRequest(
        requester_id=requester, method=f"/{method.removeprefix('/')}", key=key, time=time_of(at)
    )
    async with open_as(layout_of(data_dir), caller) as channel:
        answer = await ContractServiceStub(channel).ExplainRoute(request, timeout=TIMEOUT_S)
    return answer.explanation


def _show(made: wire.RouteExplanation) -> None:
    route = Route.Name(made.route).removeprefix("ROUTE_").lower().replace("_", " ")
    asked = sum(each.routed for each in made.candidates)
    name = made.method.rpartition("/")[2]
    text = f"{made.requester_id} calls {name} (route {route}) at {made.time.ToJsonString()}"
    output.print(f"{shown(text)}: {asked} asked", highlight=False, soft_wrap=True)
    if made.reason != wire.ROUTE_REASON_IN_FORCE:
        why = shown(_why(made.reason, made.event))
        output.print(f"The whole call is refused: {why}", highlight=False, soft_wrap=True)
    if made.candidates:
        columns = ("asked", "provider", "reason", "section", "contract", "service")
        output.print(table("Services of the interface", columns, map(_row, made.candidates)))
    else:
        output.print("No service of the interface can be reached.")
    if made.more_without_contract:
        output.print("There are more published services without a contract.")


def _row(each: wire.RouteCandidate) -> tuple[str, ...]:
    why = _why(each.reason, each.event)
    if each.left_out_here:
        why += "; left out by this worker for the moment"
    place = str(each.place_number) if each.routed else "no"
    return (place, each.provider_id, why, each.section_id, each.contract_id, each.service_id)


def _why(reason: int, event: wire.RouteEvent) -> str:
    """Give a reason in words, with the event that decided."""
    name = wire.RouteReason.Name(reason)  # type: ignore[arg-type]  # an enum value
    text = name.removeprefix("ROUTE_REASON_").lower().replace("_", " ")
    if not event.kind:
        return text
    by = f" by {event.actor}" if event.actor else ""
    what = f"{event.history} {event.kind.lower().replace('_', ' ')}"
    return f"{text}: {what}{by} since {event.event_time.ToJsonString()}"
