"""`gemarket requests`: requests for new services and responses to them (feature 1622)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gem.marketplace.v1 import service_request_pb2 as messages
from gem.marketplace.v1 import service_request_service_pb2 as wire
from gemarket.administration import new_request_id
from gemarket.commands.calling import (
    Json,
    Limit,
    enum_name,
    enum_value,
    instant,
    pages,
    run,
    show,
    show_all,
    told,
    when,
)
from gemarket.core_client import CoreClient
from gemarket.options import As, DataDir

application = typer.Typer(help="Requests for services nobody offers yet.", no_args_is_help=True)
_SERVICE = "ServiceRequestService"
_STATE = (messages.ServiceRequestState, "SERVICE_REQUEST_STATE")
_EVENT = (messages.ServiceRequestEventKind, "SERVICE_REQUEST_EVENT_KIND")
_OWNERS = {
    "": wire.SERVICE_REQUEST_OWNER_UNSPECIFIED,
    "own": wire.SERVICE_REQUEST_OWNER_OWN,
    "others": wire.SERVICE_REQUEST_OWNER_OTHERS,
}

RequestId = Annotated[str, typer.Argument(metavar="REQUEST", help="Id of the request.")]
Title = Annotated[str, typer.Option(help="One line that says what is wished.")]
Text = Annotated[str, typer.Option(help="The requirements in full.")]
Until = Annotated[str, typer.Option(metavar="TIME", help="Until when responses are welcome.")]
Category = Annotated[str, typer.Option(help="Category of the service.")]
Interface = Annotated[str, typer.Option(help="Standard interface that it shall implement.")]
Countries = Annotated[str, typer.Option(help="Country codes with commas; none is anywhere.")]
Region = Annotated[str, typer.Option(help="Region within them.")]
Volume = Annotated[int, typer.Option(min=0, help="Expected calls a month; 0 is not known.")]
Start = Annotated[str, typer.Option("--from", metavar="TIME", help="From when on it is wished.")]
Before = Annotated[str, typer.Option("--preconditions", help="What must hold before a call.")]
After = Annotated[str, typer.Option("--postconditions", help="What must hold after a call.")]


@application.command("create")
def create(
    *,
    title: Title,
    text: Text,
    until: Until,
    category: Category = "",
    interface: Interface = "",
    countries: Countries = "",
    region: Region = "",
    volume: Volume = 0,
    start: Start = "",
    preconditions: Before = "",
    postconditions: After = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Publish a request for a new service."""

    async def work(market: CoreClient) -> None:
        wish = _wish(
            title=title, description=text, category=category, interface_name=interface,
            country_codes=countries, region=region, monthly_call_count=volume,
            wished_start_time=start, preconditions=preconditions, postconditions=postconditions,
        )  # fmt: skip
        request = wire.CreateServiceRequestRequest(
            request_id=new_request_id(), wish=wish, valid_until_time=instant(until)
        )
        response = wire.CreateServiceRequestResponse
        answer = await market.ask(f"{_SERVICE}/CreateServiceRequest", request, response)
        _show_one(answer.service_request, json=json)

    run(work, caller, data_dir)


