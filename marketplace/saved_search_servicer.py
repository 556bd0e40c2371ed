"""SavedSearchService: criteria of searches, kept for later use."""

from __future__ import annotations

from collections.abc import Callable

from foundation.validation import violations
from gem.marketplace.v1 import saved_search_service_pb2 as wire
from interceptors.call import Call
from marketplace.actor import Actor
from marketplace.rendering import timestamp
from marketplace.saved_search import (
    SavedSearch,
    check_room,
    read_criteria,
    shown,
)
from marketplace.service_registry_servicer import new_id
from marketplace.storage_command import Commands, Work
from marketplace.storage_paging import page_by_text
from marketplace.storage_saved_search import SavedSearchStorage


class SavedSearchServicer:
    """Serves `gem.marketplace.v1.SavedSearchService`."""

    def __init__(self, commands: Commands, make_id: Callable[[], str] = new_id) -> None:
        self._commands = commands
        self._make_id = make_id

    async def SaveSearch(  # noqa: N802  # the rpc's name
        self, request: wire.SaveSearchRequest, call: Call
    ) -> wire.SaveSearchResponse:
        """Save criteria under a name."""
        criteria = read_criteria(request.method, _given(request.criteria), violations)

        async def work(w: Work) -> wire.SaveSearchResponse:
            storage = _own(w)
            check_room(await storage.count())
            search = SavedSearch(
                saved_search_id=self._make_id(),
                owner=w.actor.name,
                partner_id=_partner_of(w.actor),
                name=request.name,
                method=request.method,
                criteria=criteria,
                created_at=w.now,
                changed_at=w.now,
            )
            await storage.add(search)
            return wire.SaveSearchResponse(saved_search=_render(search))

        return await self._commands.run(request, call, wire.SaveSearchResponse, work)

    async def GetSavedSearch(  # noqa: N802  # the rpc's name
        self, request: wire.GetSavedSearchRequest, call: Call
    ) -> wire.GetSavedSearchResponse:
        """Give a search with its criteria."""
        async with self._commands.read(call) as w:
            storage = _own(w)
            if request.WhichOneof("search") == "name":
                search = await storage.by_name(request.name)
            else:
                search = await storage.by_id(request.saved_search_id)
        return wire.GetSavedSearchResponse(saved_search=_render(search))

    async def ListSavedSearches(  # noqa: N802  # the rpc's name
        self, request: wire.ListSavedSearchesRequest, call: Call
    ) -> wire.ListSavedSearchesResponse:
        """List the caller's searches by name."""
        page = page_by_text(request.page)
        async with self._commands.read(call) as w:
            found, info = await _own(w).page(page, request.method)
        rendered = [_render(search) for search in found]
        for each in rendered:
            each.ClearField("criteria")
            each.ClearField("criteria_json")
        return wire.ListSavedSearchesResponse(saved_searches=rendered, page=info)

    async def RenameSavedSearch(  # noqa: N802  # the rpc's name
        self, request: wire.RenameSavedSearchRequest, call: Call
    ) -> wire.RenameSavedSearchResponse:
        """Give a search another name."""

        async def work(w: Work) -> wire.RenameSavedSearchResponse:
            storage, search_id = _own(w), request.saved_search_id
            await storage.locked(search_id)
            await storage.rename(search_id, request.name, w.now)
            after = await storage.by_id(search_id)
            return wire.RenameSavedSearchResponse(saved_search=_render(after))

        return await self._commands.run(request, call, wire.RenameSavedSearchResponse, work)

    async def ReplaceSavedSearch(  # noqa: N802  # the rpc's name
        self, request: wire.ReplaceSavedSearchRequest, call: Call
    ) -> wire.ReplaceSavedSearchResponse:
        """Replace the criteria of a search."""

        async def work(w: Work) -> wire.ReplaceSavedSearchResponse:
            storage, search_id = _own(w), request.saved_search_id
            before = await storage.locked(search_id)
            criteria = read_criteria(before.method, _given(request.criteria), violations)
            await storage.replace(search_id, criteria, w.now)
            after = await storage.by_id(search_id)
            return wire.ReplaceSavedSearchResponse(saved_search=_render(after))

        return await self._commands.run(request, call, wire.ReplaceSavedSearchResponse, work)

    async def DeleteSavedSearch(  # noqa: N802  # the rpc's name
        self, request: wire.DeleteSavedSearchRequest, call: Call
    ) -> wire.DeleteSavedSearchResponse:
        """Delete a search."""

        async def work(w: Work) -> wire.DeleteSavedSearchResponse:
            storage = _own(w)
            await storage.locked(request.saved_search_id)
            await storage.delete(request.saved_search_id)
            return wire.DeleteSavedSearchResponse()

        return await self._commands.run(request, call, wire.DeleteSavedSearchResponse, work)


def _own(w: Work) -> SavedSearchStorage:
    return SavedSearchStorage(w.connection, w.actor.name)


def _partner_of(actor: Actor) -> str:
    return actor.subject_id if actor.is_partner else ""


def _given(criteria: wire.SearchCriteria) -> bytes | str:
    return criteria.json if criteria.WhichOneof("form") == "json" else criteria.message


def _render(search: SavedSearch) -> wire.SavedSearch:
    message_name, text = shown(search)
    return wire.SavedSearch(
        saved_search_id=search.saved_search_id,
        name=search.name,
        method=search.method,
        message_name=message_name,
        criteria=search.criteria,
        criteria_json=text,
        create_time=timestamp(search.created_at),
        change_time=timestamp(search.changed_at),
    )
