"""Additions of services and publications of the framework that fail over mutual TLS (1682)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gem.marketplace.v1 import contract_framework_pb2 as frameworks
from gemarket.administration import ServicePlan
from tests.contracts import framework_terms, section
from tests.end_to_end.contract_desk import (
    FORBIDDEN,
    HIDDEN,
    NOT_NOW,
    THERE,
    ask,
    contracted,
    decide,
    invalid,
    new_trade,
    refused,
)
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.test_contracts import Pair
from tests.end_to_end.whole_market import EVSE_SEARCH, WholeMarket

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


async def test_only_a_service_of_the_provider_that_is_not_covered_is_added(
    trade: Pair, pair: Pair
) -> None:
    contract_id = await contracted(pair)
    other = await new_trade(pair.whole)
    foreign, own = await other.offer(), await pair.offer()
    plan = ServicePlan(pair.provider.partner_id, "Second", EVSE_SEARCH, pair.endpoint)
    second = (await pair.provider.core.services.RegisterService(plan.request(), timeout=10)).service
    hidden = second.offerings[0]
    rpc = "RequestServiceAddition"

    def form(offering: Any, sections: list[str]) -> dict[str, Any]:
        addition = {"offering_id": offering.offering_id, "section_ids": sections}
        return {"contract_id": contract_id, "reason": "Both.", "addition": addition}

    blamed = invalid("addition.offering_id")
    assert await refused(pair.requester, rpc, **form(foreign, _SECTIONS)) == blamed
    assert await refused(pair.requester, rpc, **form(own, _SECTIONS)) == THERE
    not_published = await refused(pair.requester, rpc, **form(hidden, []))
    assert not_published[0] in ("NOT_FOUND", "STATE_NOT_ALLOWED")
    await pair.whole.technical.core.publish_service(second.service_id)
    offering = await pair.offer(second.service_id)
    incomplete = await refused(pair.requester, rpc, **form(offering, _SECTIONS[1:]))
    assert incomplete[0] == "REQUEST_INVALID"
    right = form(offering, _SECTIONS)
    assert await refused(trade.requester, rpc, **right) == HIDDEN
    asked = (await ask(pair.requester, rpc, **right)).amendment
    await decide(pair.provider, "Reject", asked)
    assert await pair.call() == "OK"
    assert {each.service_id for each in await entries_of(pair.requester)} == {pair.service_id}


async def test_a_framework_is_published_by_the_business_operator_and_only_a_whole_one(
    trade: Pair,
) -> None:
    current = await ask(trade.requester, "GetContractFramework")
    whole = current.framework
    rpc = "PublishContractFramework"
    for party in (trade.requester, trade.provider, trade.whole.technical):
        assert await refused(party, rpc, framework=whole) == FORBIDDEN
    twice = frameworks.ContractFramework()
    twice.CopyFrom(whole)
    twice.ClearField("version")
    twice.modules.add().CopyFrom(whole.modules[0])
    assert (await refused(trade.whole.business, rpc, framework=twice))[0] == "REQUEST_INVALID"
    assert (await refused(trade.whole.business, rpc))[0] == "REQUEST_INVALID"
    assert await refused(trade.whole.business, rpc, framework=whole) == NOT_NOW, "not the next"
    again = await ask(trade.requester, "GetContractFramework")
    assert again.framework == whole
    odd = framework_terms(extra=(section("odd"),))
    fields = {"service_id": trade.service_id, "terms": odd}
    assert (await refused(trade.provider, "CreateOffering", **fields))[0] == "REQUEST_INVALID"
