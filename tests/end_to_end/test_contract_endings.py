"""Trials, notices, lapsed requests and prolongations over mutual TLS (1397)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.contracts import framework_terms, state_of, time
from tests.end_to_end.contract_desk import (
    FORBIDDEN,
    NOT_NOW,
    THERE,
    ask,
    change,
    contracted,
    decide,
    has_states,
    invalid,
    is_in,
    new_trade,
    refused,
    states,
)
from tests.end_to_end.load import until
from tests.end_to_end.test_contracts import Pair, soon
from tests.end_to_end.whole_market import WholeMarket

_SECTIONS = [each["section_id"] for each in framework_terms()["sections"]]
_CONTINUES = 1


@pytest.fixture(scope="module")
async def trade(whole: WholeMarket) -> Pair:
    """Bring in a provider with a service, and a stranger in the place of the requester."""
    return await new_trade(whole)


@pytest.fixture
async def pair(trade: Pair) -> Pair:
    """Give the trade with a requester of the test's own."""
    return replace(trade, requester=await trade.whole.requester())


async def test_a_notice_runs_and_within_a_trial_it_ends_the_contract_at_once(pair: Pair) -> None:
    noticed = await contracted(pair, notice_days=30)
    before = soon(0)
    contract = (await ask(pair.requester, "TerminateContract", contract_id=noticed)).contract
    end = contract.end_time.ToDatetime(before.tzinfo)
    assert timedelta(0) <= end - before - timedelta(days=30) < timedelta(minutes=1)
    assert state_of(contract) == "ACTIVE"
    assert await pair.call() == "OK", "until the notice period is over"
    for party in (pair.requester, pair.provider):
        assert await refused(party, "TerminateContract", contract_id=noticed) == NOT_NOW
    # No second contract meanwhile, until the operator ends the first.
    offering = await pair.offer(notice_days=30, trial={"trial_days": 10, "outcome": _CONTINUES})
    names = [each.section_id for each in offering.terms.sections]
    accepted = {"offering_id": offering.offering_id, "section_ids": names, "accepted": True}
    assert await refused(pair.requester, "CreateContract", **accepted) == THERE
    await ask(pair.whole.business, "TerminateContract", contract_id=noticed)
    tried = (await ask(pair.requester, "CreateContract", **accepted)).contract
    assert tried.HasField("trial_end_time")
    assert await pair.call() == "OK"
    ended = await ask(pair.provider, "TerminateContract", contract_id=tried.contract_id)
    assert state_of(ended.contract) == "TERMINATED"
    assert await pair.call() == "NO_CONTRACT"


@pytest.mark.usecase(1247)
async def test_what_is_open_when_a_contract_ends_lapses_and_never_comes_into_force(
    pair: Pair,
) -> None:
    pending = await contracted(pair, term={"end_time": time(soon(2.5))})
    asked = await pair.ask_end(pair.provider, pending)
    await until(lambda: is_in(pair, pending, "EXPIRED"), 10, "the term is over")
    named = {"amendment_id": asked.amendment_id}
    for step in ("Accept", "Reject"):
        assert await refused(pair.requester, f"{step}ContractAmendment", **named) == NOT_NOW
    await until(lambda: has_states(pair, pending, "LAPSED"), 10, "the request has lapsed")

    scheduled = await contracted(pair)
    later = await change(pair.provider, scheduled, effective_time=time(soon(86400)))
    await decide(pair.requester, "Accept", later)
    assert await states(pair.requester, scheduled) == ["SCHEDULED"]
    await ask(pair.whole.business, "TerminateContract", contract_id=scheduled)
    assert await states(pair.requester, scheduled) == ["LAPSED"]
    revisions = await ask(pair.requester, "ListContractRevisions", contract_id=scheduled)
    assert len(revisions.revisions) == 1


async def test_a_prolongation_moves_an_end_that_is_to_come_and_no_other(pair: Pair) -> None:
    ends = soon(3)
    contract_id = await contracted(pair, term={"end_time": time(ends)})
    form = {"contract_id": contract_id, "reason": "It works.", "end_time": time(soon(600))}
    rpc = "RequestContractProlongation"
    assert await refused(pair.provider, rpc, **{**form, "reason": ""}) == invalid("reason")
    earlier = {**form, "end_time": time(ends)}
    assert await refused(pair.provider, rpc, **earlier) == invalid("end_time")
    asked = (await ask(pair.provider, rpc, **form)).amendment
    named = {"amendment_id": asked.amendment_id}
    assert await refused(pair.provider, "AcceptContractAmendment", **named) == FORBIDDEN
    await decide(pair.requester, "Accept", asked)
    await until(lambda: soon(0) > ends + timedelta(seconds=0.2), 10, "the first end is over")
    assert await pair.call() == "OK"
    assert (await pair.contract(contract_id)).end_time == form["end_time"]
    await ask(pair.whole.business, "TerminateContract", contract_id=contract_id)
    endless = await contracted(pair)
    assert await refused(pair.provider, rpc, **{**form, "contract_id": endless}) == NOT_NOW
    assert await refused(pair.provider, rpc, **form) == NOT_NOW, "it has ended"
