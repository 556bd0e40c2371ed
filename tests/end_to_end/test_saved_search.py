"""Criteria of searches, saved and loaded over mutual TLS and in sessions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grpc import aio

from gem.marketplace.v1 import (
    contract_service_pb2,
    interface_catalog_service_pb2,
    partner_service_pb2,
    service_registry_service_pb2,
    service_request_service_pb2,
    transaction_service_pb2,
    user_pb2,
)
from gem.marketplace.v1 import (
    saved_search_service_pb2 as wire,
)
from gem.marketplace.v1.saved_search_service_pb2_grpc import SavedSearchServiceStub
from gem.marketplace.v1.service_request_service_pb2_grpc import ServiceRequestServiceStub
from gemarket.administration import new_request_id
from tests.end_to_end.charging import reason_of
from tests.end_to_end.people import People, token_metadata
from tests.end_to_end.request_calls import asked
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket, new_id

_PACKAGE = "gem.marketplace.v1"


async def ask(party: Party | aio.Channel, method: str, token: str = "", /, **fields: Any) -> Any:
    """Call SavedSearchService; a command without `request_id` gets a fresh one."""
    kind = getattr(wire, f"{method}Request")
    if "request_id" in kind.DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", new_request_id())
    channel = party.core.channel if isinstance(party, Party) else party
    metadata = token_metadata(token) if token else None
    call: Any = getattr(SavedSearchServiceStub(channel), method)
    return await call(kind(**fields), timeout=20, metadata=metadata)


async def refusal(call: Any) -> str:
    """Give the reason of a refusal."""
    with pytest.raises(aio.AioRpcError) as refused:
        await call
    return reason_of(refused.value)


@pytest.mark.parametrize(
    ("method", "criteria"),
    [
        pytest.param(
            "ServiceRegistryService/ListServices",
            service_registry_service_pb2.ListServicesRequest(interface_name=EVSE_SEARCH),
            marks=pytest.mark.usecase(1239),
        ),
        pytest.param(
            "ContractService/ListContracts",
            contract_service_pb2.ListContractsRequest(provider_id="volt"),
            marks=pytest.mark.usecase(1245),
        ),
        pytest.param(
            "PartnerService/ListPartners",
            partner_service_pb2.ListPartnersRequest(),
            marks=pytest.mark.usecase(1373),
        ),
        pytest.param(
            "TransactionService/ListTransactions",
            transaction_service_pb2.ListTransactionsRequest(
                filter=transaction_service_pb2.TransactionFilter(
                    role=transaction_service_pb2.TRANSACTION_ROLE_SELLER
                )
            ),
            marks=pytest.mark.usecase(1242),
        ),
        pytest.param(
            "InterfaceCatalogService/ListInterfaces",
            interface_catalog_service_pb2.ListInterfacesRequest(category="charging"),
            marks=pytest.mark.usecase(1475),
        ),
        pytest.param(
            "ServiceRequestService/SearchServiceRequests",
            service_request_service_pb2.SearchServiceRequestsRequest(country_code="DE"),
            marks=pytest.mark.usecase(1620),
        ),
    ],
)
async def test_entered_criteria_are_stored_for_later_use_and_loaded_again(
    whole: WholeMarket, method: str, criteria: Any
) -> None:
    owner = whole.business if method.startswith("Partner") else await whole.requester()
    name, path = new_id("search"), f"{_PACKAGE}.{method}"
    given = {"message": criteria.SerializeToString()}
    saved = await ask(owner, "SaveSearch", name=name, method=path, criteria=given)
    loaded = (await ask(owner, "GetSavedSearch", name=name)).saved_search
    assert loaded == saved.saved_search
    assert loaded.message_name == criteria.DESCRIPTOR.full_name
    again = type(criteria).FromString(loaded.criteria)
    assert again == criteria
    service, _, rpc = method.partition("/")
    # What was loaded is a request of the rpc as it is.
    call: Any = owner.core.channel.unary_unary(f"/{_PACKAGE}.{service}/{rpc}")
    await call(loaded.criteria, timeout=20)


@pytest.mark.usecase(1620)
async def test_a_loaded_search_finds_what_was_written_since(whole: WholeMarket) -> None:
    author, provider = await whole.requester(), await whole.operator()
    path = f"{_PACKAGE}.ServiceRequestService/SearchServiceRequests"
    criteria = {"json": json.dumps({"author_id": author.partner_id, "text": "tyres"})}
    await ask(provider, "SaveSearch", name="tyres", method=path, criteria=criteria)
    await asked(author, title="Changes tyres")
    loaded = (await ask(provider, "GetSavedSearch", name="tyres")).saved_search
    request = service_request_service_pb2.SearchServiceRequestsRequest.FromString(loaded.criteria)
    stub: Any = ServiceRequestServiceStub(provider.core.channel)
    found = await stub.SearchServiceRequests(request, timeout=20)
    assert [each.wish.title for each in found.service_requests] == ["Changes tyres"]


@pytest.mark.usecase(1242, 1245)
async def test_what_cannot_be_searched_for_is_not_saved(whole: WholeMarket) -> None:
    owner = await whole.requester()
    path = f"{_PACKAGE}.TransactionService/ListTransactions"
    for fields in (
        {"name": "", "method": path},
        {"name": "n", "method": f"{_PACKAGE}.ContractService/TerminateContract"},
        {"name": "n", "method": path, "criteria": {"json": '{"filter": {"call_id": "x"}}'}},
        {"name": "n", "method": path, "criteria": {"json": "{]"}},
        {"name": "n", "method": path, "criteria": {"message": b"\xff"}},
    ):
        assert await refusal(ask(owner, "SaveSearch", **fields)) == "REQUEST_INVALID"
    assert not (await ask(owner, "ListSavedSearches")).saved_searches


@pytest.mark.usecase(1239)
async def test_each_user_and_each_back_end_has_its_own_searches(whole: WholeMarket) -> None:
    people, partner = People(whole), await whole.requester()
    role = user_pb2.USER_ROLE_ADMINISTRATOR
    token = await people.user(partner.partner_id, "ada", [role])
    path = f"{_PACKAGE}.ServiceRegistryService/ListServices"
    saved = await ask(people.channel, "SaveSearch", token, name="mine", method=path)
    key = {"saved_search_id": saved.saved_search.saved_search_id}
    for call in (
        ask(partner, "DeleteSavedSearch", **key),
        ask(partner, "RenameSavedSearch", name="theirs", **key),
        ask(partner, "GetSavedSearch", name="mine"),
    ):
        assert await refusal(call) == "NOT_FOUND"
    taken = ask(people.channel, "SaveSearch", token, name="mine", method=path)
    assert await refusal(taken) == "ALREADY_EXISTS"
    await ask(partner, "SaveSearch", name="mine", method=path)
    renamed = await ask(people.channel, "RenameSavedSearch", token, name="mine 2", **key)
    assert renamed.saved_search.name == "mine 2"
    await ask(people.channel, "DeleteSavedSearch", token, **key)
    assert not (await ask(people.channel, "ListSavedSearches", token)).saved_searches
    assert len((await ask(partner, "ListSavedSearches")).saved_searches) == 1
