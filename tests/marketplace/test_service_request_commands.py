"""Commands of ServiceRequestService that come twice, too late, or from who may not act any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1 import service_request_pb2 as messages
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, ControlPlane, fields_of
from tests.interceptors.support import raises
from tests.request_desk import SERVICE, change, create, events, respond, step, told
from tests.service_requests import later, wish

NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
REUSED = raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)
INACTIVE = raises(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE)


@pytest.fixture
async def market(plane: ControlPlane) -> ControlPlane:
    """Give a market with an author and two possible providers."""
    for partner_id in ("author", "seller", "rival"):
        await plane.partner(partner_id)
    return plane


async def inactivate(plane: ControlPlane, partner_id: str) -> None:
    """End that a partner may act."""
    await plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id=partner_id)


@pytest.mark.usecase(1626, 1627, 1629)
async def test_every_command_that_comes_again_gives_its_first_result_and_is_told_once(
    market: ControlPlane,
) -> None:
    created = await create(market)
    for method, who, fields in (
        ("RespondToServiceRequest", "seller", {"text": "We can."}),
        ("ChangeServiceRequest", "author", {"wish": wish(), "valid_until_time": later()}),
        ("CloseServiceRequest", "author", {}),
        ("DeleteServiceRequest", "author", {}),
    ):
        values: dict[str, Any] = {"request_id": f"once {method}".replace(" ", "-"), **fields}
        first = await step(market, method, created, who, **values)
        again = await step(market, method, created, who, **values)
        assert again == first
    expected = ["CREATED", "RESPONDED", "CHANGED", "CLOSED", "DELETED"]
    assert await events(market, created) == expected
    assert len(await told(market, "author")) == 1
    assert [title.rpartition(" ")[2] for _, title in await told(market, "seller")] == [
        "changed",
        "closed",
        "deleted",
    ]


@pytest.mark.usecase(1629)
async def test_an_id_that_was_used_for_another_command_is_refused(market: ControlPlane) -> None:
    created = await create(market)
    await respond(market, created, request_id="one")
    for call in (
        respond(market, created, request_id="one", text="Another text."),
        create(market, "seller", request_id="one"),
    ):
        with pytest.raises(MarketError, check=REUSED):
            await call
    # Everybody has ids of its own.
    await respond(market, created, "rival", request_id="one")
    found = await step(market, "ListServiceRequestResponses", created)
    assert [each.responder_id for each in found.responses] == ["seller", "rival"]


@pytest.mark.usecase(1625, 1629)
async def test_who_was_inactivated_meanwhile_neither_asks_nor_responds(
    market: ControlPlane,
) -> None:
    created = await create(market)
    await inactivate(market, "seller")
    # The certificate is refused at the door; here is what was on its way already.
    with pytest.raises(MarketError, check=INACTIVE):
        await create(market, "seller")
    with pytest.raises(MarketError, check=INACTIVE):
        await respond(market, created)
    assert await events(market, created) == ["CREATED"]
    assert await told(market, "author") == []


@pytest.mark.usecase(1626)
async def test_a_change_that_is_refused_changes_nothing(market: ControlPlane) -> None:
    created = await create(market)
    await respond(market, created)
    for fields in ({"interface_name": "no.such.Interface"}, {"title": ""}):
        with pytest.raises(MarketError):
            await change(market, created, **fields)
    found = (await step(market, "GetServiceRequest", created)).service_request
    assert found.revision_number == 1
    assert found.wish == created.wish
    assert await told(market, "seller") == []


@pytest.mark.usecase(1629)
async def test_responses_at_once_stay_within_the_bound(market: ControlPlane) -> None:
    created = await create(market)
    outcomes = await asyncio.gather(
        *(respond(market, created, text=f"Response {number}") for number in range(8)),
        return_exceptions=True,
    )
    refused = [each for each in outcomes if isinstance(each, MarketError)]
    assert [each.reason for each in refused] == [ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED] * 3
    found = (await step(market, "GetServiceRequest", created)).service_request
    assert found.response_count == 5


async def test_responses_and_history_come_page_by_page(market: ControlPlane) -> None:
    created = await create(market)
    texts = [f"Response {number}" for number in range(3)]
    for text in texts:
        await respond(market, created, text=text)
    for rpc, field, count in (
        ("ListServiceRequestResponses", "responses", 3),
        ("ListServiceRequestEvents", "events", 4),
    ):
        found: list[Any] = []
        page: dict[str, Any] = {"page_size": 2}
        for _ in range(2):
            answer = await step(market, rpc, created, page=page)
            assert len(getattr(answer, field)) <= 2
            found += getattr(answer, field)
            page["page_token"] = answer.page.next_page_token
        assert len(found) == count
        assert not page["page_token"]
        with pytest.raises(MarketError) as caught:
            await step(market, rpc, created, page={"page_token": "!"})
        assert fields_of(caught.value) == ["page.page_token"]


@pytest.mark.usecase(1627)
async def test_a_closed_request_is_still_seen_and_can_be_deleted(market: ControlPlane) -> None:
    created = await create(market)
    await step(market, "CloseServiceRequest", created)
    found = (await step(market, "GetServiceRequest", created, "rival")).service_request
    assert found.state == messages.SERVICE_REQUEST_STATE_CLOSED
    for call in (respond(market, created), change(market, created)):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            await call
    deleted = await step(market, "DeleteServiceRequest", created)
    assert deleted.service_request.state == messages.SERVICE_REQUEST_STATE_DELETED


@pytest.mark.parametrize(
    ("method", "fields", "blamed"),
    [
        ("GetServiceRequest", {}, "service_request_id"),
        ("ListServiceRequestEvents", {"service_request_id": "x" * 65}, "service_request_id"),
        ("SearchServiceRequests", {"country_code": "xx"}, "country_code"),
        ("SearchServiceRequests", {"text": "x" * 201}, "text"),
        ("SearchServiceRequests", {"category": "a\0b"}, "category"),
        ("SearchServiceRequests", {"state": 9}, "state"),
        ("SearchServiceRequests", {"owner": 9}, "owner"),
        ("SearchServiceRequests", {"page": {"page_size": 1001}}, "page.page_size"),
        ("DeleteServiceRequest", {"service_request_id": "r", "request_id": ""}, "request_id"),
        ("ChangeServiceRequest", {"service_request_id": "r"}, "wish"),
    ],
)
async def test_what_breaks_a_rule_of_the_interface_is_refused_by_field(
    plane: ControlPlane, method: str, fields: dict[str, Any], blamed: str
) -> None:
    with pytest.raises(MarketError) as caught:
        await plane.ask("author", f"{SERVICE}/{method}", **fields)
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert blamed in fields_of(caught.value)
