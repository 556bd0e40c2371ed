"""Searches for requests for new services over a real database (use case 1620)."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from foundation.errors import MarketError
from gem.marketplace.v1 import service_request_pb2 as messages
from gem.marketplace.v1 import service_request_service_pb2 as wire
from marketplace.storage_service_request import has_words
from marketplace.storage_tables_service_request import SERVICE_REQUEST
from tests.control_plane import BUSINESS, INTERFACE, ControlPlane, fields_of
from tests.request_desk import SERVICE, create, respond, search, step


@pytest.fixture
async def market(plane: ControlPlane) -> ControlPlane:
    """Give a market with an author and two possible providers."""
    for partner_id in ("author", "seller", "rival"):
        await plane.partner(partner_id)
    return plane


@pytest.mark.usecase(1620)
async def test_a_search_finds_by_every_criterion(market: ControlPlane) -> None:
    await market.publish_interface()
    await create(market, title="Parking 100%_free", country_codes=["DE"])
    some = {"description": "Within a second."}
    await create(market, title="Weather", category="weather", country_codes=[], **some)
    map_ = {"interface_name": INTERFACE, "category": "map", **some}
    third = await create(market, "rival", title="Routes", **map_)
    await respond(market, third)
    closed = await create(market, title="Closed", country_codes=["FR"], **some)
    await step(market, "CloseServiceRequest", closed)
    every = ["Closed", "Routes", "Weather", "Parking 100%_free"]
    own, others = wire.SERVICE_REQUEST_OWNER_OWN, wire.SERVICE_REQUEST_OWNER_OTHERS
    for who, fields, expected in (
        ("seller", {}, every),
        ("seller", {"text": "pARk"}, ["Parking 100%_free"]),
        ("seller", {"text": "0%_f"}, ["Parking 100%_free"]),
        ("seller", {"text": "%"}, ["Parking 100%_free"]),
        ("seller", {"text": "\\"}, []),
        ("seller", {"text": "second weather"}, ["Weather"]),
        ("seller", {"text": "weather routes"}, []),
        ("seller", {"category": "weather"}, ["Weather"]),
        ("seller", {"interface_name": INTERFACE}, ["Routes"]),
        ("seller", {"country_code": "FR"}, ["Closed", "Weather"]),
        ("seller", {"author_id": "rival"}, ["Routes"]),
        ("seller", {"responded_only": True}, ["Routes"]),
        ("rival", {"responded_only": True}, []),
        ("rival", {"owner": own}, ["Routes"]),
        ("rival", {"owner": others}, ["Closed", "Weather", "Parking 100%_free"]),
        (BUSINESS, {"owner": own}, []),
        (BUSINESS, {"owner": others}, every),
        ("seller", {"state": messages.SERVICE_REQUEST_STATE_CLOSED}, ["Closed"]),
        ("seller", {"state": messages.SERVICE_REQUEST_STATE_OPEN}, every[1:]),
        ("seller", {"state": messages.SERVICE_REQUEST_STATE_DELETED}, []),
    ):
        assert await search(market, who, **fields) == expected, fields


@pytest.mark.usecase(1620)
async def test_pages_of_a_search_have_every_request_once(market: ControlPlane) -> None:
    for number in range(5):
        await create(market, title=f"Wish {number}")
    found, token = [], ""
    while True:
        page = {"page_size": 2, "page_token": token}
        answer = await market.ask("seller", f"{SERVICE}/SearchServiceRequests", page=page)
        found += [each.wish.title for each in answer.service_requests]
        token = answer.page.next_page_token
        if not token:
            break
    assert found == [f"Wish {number}" for number in (4, 3, 2, 1, 0)]
    with pytest.raises(MarketError) as caught:
        await search(market, page={"page_token": "bm9uZQ=="})
    assert fields_of(caught.value) == ["page.page_token"]


@pytest.mark.usecase(1620)
async def test_words_are_found_through_their_index(market: ControlPlane) -> None:
    async with market.engine.begin() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        query = select(SERVICE_REQUEST.c.title).where(*has_words("parking bay"))
        compiled = query.compile(connection.sync_engine, compile_kwargs={"literal_binds": True})
        plan = "\n".join(await connection.scalars(text(f"EXPLAIN {compiled}".replace("%%", "%"))))
    assert "service_request_words" in plan
