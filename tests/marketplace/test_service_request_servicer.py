"""ServiceRequestService over a real database (feature 1622)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.marketplace.v1 import service_request_pb2 as messages
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.service_request import OPEN_MAX, RESPONSES_OF_ONE_MAX
from tests.control_plane import BUSINESS, INTERFACE, TECHNICAL, ControlPlane, fields_of
from tests.interceptors.support import raises
from tests.request_desk import SERVICE, change, create, events, respond, search, step, told
from tests.service_requests import later, moment, wish

NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
HIDDEN = raises(ErrorReason.ERROR_REASON_NOT_FOUND)


@pytest.fixture
async def market(plane: ControlPlane) -> ControlPlane:
    """Give a market with an author and two possible providers."""
    for partner_id in ("author", "seller", "rival"):
        await plane.partner(partner_id)
    return plane


@pytest.mark.usecase(1625, 1626)
async def test_an_incomplete_request_is_refused_by_field_and_leaves_nothing(
    market: ControlPlane,
) -> None:
    kept = await create(market)
    for fields, blamed in (
        ({"title": ""}, "wish.title"),
        ({"title": " \t".replace("\t", " ")}, "wish"),
        ({"description": ""}, "wish.description"),
        ({"description": "\n \n"}, "wish"),
        ({"category": ""}, "wish"),
        ({"title": "two\nlines"}, "wish.title"),
        ({"description": "x" * 8001}, "wish.description"),
        ({"country_codes": ["de"]}, "wish.country_codes[0]"),
        ({"country_codes": ["DE", "DE"]}, "wish.country_codes"),
        ({"monthly_call_count": -1}, "wish.monthly_call_count"),
        ({"wished_start_time": Timestamp(seconds=10**12)}, "wish.wished_start_time"),
        ({"valid_until_time": None}, "valid_until_time"),
        ({"valid_until_time": Timestamp(seconds=-(10**12))}, "valid_until_time"),
        ({"valid_until_time": moment(utc_now())}, "valid_until_time"),
        ({"valid_until_time": later(timedelta(days=800))}, "valid_until_time"),
    ):
        for call in (create(market, **fields), change(market, kept, **fields)):
            with pytest.raises(MarketError) as caught:
                await call
            assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
            assert blamed in fields_of(caught.value), fields
    assert await search(market) == [kept.wish.title]
    assert await events(market, kept) == ["CREATED"]


@pytest.mark.usecase(1625)
async def test_the_interface_of_a_request_must_be_published_and_gives_it_its_category(
    market: ControlPlane,
) -> None:
    with pytest.raises(MarketError, check=HIDDEN):
        await create(market, interface_name=INTERFACE)
    await market.publish_interface()
    created = await create(market, interface_name=INTERFACE, category="")
    assert created.wish.category == "c"
    named = await create(market, interface_name=INTERFACE, category="other")
    assert named.wish.category == "other"


@pytest.mark.usecase(1625)
async def test_a_repeated_creation_gives_the_first_result(market: ControlPlane) -> None:
    until = later()
    values = wish()
    method = f"{SERVICE}/CreateServiceRequest"
    call: dict[str, Any] = {"request_id": "one", "wish": values, "valid_until_time": until}
    first = await market.ask("author", method, **call)
    assert await market.ask("author", method, **call) == first
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)):
        await market.ask("author", method, **{**call, "wish": wish(title="Another")})
    assert len(await search(market)) == 1


@pytest.mark.usecase(1625)
async def test_open_requests_of_a_partner_are_bounded_also_at_once(market: ControlPlane) -> None:
    for _ in range(OPEN_MAX - 1):
        await create(market)
    outcomes = await asyncio.gather(*(create(market) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(each, MarketError) for each in outcomes) == 2
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await create(market)
    await create(market, "rival")
    (made,) = [each for each in outcomes if not isinstance(each, BaseException)]
    await step(market, "CloseServiceRequest", made)
    await create(market)


@pytest.mark.usecase(1623)
async def test_details_are_shown_to_all_partners_and_operators_and_how_many_answered_is_not(
    market: ControlPlane,
) -> None:
    created = await create(market)
    await respond(market, created)
    for who in ("author", "seller", "rival", BUSINESS, TECHNICAL):
        found = (await step(market, "GetServiceRequest", created, who)).service_request
        assert found.wish == created.wish
        assert found.author_id == "author"
        assert found.state == messages.SERVICE_REQUEST_STATE_OPEN
        knows = who in {"author", BUSINESS, TECHNICAL}
        assert found.HasField("response_count") is knows
        assert found.response_count == (1 if knows else 0)
    with pytest.raises(MarketError, check=HIDDEN):
        await market.ask("author", f"{SERVICE}/GetServiceRequest", service_request_id="none")


@pytest.mark.usecase(1629)
async def test_a_response_is_seen_by_its_responder_the_author_and_operators(
    market: ControlPlane,
) -> None:
    created = await create(market)
    planned = later()
    one = await respond(market, created, planned_start_time=planned)
    two = await respond(market, created, "rival", text="So can we.")
    assert (one.revision_number, one.planned_start_time) == (1, planned)
    for who, expected in (
        ("author", [one, two]),
        (BUSINESS, [one, two]),
        (TECHNICAL, [one, two]),
        ("seller", [one]),
        ("rival", [two]),
    ):
        found = await step(market, "ListServiceRequestResponses", created, who)
        assert list(found.responses) == expected
    await market.partner("nobody")
    found = await step(market, "ListServiceRequestResponses", created, "nobody")
    assert list(found.responses) == []
    assert await events(market, created, "nobody") == ["CREATED"]
    assert await events(market, created, "rival") == ["CREATED", "RESPONDED"]
    assert await events(market, created) == ["CREATED", "RESPONDED", "RESPONDED"]
    assert [kind for kind, _ in await told(market, "author")] == ["SERVICE_REQUEST_RESPONDED"] * 2
    assert await told(market, "rival") == []


@pytest.mark.usecase(1629)
async def test_a_response_names_a_published_service_of_the_responder_or_none(
    market: ControlPlane,
) -> None:
    await market.publish_interface()
    created = await create(market)
    hidden = await market.register_service("seller")
    foreign = await market.service("rival")
    for service_id, check in (
        (hidden.service_id, NOT_ALLOWED),
        (foreign.service_id, HIDDEN),
        ("none", HIDDEN),
    ):
        with pytest.raises(MarketError, check=check):
            await respond(market, created, service_id=service_id)
    with pytest.raises(MarketError) as caught:
        await respond(market, created, text="")
    assert fields_of(caught.value) == ["text"]
    assert await events(market, created) == ["CREATED"]
    own = await market.service("seller")
    assert (await respond(market, created, service_id=own.service_id)).service_id == own.service_id


@pytest.mark.usecase(1629)
async def test_the_author_and_whoever_has_said_enough_cannot_respond(market: ControlPlane) -> None:
    created = await create(market)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await respond(market, created, "author")
    for _ in range(RESPONSES_OF_ONE_MAX):
        await respond(market, created)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await respond(market, created)
    await respond(market, created, "rival")


@pytest.mark.usecase(1626)
async def test_a_change_counts_the_revision_and_its_responders_are_told(
    market: ControlPlane,
) -> None:
    created = await create(market)
    await respond(market, created)
    await respond(market, created)
    changed = await change(market, created, title="Parking bays", revision_number=1)
    assert (changed.revision_number, changed.wish.title) == (2, "Parking bays")
    assert changed.create_time == created.create_time
    assert await told(market, "seller") == [
        ("SERVICE_REQUEST_CHANGED", "Request for a new service changed")
    ]
    assert await told(market, "rival") == []
    assert (await respond(market, changed, "rival")).revision_number == 2
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_CONFLICT)):
        await change(market, created, revision_number=1)
    for who in ("seller", "rival"):
        with pytest.raises(MarketError, check=FORBIDDEN):
            await change(market, created, who)
    history = (await step(market, "ListServiceRequestEvents", created, "rival")).events
    wrote = [each for each in history if each.HasField("wish")]
    assert [each.wish.title for each in wrote] == [created.wish.title, "Parking bays"]
    assert [each.revision_number for each in wrote] == [1, 2]


@pytest.mark.usecase(1626)
async def test_of_two_changes_of_one_revision_one_wins(market: ControlPlane) -> None:
    created = await create(market)
    outcomes = await asyncio.gather(
        *(
            change(market, created, title=title, revision_number=1)
            for title in ("One", "Two", "Three")
        ),
        return_exceptions=True,
    )
    lost = [each for each in outcomes if isinstance(each, MarketError)]
    assert [each.reason for each in lost] == [ErrorReason.ERROR_REASON_CONFLICT] * 2
    assert await events(market, created) == ["CREATED", "CHANGED"]


@pytest.mark.usecase(1627)
async def test_a_deleted_request_is_gone_for_others_and_stays_for_its_author_and_operators(
    market: ControlPlane,
) -> None:
    created = await create(market)
    await respond(market, created)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await step(market, "DeleteServiceRequest", created, "rival")
    await step(market, "DeleteServiceRequest", created)
    assert await told(market, "seller") == [
        ("SERVICE_REQUEST_CHANGED", "Request for a new service deleted")
    ]
    reads = ("GetServiceRequest", "ListServiceRequestResponses", "ListServiceRequestEvents")
    for rpc in (*reads, "DeleteServiceRequest"):
        with pytest.raises(MarketError, check=HIDDEN):
            await step(market, rpc, created, "seller")
    with pytest.raises(MarketError, check=HIDDEN):
        await respond(market, created)
    assert await search(market) == []
    for who in ("author", BUSINESS):
        assert await search(market, who) == [created.wish.title]
        assert await events(market, created, who) == ["CREATED", "RESPONDED", "DELETED"]
    for rpc in ("DeleteServiceRequest", "CloseServiceRequest"):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            await step(market, rpc, created)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await change(market, created)


@pytest.mark.usecase(1629)
async def test_a_request_expires_at_its_instant_and_its_author_prolongs_it(
    market: ControlPlane,
) -> None:
    start = market.now = utc_now()
    until = start + timedelta(hours=1)
    created = await create(market, valid_until_time=moment(until))
    market.now = until - timedelta(microseconds=1)
    await respond(market, created)
    market.now = until
    found = (await step(market, "GetServiceRequest", created, "seller")).service_request
    assert found.state == messages.SERVICE_REQUEST_STATE_EXPIRED
    assert await search(market, state=messages.SERVICE_REQUEST_STATE_OPEN) == []
    expired = messages.SERVICE_REQUEST_STATE_EXPIRED
    assert await search(market, state=expired) == [created.wish.title]
    for call in (respond(market, created), step(market, "CloseServiceRequest", created)):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            await call
    again = await change(market, created, valid_until_time=moment(until + timedelta(hours=1)))
    assert again.state == messages.SERVICE_REQUEST_STATE_OPEN
    await respond(market, created)


async def test_what_ends_a_request_and_a_response_at_once_leave_one_line_of_history(
    market: ControlPlane,
) -> None:
    created = await create(market)
    outcomes = await asyncio.gather(
        step(market, "CloseServiceRequest", created),
        step(market, "CloseServiceRequest", created),
        respond(market, created),
        return_exceptions=True,
    )
    closed = outcomes[:2]
    assert sum(isinstance(each, MarketError) for each in closed) == 1
    history = await events(market, created)
    if isinstance(outcomes[2], MarketError):
        assert history == ["CREATED", "CLOSED"]
    else:
        assert history == ["CREATED", "RESPONDED", "CLOSED"]
        assert [title for _, title in await told(market, "seller")] == [
            "Request for a new service closed"
        ]


async def test_history_and_responses_never_change(market: ControlPlane) -> None:
    await respond(market, await create(market))
    for table in ("service_request_event", "service_request_response"):
        for statement in (f"UPDATE marketplace.{table} SET revision = 7",
                          f"DELETE FROM marketplace.{table}"):  # fmt: skip
            with pytest.raises(DBAPIError, match="never change"):
                async with market.engine.begin() as connection:
                    await connection.execute(text(statement))
