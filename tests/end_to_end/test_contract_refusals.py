"""How the steps of contracts fail over mutual TLS: what is refused, and what a call still meets.

Use cases 1246, 1247, 1480 and 1481.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.contracts import time
from tests.end_to_end.contract_desk import (
    FORBIDDEN,
    HIDDEN,
    NOT_NOW,
    change,
    contracted,
    decide,
    has_states,
    invalid,
    is_in,
    new_trade,
    proposed,
    refused,
    states,
)
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import until
from tests.end_to_end.test_contracts import Pair, soon
from tests.end_to_end.whole_market import WholeMarket


@pytest.fixture(scope="module")
async def trade(whole: WholeMarket) -> Pair:
    """Bring in a provider with a service, and a stranger in the place of the requester."""
    return await new_trade(whole)


@pytest.fixture
async def pair(trade: Pair) -> Pair:
    """Give the trade with a requester of the test's own."""
    return replace(trade, requester=await trade.whole.requester())


@pytest.mark.usecase(1246)
async def test_a_change_that_is_not_complete_or_makes_no_sense_is_not_asked_for(
    trade: Pair, pair: Pair
) -> None:
    contract_id = await contracted(pair, term={"duration_days": 30})
    terms = proposed(term={"duration_days": 30}, micros=9)
    right = {"contract_id": contract_id, "terms": terms, "reason": "It costs less."}
    wrong: list[tuple[dict[str, Any], tuple[str, list[str]]]] = [
        ({"reason": ""}, invalid("reason")),
        ({"terms": None}, invalid("terms")),
        ({"terms": proposed(term={"duration_days": 30})}, invalid("terms")),
        ({"terms": proposed(term={"duration_days": 60})}, invalid("terms.sections")),
        ({"effective_time": time(soon(-60))}, invalid("effective_time")),
        ({"effective_time": time(soon(86400 * 30))}, invalid("effective_time")),
        ({"contract_id": "no-such"}, HIDDEN),
    ]
    for fields, outcome in wrong:
        for party in (pair.requester, pair.provider):
            assert await refused(party, "RequestContractChange", **{**right, **fields}) == outcome
    assert await refused(trade.requester, "RequestContractChange", **right) == HIDDEN
    assert await refused(pair.whole.business, "RequestContractChange", **right) == FORBIDDEN
    assert await states(pair.requester, contract_id) == []
    assert (await pair.contract(contract_id)).revision == 1


@pytest.mark.usecase(1247)
async def test_a_change_that_is_rejected_or_revoked_bills_nobody(trade: Pair, pair: Pair) -> None:
    contract_id = await contracted(pair)
    for step, who, other in (
        ("Reject", pair.requester, pair.provider),
        ("Revoke", pair.provider, pair.requester),
    ):
        asked = await change(pair.provider, contract_id)
        named = {"amendment_id": asked.amendment_id}
        second = {"contract_id": contract_id, "terms": proposed(micros=1), "reason": "Now."}
        assert await refused(pair.requester, "RequestContractChange", **second) == NOT_NOW
        assert await refused(pair.provider, "AcceptContractAmendment", **named) == FORBIDDEN
        assert await refused(other, f"{step}ContractAmendment", **named) == FORBIDDEN
        assert await refused(pair.whole.business, "AcceptContractAmendment", **named) == FORBIDDEN
        assert await refused(trade.requester, "AcceptContractAmendment", **named) == HIDDEN
        await decide(who, step, asked)
        for again in ("Accept", "Reject"):
            assert await refused(pair.requester, f"{again}ContractAmendment", **named) == NOT_NOW
    assert await pair.call() == "OK"
    assert [each.value.amount_micros for each in await entries_of(pair.requester)] == [20_000]
    assert await states(pair.provider, contract_id) == ["REJECTED", "REVOKED"]


@pytest.mark.usecase(1480, 1481)
async def test_a_termination_for_later_routes_until_its_instant(pair: Pair) -> None:
    contract_id = await contracted(pair, notice_days=30)
    past = {"contract_id": contract_id, "reason": "Now.", "effective_time": time(soon(-5))}
    outcome = await refused(pair.requester, "RequestContractTermination", **past)
    assert outcome == invalid("effective_time")
    asked = await pair.ask_end(pair.requester, contract_id, effective_time=time(soon(2)))
    await pair.accepted(pair.provider, asked)
    assert await pair.call() == "OK"
    assert await refused(pair.provider, "TerminateContract", contract_id=contract_id) == NOT_NOW
    assert (await states(pair.requester, contract_id)) == ["SCHEDULED"]
    await until(lambda: is_in(pair, contract_id, "TERMINATED"), 10, "the contract has ended")
    assert await pair.call() == "NO_CONTRACT"
    await until(lambda: has_states(pair, contract_id, "APPLIED"), 10, "the request is applied")
    named = {"contract_id": contract_id, "reason": "Twice."}
    assert await refused(pair.provider, "RequestContractTermination", **named) == NOT_NOW
