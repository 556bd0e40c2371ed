"""Use case 1491, Create Service Transaction: what the log holds of each provider call."""

from __future__ import annotations

import hashlib

import pytest
from grpc import StatusCode, aio

from gem.marketplace.v1 import transaction_service_pb2 as log
from gem.mesh.v1 import error_reason_pb2
from gem.mesh.v1 import provider_answer_pb2 as mesh
from tests.end_to_end.charging import SEARCH, evse, found, search, stub
from tests.end_to_end.ledger import entries_of, failed_calls_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers, refuses
from tests.end_to_end.whole_market import PRICE_MICROS, WholeMarket

pytestmark = pytest.mark.usecase(1491)


async def test_a_party_sees_no_entry_of_others(whole: WholeMarket) -> None:
    requester, stranger = await whole.requester(), await whole.requester()
    first, second = (ScriptedProvider(answers(found())) for _ in range(2))
    party = await whole.provider(first)
    service_id = await whole.offer(party, first.endpoint)
    await requester.core.ensure_contract(service_id)
    await whole.contracted(requester, second)
    await stub(requester).SearchEvses(search(), timeout=10)
    assert len(await entries_of(requester)) == 2
    assert [entry.provider_id for entry in await entries_of(party)] == [party.partner_id]
    assert await entries_of(stranger) == []
    (entry,) = await entries_of(party)
    request = log.GetTransactionRequest(transaction_id=entry.transaction_id)
    with pytest.raises(aio.AioRpcError) as refused:
        await stranger.log.GetTransaction(request, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND


async def test_calls_that_fail_before_any_provider_are_logged_apart(whole: WholeMarket) -> None:
    requester = await whole.requester()
    await whole.contracted(requester, ScriptedProvider(answers(found())))
    with pytest.raises(aio.AioRpcError):
        await stub(requester).SearchEvses(search(limit=5000), timeout=10)
    await stub(requester).SearchEvses(search(), timeout=10)
    invalid = error_reason_pb2.ERROR_REASON_REQUEST_INVALID
    assert await failed_calls_of(requester) == [(SEARCH, invalid)]
    assert len(await entries_of(requester)) == 1


async def test_each_provider_call_has_one_entry_with_all_that_is_owed(whole: WholeMarket) -> None:
    requester = await whole.requester()
    answer = found(evse("DE*AAA*E1"), evse("DE*AAA*E2"))
    good = ScriptedProvider(answers(answer))
    bad = ScriptedProvider(refuses(StatusCode.INTERNAL))
    contracts = await whole.contracted(requester, good, bad)
    request = search()
    await stub(requester).SearchEvses(request, timeout=10)
    entries = {entry.provider_id: entry for entry in await entries_of(requester)}
    assert entries.keys() == contracts.keys()
    assert len({entry.call_id for entry in entries.values()}) == 1
    one = entries[good.partner_id]
    raw = request.SerializeToString()
    assert one.method == SEARCH
    assert one.contract_id == contracts[good.partner_id]
    assert one.requester_id == requester.partner_id
    assert (one.request_bytes, one.answer_bytes) == (len(raw), len(answer))
    assert one.request_digest == hashlib.sha256(raw).digest()
    assert one.answer_digest == hashlib.sha256(answer).digest()
    assert (one.item_count, one.value.amount_micros) == (2, PRICE_MICROS)
    assert 0 < one.duration_us < 10_000_000
    other = entries[bad.partner_id]
    assert (other.status, other.code) == (mesh.ANSWER_STATUS_REFUSED, 13)
    assert other.value.amount_micros == 0


async def test_the_sums_are_those_of_the_entries(whole: WholeMarket) -> None:
    requester = await whole.requester()
    good = ScriptedProvider(answers(found()))
    await whole.contracted(requester, good)
    for _ in range(5):
        await stub(requester).SearchEvses(search(), timeout=10)
    summing = log.SummarizeTransactionsRequest()
    (total,) = (await requester.log.SummarizeTransactions(summing, timeout=10)).totals
    assert (total.provider_id, total.status) == (good.partner_id, mesh.ANSWER_STATUS_OK)
    assert (total.transaction_count, total.value.amount_micros) == (5, 5 * PRICE_MICROS)
