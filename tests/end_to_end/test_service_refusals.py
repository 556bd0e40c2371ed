"""How publishing and disabling services fail over mutual TLS (1477, 1494, 1486, 1624)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.contracts import framework_terms, time
from tests.end_to_end import contract_desk as desk
from tests.end_to_end.charging import reason_of
from tests.end_to_end.load import until
from tests.end_to_end.service_desk import (
    ask,
    blocking,
    published,
    refusal,
    refused,
    registered,
    registration,
    state_of,
)
from tests.end_to_end.test_contracts import Pair, soon
from tests.end_to_end.whole_market import WholeMarket

INVALID, NOT_NOW, HIDDEN = "REQUEST_INVALID", "STATE_NOT_ALLOWED", "NOT_FOUND"
FORBIDDEN = "ROLE_NOT_ALLOWED"
_SECTIONS = [each["section_id"] for each in framework_terms()["sections"]]


@pytest.fixture(scope="module")
async def trade(whole: WholeMarket) -> Pair:
    """Bring in a provider with a service, and a requester."""
    return await desk.new_trade(whole)


@pytest.mark.usecase(1477)
async def test_the_registration_contract_is_the_operators_and_is_complete(trade: Pair) -> None:
    whole, step = trade.whole, "PublishRegistrationContract"
    whole_form = {"title": "Terms", "text": "Be good."}
    current = (await ask(trade.provider, "GetRegistrationContract")).current_version
    for party in (trade.provider, trade.requester, whole.technical):
        await refused(party, step, FORBIDDEN, **whole_form)
    for wrong in ({"title": ""}, {"text": ""}):
        await refused(whole.business, step, INVALID, **{**whole_form, **wrong})
    assert (await ask(trade.provider, "GetRegistrationContract")).current_version == current
    for party in (whole.business, whole.technical):
        await refused(party, "RegisterService", FORBIDDEN, **registration(trade.provider))


@pytest.mark.usecase(1494)
async def test_a_service_is_published_once_and_by_who_may(trade: Pair) -> None:
    whole, stranger = trade.whole, await trade.whole.operator()
    made = await registered(trade.provider)
    wanted = {"service_id": made.service_id}
    for party in (stranger, trade.requester):
        await refused(party, "PublishService", HIDDEN, **wanted)
    await refused(whole.business, "PublishService", FORBIDDEN, **wanted)
    await refused(trade.provider, "PublishService", HIDDEN, service_id="no-such")
    await refused(trade.provider, "PublishService", INVALID)
    for party, reason in ((whole.technical, NOT_NOW), (trade.provider, FORBIDDEN)):
        error = await refusal(party, "RefusePublication", **{"reason": "Not so.", **wanted})
        assert reason_of(error) == reason
    assert state_of((await ask(trade.provider, "GetService", **wanted)).service) == "REGISTERED"
    await ask(trade.provider, "PublishService", **wanted)
    for party in (trade.provider, whole.technical):
        text = await refused(party, "PublishService", NOT_NOW, **wanted)
        assert text == "The service is published already."
    events = (await ask(trade.provider, "ListServiceEvents", **wanted)).events
    assert len(events) == 2, "what was refused is no history"


@pytest.mark.usecase(1486)
async def test_only_contracts_that_have_not_ended_keep_a_service_from_being_disabled(
    trade: Pair,
) -> None:
    pair = replace(trade, requester=await trade.whole.requester())
    service = await published(pair.provider, endpoint=pair.endpoint)
    wanted = {"service_id": service.service_id}
    offering = await pair.offer(service.service_id, term={"end_time": time(soon(2))})
    by_term = (await pair.accept(offering)).contract_id
    base = await desk.contracted(pair)
    await ask(pair.provider, "StopService", **wanted)
    error = await refusal(pair.provider, "DisableService", **wanted)
    assert blocking(error) == [by_term]
    await until(lambda: desk.is_in(pair, by_term, "EXPIRED"), 10, "the term is over")

    # The same service once more, now as a part of another contract.
    await ask(pair.provider, "StartService", **wanted)
    await add(pair, base, service.service_id)
    await ask(pair.provider, "StopService", **wanted)
    await until(lambda: blocks(pair, wanted, [base]), 10, "only the other one is in the way")
    await desk.ask(pair.requester, "TerminateContract", contract_id=base)
    disabled = await ask(pair.provider, "DisableService", **wanted)
    assert state_of(disabled.service) == "DISABLED"
    shown = await ask(pair.requester, "GetService", **wanted)
    assert sorted(each.contract_id for each in shown.contracts) == sorted([by_term, base])
    stranger = await pair.whole.requester()
    await refused(stranger, "GetService", HIDDEN, **wanted)
    await refused(stranger, "DisableService", HIDDEN, **wanted)
    await refused(pair.whole.business, "DisableService", FORBIDDEN, **wanted)


async def add(pair: Pair, contract_id: str, service_id: str) -> None:
    """Add a service to a contract."""
    offering = await pair.offer(service_id)
    addition = {"offering_id": offering.offering_id, "section_ids": _SECTIONS}
    fields = {"contract_id": contract_id, "reason": "Both.", "addition": addition}
    asked = await desk.ask(pair.requester, "RequestServiceAddition", **fields)
    await desk.decide(pair.provider, "Accept", asked.amendment)


async def blocks(pair: Pair, wanted: dict[str, Any], contract_ids: list[str]) -> bool:
    """Say whether disabling is refused because of exactly these contracts."""
    return blocking(await refusal(pair.provider, "DisableService", **wanted)) == contract_ids


@pytest.mark.usecase(1624)
async def test_an_offering_is_changed_by_its_provider_and_never_after_its_withdrawal(
    trade: Pair,
) -> None:
    stranger = await trade.whole.operator()
    offering = await trade.offer(micros=5)
    changed = {"offering_id": offering.offering_id, "terms": framework_terms(micros=6)}
    for party, outcome in (
        (stranger, desk.HIDDEN),
        (trade.requester, desk.HIDDEN),
        (trade.whole.business, desk.FORBIDDEN),
    ):
        assert await desk.refused(party, "ChangeOffering", **changed) == outcome
    unknown = {**changed, "offering_id": "no-such"}
    assert await desk.refused(trade.provider, "ChangeOffering", **unknown) == desk.HIDDEN
    after = (await desk.ask(trade.provider, "ChangeOffering", **changed)).offering
    # The one before is no longer on offer, neither to be changed nor to be accepted.
    assert await desk.refused(trade.provider, "ChangeOffering", **changed) == desk.NOT_NOW
    accept = {"section_ids": _SECTIONS, "accepted": True}
    old = {"offering_id": offering.offering_id, **accept}
    assert await desk.refused(trade.requester, "CreateContract", **old) == desk.HIDDEN
    named = {"offering_id": after.offering_id}
    assert await desk.refused(stranger, "WithdrawOffering", **named) == desk.HIDDEN
    await desk.ask(trade.provider, "WithdrawOffering", **named)
    new = {**named, **accept}
    assert await desk.refused(trade.requester, "CreateContract", **new) == desk.HIDDEN
