"""`gemarket searches`: criteria of searches, saved and used again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gem.marketplace.v1 import saved_search_service_pb2 as wire
from gemarket.administration import new_request_id
from gemarket.client import find_method, invoke
from gemarket.commands.calling import Json, Limit, pages, run, show, show_all, told, when
from gemarket.core_client import CoreClient
from gemarket.options import As, DataDir

application = typer.Typer(help="Searches that are kept for later use.", no_args_is_help=True)
_SERVICE = "SavedSearchService"

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the search.")]
Criteria = Annotated[str, typer.Argument(metavar="JSON", help="The request, without its page.")]


@application.command("save")
def save(
    name: Name,
    method: Annotated[
        str, typer.Argument(metavar="SERVICE/METHOD", help="For instance ContractService/...")
    ],
    criteria: Criteria = "{}",
    *,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Save criteria under a name."""
    full_name = method if method.startswith("gem.") else f"gem.marketplace.v1.{method}"

    async def work(market: CoreClient) -> None:
        request = wire.SaveSearchRequest(
            request_id=new_request_id(),
            name=name,
            method=full_name,
            criteria=wire.SearchCriteria(json=criteria),
        )
        answer = await market.ask(f"{_SERVICE}/SaveSearch", request, wire.SaveSearchResponse)
        _show_one(answer.saved_search, "saved", json=json)

    run(work, caller, data_dir)


@application.command("list")
def list_searches(
    *, limit: Limit = 200, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """List one's own searches by name."""

    async def work(market: CoreClient) -> None:
        request, response = wire.ListSavedSearchesRequest(), wire.ListSavedSearchesResponse
        method = f"{_SERVICE}/ListSavedSearches"
        found = await pages(market, method, request, response, "saved_searches", limit)
        show_all(found, "Saved searches", ("name", "rpc", "changed (UTC)"), _row, json=json)

    run(work, caller, data_dir)


@application.command("show")
def show_search(
    name: Name, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Show the criteria of a search, as JSON."""

    async def work(market: CoreClient) -> None:
        found = await _get(market, name)
        if json:
            show(found)
        else:
            told(f"{found.method} {found.criteria_json}")

    run(work, caller, data_dir)


@application.command("run")
def run_search(name: Name, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Load a search and make its call; prints the first page as JSON."""

    async def work(market: CoreClient) -> None:
        found = await _get(market, name)
        method = await find_method(market.channel, found.method)
        request = method.request_class.FromString(found.criteria)
        answers = invoke(market.channel, method, [request], timeout_s=60, metadata=market.metadata)
        async for answer in answers:
            show(answer)

    run(work, caller, data_dir)


@application.command("rename")
def rename(
    name: Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME")],
    *,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Give a search another name."""

    async def work(market: CoreClient) -> None:
        found = await _get(market, name)
        request = wire.RenameSavedSearchRequest(
            request_id=new_request_id(), saved_search_id=found.saved_search_id, name=new_name
        )
        response = wire.RenameSavedSearchResponse
        answer = await market.ask(f"{_SERVICE}/RenameSavedSearch", request, response)
        _show_one(answer.saved_search, "renamed", json=json)

    run(work, caller, data_dir)


@application.command("replace")
def replace(
    name: Name,
    criteria: Criteria,
    *,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Replace the criteria of a search."""

    async def work(market: CoreClient) -> None:
        found = await _get(market, name)
        request = wire.ReplaceSavedSearchRequest(
            request_id=new_request_id(),
            saved_search_id=found.saved_search_id,
            criteria=wire.SearchCriteria(json=criteria),
        )
        response = wire.ReplaceSavedSearchResponse
        answer = await market.ask(f"{_SERVICE}/ReplaceSavedSearch", request, response)
        _show_one(answer.saved_search, "replaced", json=json)

    run(work, caller, data_dir)


@application.command("delete")
def delete(name: Name, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Delete a search."""

    async def work(market: CoreClient) -> None:
        found = await _get(market, name)
        request = wire.DeleteSavedSearchRequest(
            request_id=new_request_id(), saved_search_id=found.saved_search_id
        )
        response = wire.DeleteSavedSearchResponse
        await market.ask(f"{_SERVICE}/DeleteSavedSearch", request, response)
        told(f"{found.name}: deleted")

    run(work, caller, data_dir)


async def _get(market: CoreClient, name: str) -> wire.SavedSearch:
    request = wire.GetSavedSearchRequest(name=name)
    response = wire.GetSavedSearchResponse
    return (await market.ask(f"{_SERVICE}/GetSavedSearch", request, response)).saved_search


def _show_one(search: wire.SavedSearch, what: str, *, json: bool) -> None:
    if json:
        show(search)
    else:
        told(f"{search.name}: {what}")


def _row(search: Any) -> tuple[str, ...]:
    return search.name, search.method, when(search.change_time)
