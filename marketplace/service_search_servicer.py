"""The search for services (use case 1239)."""

from __future__ import annotations

import base64
import re

from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1 import service_pb2
from gem.marketplace.v1 import service_search_pb2 as wire
from interceptors.call import Call
from marketplace.actor import Actor
from marketplace.rendering import enum_member
from marketplace.service import Service, ServiceState
from marketplace.service_change import PAGE_MAX, ServiceParts
from marketplace.service_description import refused, search_words
from marketplace.service_rendering import STATE, render_service
from marketplace.storage_paging import page_by_text, refused_token
from marketplace.storage_service_query import Relation
from marketplace.storage_service_search import SearchCriteria, SearchPage, ServiceSearch
from marketplace.storage_service_spelling import as_written

_RELATION = "SERVICE_RELATION"
#: Whether words spelled alike count, then rank and position of the last service of a page.
_TOKEN = re.compile(r"([01])\.([0-9]{1,4})\.([0-9]{1,18})")


class ServiceSearchServicer:
    """The part of ServiceRegistryService that searches."""

    def __init__(self, parts: ServiceParts) -> None:
        self._commands = parts.commands

    async def SearchServices(  # noqa: N802  # the rpc's name
        self, request: wire.SearchServicesRequest, call: Call
    ) -> wire.SearchServicesResponse:
        """Find services; where none is found the page is empty."""
        criteria = criteria_of(request)
        page, alike = _page(request)
        async with self._commands.read(call) as w:
            if criteria.relation is not None and not w.actor.is_partner:
                text = "must be unspecified: an operator is no partner"
                raise refused("relation", text, "relation")
            search = ServiceSearch(w.connection, w.actor)
            plain = as_written(criteria.words)
            meant = await search.spelled_alike(criteria.words) if alike else plain
            found = await search.find(criteria, page, meant)
            if not found and criteria.words and page.after is None:
                meant = await search.spelled_alike(criteria.words)
                found = await search.find(criteria, page, meant) if meant != plain else []
        return _render(found, page, w.actor, alike=meant != plain and bool(found))


def criteria_of(request: wire.SearchServicesRequest) -> SearchCriteria:
    """Read the criteria of a search; raises MarketError REQUEST_INVALID."""
    states = (
        enum_member(ServiceState, service_pb2.ServiceState, STATE, number)
        for number in request.states
    )
    relation = enum_member(Relation, wire.ServiceRelation, _RELATION, request.relation)
    return SearchCriteria(
        words=search_words(request.text),
        categories=tuple(request.categories),
        interface_name=request.interface_name,
        provider_id=request.provider_id,
        states=tuple(state for state in states if state is not None),
        relation=relation,
        hosting_country_code=request.hosting_country_code,
    )


def _page(request: wire.SearchServicesRequest) -> tuple[SearchPage, bool]:
    page = page_by_text(request.page, PAGE_MAX)
    if page.after is None:
        return SearchPage(page.size), False
    match = _TOKEN.fullmatch(page.after)
    if match is None:
        raise refused_token()
    alike, rank, position = map(int, match.groups())
    return SearchPage(page.size, (rank, position)), bool(alike)


def _render(
    found: list[tuple[Service, int]], page: SearchPage, actor: Actor, *, alike: bool
) -> wire.SearchServicesResponse:
    shown, info = found[: page.size], PageInfo()
    if len(found) > page.size:
        last, rank = shown[-1]
        token = f"{int(alike)}.{rank}.{last.position}"
        info.next_page_token = base64.urlsafe_b64encode(token.encode()).decode()
    return wire.SearchServicesResponse(
        found=[
            wire.FoundService(service=render_service(service, (), actor), rank_permille=rank)
            for service, rank in shown
        ],
        spelled_alike=alike,
        page=info,
    )
