"""Use case 1492, Aggregate Service Call Results: one call, every provider, one answer."""

from __future__ import annotations

import time

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio

from gem.charging.v1 import evse_search_service_pb2
from gem.mesh.v1 import error_reason_pb2
from gem.mesh.v1 import provider_answer_pb2 as mesh
from tests.end_to_end.charging import (
    detail_of,
    evse,
    evse_ids,
    found,
    reason_of,
    search,
    stub,
)
from tests.end_to_end.ledger import entries_of, failed_calls_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers, hangs, refuses
from tests.end_to_end.whole_market import WholeMarket

pytestmark = pytest.mark.usecase(1492)
OK = mesh.ANSWER_STATUS_OK


async def test_an_invalid_request_reaches_none_of_the_providers(whole: WholeMarket) -> None:
    requester = await whole.requester()
    providers = [ScriptedProvider(answers(found())) for _ in range(2)]
    await whole.contracted(requester, *providers)
    nowhere = evse_search_service_pb2.SearchEvsesRequest()
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(requester).SearchEvses(nowhere, timeout=10)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    assert detail_of(refused.value, error_details_pb2.BadRequest).field_violations
    assert [provider.asked for provider in providers] == [[], []]
    assert await entries_of(requester) == []
    assert len(await failed_calls_of(requester)) == 1


async def test_when_everybody_fails_the_call_fails_and_says_so_of_each(whole: WholeMarket) -> None:
    requester = await whole.requester()
    providers = [
        ScriptedProvider(refuses(StatusCode.UNAVAILABLE)),
        ScriptedProvider(answers(b"\xff\xff")),
    ]
    contracts = await whole.contracted(requester, *providers)
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(requester).SearchEvses(search(), timeout=10)
    entries = detail_of(refused.value, mesh.ProviderAnswers).provider_answers
    assert [entry.provider_id for entry in entries] == list(contracts)
    assert [entry.status for entry in entries] == [
        mesh.ANSWER_STATUS_REFUSED,
        mesh.ANSWER_STATUS_INVALID_ANSWER,
    ]
    assert reason_of(refused.value) in {"PROVIDER_REFUSED", "ANSWER_INVALID"}
    assert [entry.value.amount_micros for entry in await entries_of(requester)] == [0, 0]
    assert await failed_calls_of(requester) == [], "providers were asked: entries, no failed call"


async def test_one_failure_is_an_entry_and_the_rest_is_merged(whole: WholeMarket) -> None:
    requester = await whole.requester()
    providers = [
        ScriptedProvider(refuses(StatusCode.INTERNAL)),
        ScriptedProvider(answers(found(evse("DE*AAA*E1", 300), evse("DE*AAA*E2", 100)))),
        ScriptedProvider(hangs()),
        ScriptedProvider(answers(b"\x0f no message")),
        ScriptedProvider(answers(found(evse("DE*BBB*E1", 200)))),
    ]
    contracts = await whole.contracted(requester, *providers)
    await providers[-1].stop()
    begun_s = time.monotonic()
    response = await stub(requester).SearchEvses(
        search(), timeout=10, metadata=(("gem-budget-ms", "700"),)
    )
    elapsed_s = time.monotonic() - begun_s
    assert [entry.provider_id for entry in response.provider_answers] == list(contracts)
    assert [(entry.status, entry.reason) for entry in response.provider_answers] == [
        (mesh.ANSWER_STATUS_REFUSED, error_reason_pb2.ERROR_REASON_PROVIDER_REFUSED),
        (OK, error_reason_pb2.ERROR_REASON_UNSPECIFIED),
        (mesh.ANSWER_STATUS_TIMED_OUT, error_reason_pb2.ERROR_REASON_PROVIDER_TIMED_OUT),
        (mesh.ANSWER_STATUS_INVALID_ANSWER, error_reason_pb2.ERROR_REASON_ANSWER_INVALID),
        (mesh.ANSWER_STATUS_UNREACHABLE, error_reason_pb2.ERROR_REASON_PROVIDER_UNREACHABLE),
    ]
    assert evse_ids(response) == ["DE*AAA*E2", "DE*AAA*E1"]
    assert elapsed_s < 1.5, "the hanging provider cost no more than the budget"


async def test_all_answers_become_one_in_the_order_asked_for(whole: WholeMarket) -> None:
    requester = await whole.requester()
    providers = [
        ScriptedProvider(answers(found(evse("DE*AAA*E1", 500), evse("DE*AAA*E2", 700)))),
        ScriptedProvider(answers(found(evse("DE*BBB*E1", 600), evse("DE*BBB*E2", 100)))),
        ScriptedProvider(answers(found())),
    ]
    contracts = await whole.contracted(requester, *providers)
    response = await stub(requester).SearchEvses(search(limit=3), timeout=10)
    assert evse_ids(response) == ["DE*BBB*E2", "DE*AAA*E1", "DE*BBB*E1"]
    assert [entry.provider_id for entry in response.provider_answers] == list(contracts)
    assert [entry.status for entry in response.provider_answers] == [OK, OK, OK]
    assert [entry.item_count for entry in response.provider_answers] == [2, 2, 0]
    assert len({asked.call.call_id for each in providers for asked in each.asked}) == 1


async def test_no_provider_can_speak_in_the_name_of_another(whole: WholeMarket) -> None:
    requester = await whole.requester()
    honest, liar = ScriptedProvider(answers(found(evse("DE*AAA*E1")))), ScriptedProvider(hangs())
    contracts = await whole.contracted(requester, honest, liar)
    forged = evse_search_service_pb2.SearchEvsesResponse(evses=[evse("DE*AAA*E1", 5)])
    forged.evses[0].provider_id = honest.partner_id
    forged.evses[0].contract_id = contracts[honest.partner_id]
    forged.provider_answers.add(provider_id=honest.partner_id, status=mesh.ANSWER_STATUS_REFUSED)
    liar.script = answers(forged.SerializeToString())
    response = await stub(requester).SearchEvses(search(), timeout=10)
    assert [(each.provider_id, each.contract_id, each.distance_m) for each in response.evses] == [
        (liar.partner_id, contracts[liar.partner_id], 5),
        (honest.partner_id, contracts[honest.partner_id], 100),
    ]
    assert [entry.status for entry in response.provider_answers] == [OK, OK]


async def test_only_contracts_that_are_not_suspended_take_part(whole: WholeMarket) -> None:
    requester = await whole.requester()
    providers = [ScriptedProvider(answers(found())) for _ in range(3)]
    contracts = await whole.contracted(requester, *providers)
    await requester.core.suspend(contracts[providers[1].partner_id])
    response = await stub(requester).SearchEvses(search(), timeout=10)
    asked = [entry.provider_id for entry in response.provider_answers]
    assert asked == [providers[0].partner_id, providers[2].partner_id]
    assert providers[1].asked == []
