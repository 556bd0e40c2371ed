"""Requests for new services over mutual TLS and in sessions (feature 1622)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from grpc import aio

from gem.marketplace.v1 import service_request_pb2 as messages
from gem.marketplace.v1 import service_request_service_pb2 as wire
from gem.marketplace.v1 import user_pb2
from gemarket.administration import new_request_id
from tests.end_to_end.charging import reason_of
from tests.end_to_end.people import People, token_metadata
from tests.end_to_end.request_calls import RequestCalls, asked
from tests.end_to_end.test_notification import kinds, listed
from tests.end_to_end.whole_market import Party, WholeMarket
from tests.service_requests import later, wish


async def refusal(call: Any) -> str:
    """Give the reason of a refusal."""
    with pytest.raises(aio.AioRpcError) as refused:
        await call
    return reason_of(refused.value)


async def titles(party: Party, **fields: Any) -> list[str]:
    """Search; gives the titles."""
    found = await RequestCalls(party).ask("SearchServiceRequests", **fields)
    return [each.wish.title for each in found.service_requests]


@pytest.mark.usecase(1625)
async def test_an_incomplete_request_is_refused(whole: WholeMarket) -> None:
    author = RequestCalls(requester := await whole.requester())
    values = {"wish": wish(), "valid_until_time": later()}
    for wrong in (
        {"wish": None},
        {"wish": wish(title="")},
        {"wish": wish(description=" ")},
        {"wish": wish(category="")},
        {"valid_until_time": None},
    ):
        call = author.ask("CreateServiceRequest", **{**values, **wrong})
        assert await refusal(call) == "REQUEST_INVALID"
    unknown = {"wish": wish(interface_name="no.such.Interface")}
    call = author.ask("CreateServiceRequest", **{**values, **unknown})
    assert await refusal(call) == "NOT_FOUND"
    own = wire.SERVICE_REQUEST_OWNER_OWN
    assert await titles(requester, owner=own) == []


@pytest.mark.usecase(1625, 1620, 1623, 1629)
async def test_from_a_request_to_a_response_that_its_author_is_told_of(whole: WholeMarket) -> None:
    author, provider = await whole.requester(), await whole.operator()
    title = f"Wash at the charging point of {author.partner_id}"
    created = await asked(author, title=title, category="washing")

    assert await titles(provider, text="no such words at all") == []
    assert await titles(provider, text=f"wash {author.partner_id}") == [title]
    calls = RequestCalls(provider)
    shown = (await calls.ask("GetServiceRequest", created)).service_request
    assert shown.wish.preconditions == created.wish.preconditions
    assert shown.wish.postconditions == created.wish.postconditions
    assert shown.wish.description == created.wish.description

    service_id = await whole.offer(provider, "127.0.0.1:9")
    said = {"text": "We can, from May on.", "service_id": service_id}
    response = (await calls.ask("RespondToServiceRequest", created, **said)).response
    assert response.responder_id == provider.partner_id
    (latest, *_) = await listed(author)
    assert kinds([latest]) == ["SERVICE_REQUEST_RESPONDED"]
    assert (latest.sender_id, latest.service_id) == (provider.partner_id, service_id)
    assert created.service_request_id in latest.text

    found = await RequestCalls(author).ask("ListServiceRequestResponses", created)
    assert list(found.responses) == [response]
    bystander = RequestCalls(await whole.operator())
    assert not (await bystander.ask("ListServiceRequestResponses", created)).responses
    operator = RequestCalls(whole.business)
    assert (await operator.ask("GetServiceRequest", created)).service_request.response_count == 1
    assert await titles(provider, responded_only=True) == [title]


@pytest.mark.usecase(1629)
async def test_who_cannot_respond_is_told_why(whole: WholeMarket) -> None:
    author, provider, other = [await whole.operator() for _ in range(3)]
    foreign = await whole.offer(other, "127.0.0.1:9")
    created = await asked(author)
    calls, method = RequestCalls(provider), "RespondToServiceRequest"
    own = RequestCalls(author).ask(method, created, text="To myself.")
    assert await refusal(own) == "ROLE_NOT_ALLOWED"
    assert await refusal(calls.ask(method, created)) == "REQUEST_INVALID"
    assert await refusal(calls.ask(method, created, text="t", service_id=foreign)) == "NOT_FOUND"
    await RequestCalls(author).ask("CloseServiceRequest", created)
    assert await refusal(calls.ask(method, created, text="Late.")) == "STATE_NOT_ALLOWED"
    assert "SERVICE_REQUEST_RESPONDED" not in kinds(await listed(author))


@pytest.mark.usecase(1626)
async def test_a_change_is_refused_to_others_and_told_to_who_responded(whole: WholeMarket) -> None:
    author, provider = await whole.requester(), await whole.operator()
    created = await asked(author)
    said = {"text": "We can."}
    await RequestCalls(provider).ask("RespondToServiceRequest", created, **said)
    values = {"wish": wish(title="Changed"), "valid_until_time": later(), "revision_number": 1}
    rpc = "ChangeServiceRequest"
    assert await refusal(RequestCalls(provider).ask(rpc, created, **values)) == "ROLE_NOT_ALLOWED"
    incomplete = {**values, "wish": wish(title="")}
    assert await refusal(RequestCalls(author).ask(rpc, created, **incomplete)) == "REQUEST_INVALID"
    changed = (await RequestCalls(author).ask(rpc, created, **values)).service_request
    assert (changed.revision_number, changed.wish.title) == (2, "Changed")
    assert await refusal(RequestCalls(author).ask(rpc, created, **values)) == "CONFLICT"
    assert kinds(await listed(provider))[0] == "SERVICE_REQUEST_CHANGED"


@pytest.mark.usecase(1627)
async def test_a_deleted_request_is_found_by_its_author_only(whole: WholeMarket) -> None:
    author, provider = await whole.requester(), await whole.operator()
    title = f"Soon gone, says {author.partner_id}"
    created = await asked(author, title=title)
    await RequestCalls(provider).ask("RespondToServiceRequest", created, text="We can.")
    rpc = "DeleteServiceRequest"
    assert await refusal(RequestCalls(provider).ask(rpc, created)) == "ROLE_NOT_ALLOWED"
    repeated = new_request_id()
    for _ in range(2):
        answer = await RequestCalls(author).ask(rpc, created, request_id=repeated)
        assert answer.service_request.state == messages.SERVICE_REQUEST_STATE_DELETED
    assert await refusal(RequestCalls(author).ask(rpc, created)) == "STATE_NOT_ALLOWED"
    for method in ("GetServiceRequest", rpc, "ListServiceRequestEvents"):
        assert await refusal(RequestCalls(provider).ask(method, created)) == "NOT_FOUND"
    assert await titles(provider, author_id=author.partner_id) == []
    assert await titles(author, author_id=author.partner_id) == [title]
    assert next(each.title for each in await listed(provider)).endswith("deleted")
    history = await RequestCalls(author).ask("ListServiceRequestEvents", created)
    assert len(history.events) == 3


@pytest.mark.usecase(1626, 1627)
async def test_of_a_change_and_a_deletion_at_once_the_deletion_is_the_last(
    whole: WholeMarket,
) -> None:
    author = await whole.requester()
    created = await asked(author)
    calls = RequestCalls(author)
    values = {"wish": wish(title="Changed"), "valid_until_time": later()}
    outcomes = await asyncio.gather(
        calls.ask("ChangeServiceRequest", created, **values),
        calls.ask("DeleteServiceRequest", created),
        calls.ask("DeleteServiceRequest", created),
        return_exceptions=True,
    )
    lost = [reason_of(each) for each in outcomes if isinstance(each, aio.AioRpcError)]
    assert set(lost) == {"STATE_NOT_ALLOWED"}
    history = (await calls.ask("ListServiceRequestEvents", created)).events
    assert len(history) == 1 + 3 - len(lost)
    assert history[-1].kind == messages.SERVICE_REQUEST_EVENT_KIND_DELETED


@pytest.mark.usecase(1620, 1629)
async def test_a_request_ends_by_itself(whole: WholeMarket) -> None:
    author, provider = await whole.requester(), await whole.operator()
    soon = later(timedelta(seconds=1))
    values = {"wish": wish(), "valid_until_time": soon}
    created = (await RequestCalls(author).ask("CreateServiceRequest", **values)).service_request
    await asyncio.sleep(1.1)
    calls, mine = RequestCalls(provider), {"author_id": author.partner_id}
    assert await titles(provider, state=messages.SERVICE_REQUEST_STATE_OPEN, **mine) == []
    assert len(await titles(provider, state=messages.SERVICE_REQUEST_STATE_EXPIRED, **mine)) == 1
    late = calls.ask("RespondToServiceRequest", created, text="Too late.")
    assert await refusal(late) == "STATE_NOT_ALLOWED"


@pytest.mark.usecase(1625, 1629, 1623)
async def test_buyers_ask_and_sellers_respond_for_their_partner(whole: WholeMarket) -> None:
    people, partner = People(whole), await whole.requester()
    other = await asked(await whole.requester())
    roles = {"bea": user_pb2.USER_ROLE_BUYER, "sam": user_pb2.USER_ROLE_SELLER}
    administrator = user_pb2.USER_ROLE_ADMINISTRATOR
    by = await people.user(partner.partner_id, "adam", [administrator])
    calls = {}
    for name, role in roles.items():
        token = await people.user(partner.partner_id, name, [role], by)
        calls[name] = RequestCalls(channel=people.channel, metadata=token_metadata(token))
    values = {"wish": wish(), "valid_until_time": later()}
    wrong = calls["sam"].ask("CreateServiceRequest", **values)
    assert await refusal(wrong) == "ROLE_NOT_ALLOWED"
    created = (await calls["bea"].ask("CreateServiceRequest", **values)).service_request
    assert created.author_id == partner.partner_id
    wrong = calls["bea"].ask("RespondToServiceRequest", other, text="We can.")
    assert await refusal(wrong) == "ROLE_NOT_ALLOWED"
    response = (await calls["sam"].ask("RespondToServiceRequest", other, text="We can.")).response
    assert response.responder_id == partner.partner_id
    shown = await calls["bea"].ask("ListServiceRequestResponses", other)
    assert list(shown.responses) == [response]
    # Whose person it was is told to nobody.
    (event,) = (await calls["sam"].ask("ListServiceRequestEvents", created)).events
    assert event.actor == partner.partner_id