@application.command("change")
def change(
    request_id: RequestId,
    *,
    title: Title = "",
    text: Text = "",
    until: Until = "",
    category: Category = "",
    interface: Interface = "",
    countries: Countries = "",
    region: Region = "",
    volume: Volume = 0,
    start: Start = "",
    preconditions: Before = "",
    postconditions: After = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Change what a request of one's own asks for; what is not named stays as it is."""

    async def work(market: CoreClient) -> None:
        before = await _get(market, request_id)
        # Lists are replaced where they are given, and merged by nobody.
        wish = before.wish
        if countries:
            wish.ClearField("country_codes")
        wish.MergeFrom(
            _wish(
                title=title, description=text, category=category, interface_name=interface,
                country_codes=countries, region=region, monthly_call_count=volume,
                wished_start_time=start, preconditions=preconditions,
                postconditions=postconditions,
            )
        )  # fmt: skip
        request = wire.ChangeServiceRequestRequest(
            request_id=new_request_id(),
            service_request_id=request_id,
            wish=wish,
            valid_until_time=instant(until) or before.valid_until_time,
            revision_number=before.revision_number,
        )
        response = wire.ChangeServiceRequestResponse
        answer = await market.ask(f"{_SERVICE}/ChangeServiceRequest", request, response)
        _show_one(answer.service_request, json=json)

    run(work, caller, data_dir)


@application.command("close")
def close(
    request_id: RequestId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """End that a request of one's own takes responses."""
    request = wire.CloseServiceRequestRequest
    _end("Close", request, wire.CloseServiceRequestResponse, request_id, caller, json, data_dir)


@application.command("delete")
def delete(
    request_id: RequestId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Delete a request of one's own: others do not find it any more."""
    request = wire.DeleteServiceRequestRequest
    _end("Delete", request, wire.DeleteServiceRequestResponse, request_id, caller, json, data_dir)


@application.command("respond")
def respond(
    request_id: RequestId,
    *,
    text: Annotated[str, typer.Option(help="What its author is to know.")],
    service: Annotated[str, typer.Option(help="Own published service that fulfils it.")] = "",
    planned: Annotated[str, typer.Option(metavar="TIME", help="When one will.")] = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Respond to another partner's request."""

    async def work(market: CoreClient) -> None:
        request = wire.RespondToServiceRequestRequest(
            request_id=new_request_id(),
            service_request_id=request_id,
            text=text,
            service_id=service,
            planned_start_time=instant(planned),
        )
        response = wire.RespondToServiceRequestResponse
        answer = await market.ask(f"{_SERVICE}/RespondToServiceRequest", request, response)
        if json:
            show(answer.response)
        else:
            told(f"response {answer.response.response_id}; its author is told")

    run(work, caller, data_dir)


@application.command("list")
def list_requests(
    *,
    text: Annotated[str, typer.Option(help="Words in title or requirements.")] = "",
    category: Category = "",
    interface: Interface = "",
    country: Annotated[str, typer.Option(help="Country code.")] = "",
    state: Annotated[str, typer.Option(help="open, closed, expired or deleted.")] = "",
    owner: Annotated[str, typer.Option(help="own or others.")] = "",
    author: Annotated[str, typer.Option(help="Partner that asks.")] = "",
    responded: Annotated[bool, typer.Option("--responded", help="Answered by oneself.")] = False,
    limit: Limit = 50,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Search for requests, the latest first."""

    async def work(market: CoreClient) -> None:
        if owner not in _OWNERS:
            raise ValueError(f"there is no owner {owner!r}; there are: own, others")
        request = wire.SearchServiceRequestsRequest(
            text=text,
            category=category,
            interface_name=interface,
            country_code=country,
            owner=_OWNERS[owner],
            author_id=author,
            responded_only=responded,
        )
        if state:
            request.state = enum_value(*_STATE, state)
        method, response = f"{_SERVICE}/SearchServiceRequests", wire.SearchServiceRequestsResponse
        found = await pages(market, method, request, response, "service_requests", limit)
        columns = ("title", "category", "author", "state", "until (UTC)", "id")
        show_all(found, "Requests for new services", columns, _row, json=json)

    run(work, caller, data_dir)


@application.command("show")
def show_request(request_id: RequestId, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Show all that one may see of a request, as JSON."""

    async def work(market: CoreClient) -> None:
        show(await _get(market, request_id))

    run(work, caller, data_dir)


@application.command("responses")
def responses(
    request_id: RequestId,
    *,
    limit: Limit = 200,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List the responses that one may see."""

    async def work(market: CoreClient) -> None:
        request = wire.ListServiceRequestResponsesRequest(service_request_id=request_id)
        response = wire.ListServiceRequestResponsesResponse
        method = f"{_SERVICE}/ListServiceRequestResponses"
        found = await pages(market, method, request, response, "responses", limit)
        columns = ("responder", "at (UTC)", "revision", "service", "text")
        show_all(found, "Responses", columns, _response_row, json=json)

    run(work, caller, data_dir)


@application.command("history")
def history(
    request_id: RequestId,
    *,
    limit: Limit = 200,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List what happened to a request."""

    async def work(market: CoreClient) -> None:
        request = wire.ListServiceRequestEventsRequest(service_request_id=request_id)
        response = wire.ListServiceRequestEventsResponse
        method = f"{_SERVICE}/ListServiceRequestEvents"
        found = await pages(market, method, request, response, "events", limit)
        columns = ("at (UTC)", "what", "by", "revision")
        show_all(found, "History", columns, _event_row, json=json)

    run(work, caller, data_dir)


async def _get(market: CoreClient, request_id: str) -> Any:
    request = wire.GetServiceRequestRequest(service_request_id=request_id)
    response = wire.GetServiceRequestResponse
    return (await market.ask(f"{_SERVICE}/GetServiceRequest", request, response)).service_request


def _end(
    step: str,
    request_class: Any,
    response: Any,
    request_id: str,
    caller: str,
    json: bool,
    data_dir: Path | None,
) -> None:
    async def work(market: CoreClient) -> None:
        request = request_class(request_id=new_request_id(), service_request_id=request_id)
        answer = await market.ask(f"{_SERVICE}/{step}ServiceRequest", request, response)
        _show_one(answer.service_request, json=json)

    run(work, caller, data_dir)


def _wish(*, country_codes: str, wished_start_time: str, **fields: Any) -> messages.ServiceWish:
    return messages.ServiceWish(
        country_codes=[code for code in country_codes.split(",") if code],
        wished_start_time=instant(wished_start_time),
        **fields,
    )


def _show_one(request: Any, *, json: bool) -> None:
    if json:
        show(request)
    else:
        state = enum_name(*_STATE, request.state)
        told(f"{request.service_request_id}  {state}, revision {request.revision_number}")


def _row(request: Any) -> tuple[str, ...]:
    state = enum_name(*_STATE, request.state)
    until = when(request.valid_until_time)
    wish = request.wish
    return wish.title, wish.category, request.author_id, state, until, request.service_request_id


def _response_row(response: Any) -> tuple[str, ...]:
    service = response.service_id
    if not service and response.HasField("planned_start_time"):
        service = f"planned {when(response.planned_start_time)}"
    at, revision = when(response.create_time), str(response.revision_number)
    return response.responder_id, at, revision, service, response.text


def _event_row(event: Any) -> tuple[str, ...]:
    kind = enum_name(*_EVENT, event.kind)
    return when(event.event_time), kind, event.actor, str(event.revision_number)
