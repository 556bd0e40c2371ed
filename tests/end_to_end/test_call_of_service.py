"""Use case 1241, Call of Service, over real mutual TLS with the generated stubs."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio

from gem.charging.v1 import evse_search_service_pb2
from gem.mesh.v1 import error_reason_pb2, provider_answer_pb2
from tests.end_to_end.charging import (
    GET,
    SEARCH,
    detail_of,
    evse,
    evse_ids,
    found,
    found_one,
    reason_of,
    search,
    stub,
)
from tests.end_to_end.ledger import entries_of, failed_calls_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers, refuses
from tests.end_to_end.whole_market import PRICE_MICROS, WholeMarket

pytestmark = pytest.mark.usecase(1241)
GetEvseRequest = evse_search_service_pb2.GetEvseRequest


async def test_a_request_that_breaks_the_interface_is_refused_and_logged_and_nobody_is_asked(
    whole: WholeMarket,
) -> None:
    requester, provider = await whole.requester(), ScriptedProvider(answers(found()))
    await whole.contracted(requester, provider)
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(requester).SearchEvses(search(limit=-1), timeout=10)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "REQUEST_INVALID"
    violations = detail_of(refused.value, error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == ["limit"]
    assert provider.asked == []
    invalid = error_reason_pb2.ERROR_REASON_REQUEST_INVALID
    assert await failed_calls_of(requester) == [(SEARCH, invalid)]
    assert await entries_of(requester) == []


async def test_bytes_that_are_no_request_are_refused_and_logged(whole: WholeMarket) -> None:
    requester, provider = await whole.requester(), ScriptedProvider(answers(found()))
    await whole.contracted(requester, provider)
    ask: aio.UnaryUnaryMultiCallable[bytes, bytes] = requester.core.channel.unary_unary(SEARCH)
    with pytest.raises(aio.AioRpcError) as refused:
        await ask(b"\xff\xff\xff not a message", timeout=10)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    assert "not a message" not in str(refused.value.details())
    malformed = error_reason_pb2.ERROR_REASON_REQUEST_MALFORMED
    assert await failed_calls_of(requester) == [(SEARCH, malformed)]
    assert provider.asked == []


async def test_without_a_contract_nobody_is_asked(whole: WholeMarket) -> None:
    stranger, owner = await whole.requester(), await whole.requester()
    provider = ScriptedProvider(answers(found()))
    await whole.contracted(owner, provider)
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(stranger).SearchEvses(search(), timeout=10)
    assert refused.value.code() is StatusCode.PERMISSION_DENIED
    assert reason_of(refused.value) == "NO_CONTRACT"
    assert provider.asked == []
    assert await failed_calls_of(stranger) == [(SEARCH, error_reason_pb2.ERROR_REASON_NO_CONTRACT)]
    assert await failed_calls_of(owner) == []


async def test_a_suspended_contract_is_no_contract_until_it_is_resumed(whole: WholeMarket) -> None:
    requester, provider = await whole.requester(), ScriptedProvider(answers(found()))
    (contract_id,) = (await whole.contracted(requester, provider)).values()
    await requester.core.suspend(contract_id)
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(requester).SearchEvses(search(), timeout=10)
    assert reason_of(refused.value) == "NO_CONTRACT"
    assert provider.asked == []
    assert len(await failed_calls_of(requester)) == 1
    await requester.core.resume(contract_id)
    await stub(requester).SearchEvses(search(), timeout=10)
    assert len(provider.asked) == 1


async def test_a_provider_s_refusal_is_the_answer_and_costs_nothing(whole: WholeMarket) -> None:
    requester = await whole.requester()
    provider = ScriptedProvider(refuses(StatusCode.NOT_FOUND))
    await whole.contracted(requester, provider)
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(requester).GetEvse(GetEvseRequest(evse_id="DE*AAA*E1"), timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND
    assert reason_of(refused.value) == "PROVIDER_REFUSED"
    assert "says no" not in str(refused.value.details())
    (entry,) = await entries_of(requester)
    assert entry.status == provider_answer_pb2.ANSWER_STATUS_REFUSED
    assert entry.value.amount_micros == 0
    assert await failed_calls_of(requester) == []


async def test_the_contracted_provider_s_answer_comes_back(whole: WholeMarket) -> None:
    requester = await whole.requester()
    provider = ScriptedProvider(answers(found_one(evse("DE*AAA*E1", power_w=50_000))))
    ((provider_id, contract_id),) = (await whole.contracted(requester, provider)).items()
    request = GetEvseRequest(evse_id="DE*AAA*E1")
    response = await stub(requester).GetEvse(request, timeout=10)
    assert (response.evse.evse_id, response.evse.max_power_w) == ("DE*AAA*E1", 50_000)
    assert response.evse.provider_id == provider_id
    (asked,) = provider.asked
    assert asked.path == GET
    assert asked.call.requester_id == requester.partner_id
    assert asked.call.contract_id == contract_id
    (entry,) = await entries_of(requester)
    assert entry.call_id == str(asked.call.call_id)
    assert (entry.provider_id, entry.contract_id) == (provider_id, contract_id)
    assert entry.status == provider_answer_pb2.ANSWER_STATUS_OK
    assert entry.value.amount_micros == PRICE_MICROS


async def test_every_worker_serves_the_same_contract(whole: WholeMarket) -> None:
    requester = await whole.requester()
    provider = ScriptedProvider(answers(found(evse("DE*AAA*E1"))))
    await whole.contracted(requester, provider)
    channels = await whole.channels(requester)
    assert len(channels) == 2
    for channel in channels.values():
        ask: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SEARCH)
        raw = await ask(search().SerializeToString(), timeout=10)
        response = evse_search_service_pb2.SearchEvsesResponse.FromString(raw)
        assert evse_ids(response) == ["DE*AAA*E1"]
        await channel.close()
    assert len(provider.asked) == 2
