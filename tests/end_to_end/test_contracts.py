"""Contracts over mutual TLS with generated stubs: what was agreed decides which calls are routed.

Use cases 1482, 1470, 1624, 1485, 1245, 1479, 1246, 1247, 1480, 1481 and 1490.
"""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import aio

from gem.charging.v1.evse_search_service_pb2_grpc import EvseSearchServiceStub
from gem.marketplace.v1 import contract_amendment_pb2 as amendments
from gem.marketplace.v1 import contract_framework_pb2 as frameworks
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1.contract_search_pb2 import ContractCriteria, SearchContractsRequest
from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceStub
from gemarket.administration import ServicePlan, new_request_id
from tests.contracts import framework_terms, state_of, time
from tests.end_to_end.charging import evse, found, reason_of, search, stub
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket

#: A contract is in force for 1.5 s here: who may be late by more than this shows nothing.
_LONGEST_PAUSE_S = 0.5
_SECTIONS = [each["section_id"] for each in framework_terms()["sections"]]
_LIVES = (contract_pb2.CONTRACT_STATE_ACTIVE, contract_pb2.CONTRACT_STATE_SUSPENDED)


def stub_of(party: Party) -> Any:
    """Give the stub of ContractService over a party's connection."""
    return ContractServiceStub(party.core.channel)


async def refusal(call: Any) -> str:
    """Give the reason with which a call is refused."""
    with pytest.raises(aio.AioRpcError) as refused:
        await call
    return reason_of(refused.value)


def soon(seconds: float) -> datetime:
    """Give the instant in so many seconds."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


@dataclass
class Pair:
    """A requester and a provider whose service is on offer by the framework."""

    whole: WholeMarket
    requester: Party
    provider: Party
    service_id: str
    endpoint: str

    async def offer(self, service_id: str = "", **fields: Any) -> contract_pb2.Offering:
        """Offer a service by the framework."""
        request = frameworks.CreateOfferingRequest(
            request_id=new_request_id(),
            service_id=service_id or self.service_id,
            terms=framework_terms(**fields),
        )
        answer = await stub_of(self.provider).CreateOffering(request, timeout=10)
        offering: contract_pb2.Offering = answer.offering
        return offering

    async def accept(self, offering: contract_pb2.Offering, **fields: Any) -> contract_pb2.Contract:
        """Accept an offering with all its sections, but for what is given."""
        names = [each.section_id for each in offering.terms.sections]
        values = {"section_ids": names, "accepted": True, **fields}
        request = contracts.CreateContractRequest(
            request_id=new_request_id(), offering_id=offering.offering_id, **values
        )
        answer = await stub_of(self.requester).CreateContract(request, timeout=10)
        contract: contract_pb2.Contract = answer.contract
        return contract

    async def contract(self, contract_id: str) -> contract_pb2.Contract:
        """Give a contract as the provider sees it."""
        request = contracts.GetContractRequest(contract_id=contract_id)
        answer = await stub_of(self.provider).GetContract(request, timeout=10)
        contract: contract_pb2.Contract = answer.contract
        return contract

    async def ask_end(self, party: Party, contract_id: str, **fields: Any) -> Any:
        """Ask for the end of a contract."""
        request = amendments.RequestContractTerminationRequest(
            request_id=new_request_id(),
            contract_id=contract_id,
            **{"reason": "We stop.", **fields},
        )
        answer = await stub_of(party).RequestContractTermination(request, timeout=10)
        return answer.amendment

    async def accepted(self, party: Party, amendment: Any) -> Any:
        """Accept what the other party asks for."""
        request = amendments.AcceptContractAmendmentRequest(
            request_id=new_request_id(), amendment_id=amendment.amendment_id
        )
        return await stub_of(party).AcceptContractAmendment(request, timeout=10)

    async def call(self) -> str:
        """Call as the requester; `OK`, or the reason of the refusal."""
        try:
            await stub(self.requester).SearchEvses(search(), timeout=10)
        except aio.AioRpcError as error:
            return reason_of(error)
        return "OK"


@pytest.fixture
async def pair(whole: WholeMarket) -> Pair:
    """Bring in two partners."""
    scripted = ScriptedProvider(answers(found(evse("DE*CTR*E1"))))
    provider = await whole.provider(scripted)
    service_id = await whole.offer(provider, scripted.endpoint)
    requester = await whole.requester()
    return Pair(whole, requester, provider, service_id, scripted.endpoint)


@pytest.mark.usecase(1482)
async def test_every_party_can_view_the_framework(pair: Pair) -> None:
    parties = (pair.requester, pair.provider, pair.whole.business, pair.whole.technical)
    request = frameworks.GetContractFrameworkRequest(version=1)
    for party in parties:
        answer = await stub_of(party).GetContractFramework(request, timeout=10)
        names = [each.module_id for each in answer.framework.modules]
        assert names == ["parties", "term", "service", "price", "data", "liability"]
    beyond = frameworks.GetContractFrameworkRequest(version=999)
    assert await refusal(stub_of(pair.requester).GetContractFramework(beyond)) == "NOT_FOUND"


@pytest.mark.usecase(1470, 1624)
async def test_an_incomplete_offering_is_neither_made_nor_changed(pair: Pair) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await pair.offer(without=("liability", "notice"))
    assert reason_of(refused.value) == "REQUEST_INVALID"
    offering = await pair.offer()
    change = frameworks.ChangeOfferingRequest(
        request_id=new_request_id(),
        offering_id=offering.offering_id,
        terms=framework_terms(without=("term",)),
    )
    provider = stub_of(pair.provider)
    assert await refusal(provider.ChangeOffering(change, timeout=10)) == "REQUEST_INVALID"
    listing = frameworks.ListOfferingsRequest(service_id=pair.service_id)
    listed = (await provider.ListOfferings(listing, timeout=10)).offerings
    assert [each.offering_id for each in listed[1:]] == [offering.offering_id]


@pytest.mark.usecase(1624, 1485)
async def test_a_changed_offering_leaves_contracts_as_they_are(pair: Pair) -> None:
    offering = await pair.offer()
    contract = await pair.accept(offering)
    request = frameworks.ChangeOfferingRequest(
        request_id=new_request_id(),
        offering_id=offering.offering_id,
        terms=framework_terms(micros=99),
    )
    answer = await stub_of(pair.provider).ChangeOffering(request, timeout=10)
    assert answer.offering.revision == 2
    assert await pair.contract(contract.contract_id) == contract


@pytest.mark.usecase(1485)
async def test_an_incomplete_or_rejected_acceptance_makes_no_contract(pair: Pair) -> None:
    offering = await pair.offer()
    assert await refusal(pair.accept(offering, section_ids=_SECTIONS[1:])) == "REQUEST_INVALID"
    assert await refusal(pair.accept(offering, accepted=False)) == "REQUEST_INVALID"
    assert await pair.call() == "NO_CONTRACT"
    await pair.accept(offering)
    assert await pair.call() == "OK"


@asynccontextmanager
async def watched_pauses() -> AsyncIterator[list[float]]:
    """Note how much longer than asked this process sleeps while the block runs, in seconds."""
    pauses_s = [0.0]

    async def watch() -> None:
        while True:
            asleep_s = clock.monotonic()
            await asyncio.sleep(0.01)
            pauses_s.append(clock.monotonic() - asleep_s - 0.01)

    watching = asyncio.create_task(watch())
    try:
        yield pauses_s
    finally:
        watching.cancel()
        await asyncio.wait([watching])


@pytest.mark.usecase(1485)
async def test_a_contract_routes_from_its_start_to_its_end_and_no_call_longer(pair: Pair) -> None:
    starts, ends = soon(1.5), soon(3.0)
    offering = await pair.offer(term={"end_time": time(ends)})
    contract = await pair.accept(offering, start_time=time(starts))
    assert state_of(contract) == "PENDING"
    channels = await pair.whole.channels(pair.requester)
    routed: list[float] = []
    refused: list[float] = []
    reasons: set[str] = set()

    async def calls(channel: aio.Channel) -> None:
        ask: Any = EvseSearchServiceStub(channel)
        while datetime.now(UTC) < ends + timedelta(seconds=0.8):
            started = clock.time()
            try:
                await ask.SearchEvses(search(), timeout=10)
                routed.append(started)
            except aio.AioRpcError as error:
                reasons.add(reason_of(error))
                refused.append(started)
            await asyncio.sleep(0.01)

    async with watched_pauses() as pauses_s:
        await asyncio.gather(*map(calls, channels.values()))
    for channel in channels.values():
        await channel.close()
    assert reasons == {"NO_CONTRACT"}
    # A machine with much else to do lets workers wait as it lets this process.
    slack_s = 0.05 + min(max(pauses_s), _LONGEST_PAUSE_S)
    assert starts.timestamp() - slack_s < min(routed)
    assert max(routed) < ends.timestamp() + slack_s
    assert any(at < starts.timestamp() for at in refused)
    assert any(at > ends.timestamp() for at in refused)
    assert state_of(await pair.contract(contract.contract_id)) == "EXPIRED"


@pytest.mark.usecase(1246, 1247)
async def test_an_accepted_change_of_price_bills_the_next_call(pair: Pair) -> None:
    contract = await pair.accept(await pair.offer(micros=100))
    assert await pair.call() == "OK"
    terms = framework_terms(micros=200)
    request = amendments.RequestContractChangeRequest(
        request_id=new_request_id(),
        contract_id=contract.contract_id,
        reason="It costs more now.",
        terms=amendments.ProposedTerms(sections=terms["sections"], price=terms["price"]),
    )
    incomplete = amendments.RequestContractChangeRequest()
    incomplete.CopyFrom(request)
    incomplete.ClearField("reason")
    provider = stub_of(pair.provider)
    assert (
        await refusal(provider.RequestContractChange(incomplete, timeout=10)) == "REQUEST_INVALID"
    )
    asked = (await provider.RequestContractChange(request, timeout=10)).amendment
    assert await pair.call() == "OK"
    await pair.accepted(pair.requester, asked)
    assert await pair.call() == "OK"
    values = [entry.value.amount_micros for entry in await entries_of(pair.requester)]
    assert sorted(values) == [100, 100, 200]


@pytest.mark.usecase(1480, 1481)
async def test_a_termination_takes_both_parties_and_can_be_rejected_or_revoked(pair: Pair) -> None:
    contract = await pair.accept(await pair.offer(notice_days=30))
    blank = pair.ask_end(pair.provider, contract.contract_id, reason="")
    assert await refusal(blank) == "REQUEST_INVALID"
    asked = await pair.ask_end(pair.provider, contract.contract_id)
    assert await refusal(pair.accepted(pair.provider, asked)) == "ROLE_NOT_ALLOWED"
    reject = amendments.RejectContractAmendmentRequest(
        request_id=new_request_id(), amendment_id=asked.amendment_id
    )
    await stub_of(pair.requester).RejectContractAmendment(reject, timeout=10)
    again = await pair.ask_end(pair.provider, contract.contract_id)
    revoke = amendments.RevokeContractAmendmentRequest(
        request_id=new_request_id(), amendment_id=again.amendment_id
    )
    await stub_of(pair.provider).RevokeContractAmendment(revoke, timeout=10)
    assert await pair.call() == "OK"
    third = await pair.ask_end(pair.provider, contract.contract_id)
    answer = await pair.accepted(pair.requester, third)
    assert state_of(answer.contract) == "TERMINATED"
    assert await pair.call() == "NO_CONTRACT"


@pytest.mark.usecase(1481, 1246)
async def test_of_conflicting_steps_at_once_one_wins(pair: Pair) -> None:
    contract = await pair.accept(await pair.offer())
    asked = await pair.ask_end(pair.requester, contract.contract_id)
    revoke = amendments.RevokeContractAmendmentRequest(
        request_id=new_request_id(), amendment_id=asked.amendment_id
    )
    results = await asyncio.gather(
        pair.accepted(pair.provider, asked),
        pair.accepted(pair.provider, asked),
        stub_of(pair.requester).RevokeContractAmendment(revoke, timeout=10),
        return_exceptions=True,
    )
    refused = [reason_of(each) for each in results if isinstance(each, aio.AioRpcError)]
    assert refused == ["STATE_NOT_ALLOWED"] * 2


@pytest.mark.usecase(1490, 1479)
async def test_the_provider_sees_a_suspension_of_its_service(pair: Pair) -> None:
    contract = await pair.accept(await pair.offer())
    await pair.requester.core.suspend(contract.contract_id)
    request = contracts.GetContractRequest(contract_id=contract.contract_id)
    seen = await stub_of(pair.provider).GetContract(request, timeout=10)
    assert state_of(seen.contract) == "SUSPENDED"
    assert [each.actor for each in seen.latest_events] == [pair.requester.partner_id] * 2
    assert await pair.call() == "NO_CONTRACT"
    await pair.requester.core.resume(contract.contract_id)
    assert await pair.call() == "OK"


@pytest.mark.usecase(1479)
async def test_details_are_for_the_parties_and_the_operators(pair: Pair) -> None:
    contract = await pair.accept(await pair.offer(term={"duration_days": 30}, notice_days=10))
    request = contracts.GetContractRequest(contract_id=contract.contract_id)
    stranger = await pair.whole.requester()
    assert await refusal(stub_of(stranger).GetContract(request, timeout=10)) == "NOT_FOUND"
    for party in (pair.requester, pair.provider, pair.whole.business):
        shown = await stub_of(party).GetContract(request, timeout=10)
        assert shown.contract == contract
        assert len(shown.contract.terms_digest) == 32
        assert shown.contract.HasField("end_time")
        assert shown.contract.terms.notice.notice_days == 10
        assert len(shown.latest_events) == 1


@pytest.mark.usecase(1245)
async def test_contracts_are_found_by_what_they_are(pair: Pair) -> None:
    contract = await pair.accept(await pair.offer(term={"duration_days": 30}))
    await pair.ask_end(pair.provider, contract.contract_id)

    async def ids(party: Party, **fields: Any) -> list[str]:
        request = SearchContractsRequest(criteria=ContractCriteria(**fields))
        answer = await stub_of(party).SearchContracts(request, timeout=10)
        return [each.contract_id for each in answer.contracts]

    one = [contract.contract_id]
    fitting: tuple[dict[str, Any], ...] = (
        {},
        {"role": "CONTRACT_ROLE_REQUESTER", "partner_id": pair.provider.partner_id},
        {"interface_name": EVSE_SEARCH, "service_id": pair.service_id},
        {"states": _LIVES, "valid_at_time": time(soon(0))},
        {"ends_within_days": 31, "request_pending": True},
    )
    for fields in fitting:
        assert await ids(pair.requester, **fields) == one
    others: tuple[dict[str, Any], ...] = (
        {"role": "CONTRACT_ROLE_PROVIDER"},
        {"states": [contract_pb2.CONTRACT_STATE_TERMINATED]},
        {"ends_within_days": 29},
        {"valid_at_time": time(soon(86400 * 31))},
    )
    for fields in others:
        assert await ids(pair.requester, **fields) == [], "an empty list is no error"
    assert await ids(pair.whole.business, party_id=pair.provider.partner_id) == one
    stranger = await pair.whole.requester()
    assert await ids(stranger, party_id=pair.provider.partner_id) == []


async def test_an_added_service_is_called_under_the_same_contract(pair: Pair) -> None:
    contract = await pair.accept(await pair.offer())
    plan = ServicePlan(pair.provider.partner_id, "Second", EVSE_SEARCH, pair.endpoint)
    registered = await pair.provider.core.services.RegisterService(plan.request(), timeout=10)
    second = registered.service.service_id
    await pair.whole.technical.core.publish_service(second)
    offering = await pair.offer(second, micros=7)
    request = amendments.RequestServiceAdditionRequest(
        request_id=new_request_id(),
        contract_id=contract.contract_id,
        reason="We need both.",
        addition=amendments.ServiceAddition(
            offering_id=offering.offering_id, section_ids=_SECTIONS
        ),
    )
    answer = await stub_of(pair.requester).RequestServiceAddition(request, timeout=10)
    await pair.accepted(pair.provider, answer.amendment)
    assert await pair.call() == "OK"
    entries = await entries_of(pair.requester)
    assert {entry.service_id for entry in entries} == {pair.service_id, second}
    assert {entry.contract_id for entry in entries} == {contract.contract_id}
    assert sorted(entry.value.amount_micros for entry in entries) == [7, 20_000]
