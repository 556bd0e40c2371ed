"""Roaming's contracts and authorizations through the whole market and its router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio

from foundation.certificates import utc_now
from foundation.embedded_postgres import EmbeddedPostgres
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import contract_holder_service_pb2 as holder
from gem.roaming.v1.authorization_pb2 import AuthorizationDecision
from gem.roaming.v1.session_notice_pb2 import SessionNotice
from gemarket.administration import new_request_id
from tests.clearinghouse.house import by_contract, card, contract, outcome, shows
from tests.conftest import fresh_database
from tests.end_to_end.charging import reason_of
from tests.end_to_end.roaming import CONTRACTS, EVSE, PATIENCE_S, Roaming, roaming_in
from tests.end_to_end.whole_market import EVSP, OPERATOR, Party, WholeMarket

LIST = "CLEARING_HOUSE_LIST"
CUSTOMER = "DE-RMP-C00000001"
HIDDEN = (StatusCode.NOT_FOUND, "PROVIDER_REFUSED")
NO_CONTRACT = (StatusCode.PERMISSION_DENIED, "NO_CONTRACT")


@pytest.fixture(scope="module")
async def roaming(
    whole: WholeMarket, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Roaming]:
    """Run a clearing house, an operator and an EVSP in the market.

    Its database is its own: clearing houses of other tests leave their agreements in theirs.
    """
    async for url in fresh_database(postgres, "template0"):
        async with roaming_in(whole, tmp_path_factory.mktemp("house"), url) as running:
            yield running


async def decided(
    roaming: Roaming, shown: Any, party: Party | None = None
) -> AuthorizationDecision:
    request = clearing.AuthorizeRequest(
        request_id=new_request_id(), evse_id=EVSE, identification=shown
    )
    stub = roaming.clearing(party or roaming.operator)
    decision: AuthorizationDecision = (await stub.Authorize(request, timeout=10)).decision
    return decision


async def hold(roaming: Roaming, held: wire.CustomerContract) -> wire.CustomerContract:
    """Let the EVSP have a contract, whatever it had before."""
    request = messages.LoadCustomerContractsRequest(
        request_id=new_request_id(), mode=messages.LOAD_MODE_DELTA, contracts=[held]
    )

    async def requests() -> AsyncIterator[messages.LoadCustomerContractsRequest]:
        yield request

    stub = roaming.contracts(roaming.evsp)
    answers = [each async for each in stub.LoadCustomerContracts(requests(), timeout=20)]
    assert answers[-1].finished
    key = messages.GetCustomerContractRequest(contract_id=held.contract_id)
    found: wire.CustomerContract = (await stub.GetCustomerContract(key, timeout=10)).contract
    return found


async def refused(call: Any) -> tuple[StatusCode, str]:
    """Give code and reason; of what a provider refuses the router passes on the code."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), reason_of(caught.value)


@pytest.mark.usecase(1502, 1512, 1514)
async def test_a_customer_of_an_evsp_charges_at_an_operator_and_his_evsp_hears_of_it(
    roaming: Roaming,
) -> None:
    held = await hold(roaming, contract(CUSTOMER, card("0000000A")))
    assert held.evsp_partner_id == roaming.evsp.partner_id
    decision = await decided(roaming, shows("0000000A"))
    assert outcome(decision) == ("ALLOWED", LIST)
    assert decision.evsp_partner_id == roaming.evsp.partner_id
    notice = SessionNotice(
        operator_session_id="s-1",
        authorization_reference=decision.authorization_reference,
        kind=1,  # type: ignore[arg-type]  # START
        sequence_number=1,
        evse_id=EVSE,
    )
    notice.notice_time.GetCurrentTime()
    notice.start_time.GetCurrentTime()
    request = clearing.NotifySessionRequest(request_id=new_request_id(), notice=notice)
    stub = roaming.clearing(roaming.operator)
    answer = await stub.NotifySession(request, timeout=10)
    assert answer.session_id == decision.session_id
    async with asyncio.timeout(PATIENCE_S):
        while not roaming.asked:  # noqa: ASYNC110  # another process forwards
            await asyncio.sleep(0.05)
    heard = roaming.asked.pop().notice
    assert (heard.session_id, heard.operator_session_id) == (decision.session_id, "s-1")
    theirs = roaming.clearing(roaming.evsp).NotifySession(request, timeout=10)
    assert await refused(theirs) == HIDDEN, "it is the operator's authorization"


@pytest.mark.usecase(1502)
async def test_the_evsp_is_asked_through_the_router_within_the_budget(roaming: Roaming) -> None:
    await hold(roaming, contract("DE-RMP-C00000002", card("0000000B"), policy="NEVER"))
    made = AuthorizationDecision(
        status=4,  # type: ignore[arg-type]  # NO_CREDIT
        deciding_layer=6,  # type: ignore[arg-type]  # EVSP
        authorization_reference="theirs",
    )
    made.decided_time.GetCurrentTime()
    roaming.answer = holder.AuthorizeCustomerResponse(decision=made)
    assert outcome(await decided(roaming, shows("0000000B"))) == ("NO_CREDIT", "EVSP")
    # A contract id that nobody stored: its owner is asked all the same.
    assert outcome(await decided(roaming, by_contract("DE-RMP-C00000099"))) == ("NO_CREDIT", "EVSP")
    roaming.answer = None
    started = asyncio.get_running_loop().time()
    unreachable = ("NOT_ALLOWED", "EVSP_UNREACHABLE")
    assert outcome(await decided(roaming, shows("0000000B"))) == unreachable
    assert asyncio.get_running_loop().time() - started < 5
    roaming.asked.clear()


@pytest.mark.usecase(1512)
async def test_who_has_no_contract_reaches_no_clearing_house(
    roaming: Roaming, whole: WholeMarket
) -> None:
    stranger = await whole.registered("stranger", OPERATOR)
    assert await refused(decided(roaming, shows(), stranger)) == NO_CONTRACT
    request = messages.GetCustomerContractRequest(contract_id=CUSTOMER)
    call = roaming.contracts(stranger).GetCustomerContract(request, timeout=10)
    assert await refused(call) == NO_CONTRACT


@pytest.mark.usecase(1497, 1500, 1513)
async def test_an_agreement_is_what_the_contract_in_the_marketplace_is(roaming: Roaming) -> None:
    await hold(roaming, contract("DE-RMP-C00000003", card("0000000C")))
    stub = roaming.contracts(roaming.operator)
    (held,) = (
        await stub.ListRoamingAgreements(messages.ListRoamingAgreementsRequest(), timeout=10)
    ).agreements
    assert held.market_contract_id == roaming.contract_ids["operator>evsp"]
    parties = (held.operator_partner_id, held.evsp_partner_id)
    assert parties == (roaming.operator.partner_id, roaming.evsp.partner_id)
    await roaming.operator.core.suspend(held.market_contract_id)
    await roaming.follow(0)
    assert outcome(await decided(roaming, shows("0000000C"))) == ("UNKNOWN", LIST)
    await roaming.operator.core.resume(held.market_contract_id)
    await roaming.follow(1)
    assert outcome(await decided(roaming, shows("0000000C"))) == ("ALLOWED", LIST)


@pytest.mark.usecase(1514, 1515, 1516, 1517)
async def test_a_contract_is_changed_by_its_evsp_and_its_customer_and_by_nobody_else(
    roaming: Roaming, whole: WholeMarket
) -> None:
    changes = [wire.CUSTOMER_CHANGE_LANGUAGE]
    held = await hold(
        roaming,
        contract(
            "DE-RMP-C00000004",
            card("0000000D"),
            customer_changes=changes,
            customer_secret="open sesame",
        ),
    )
    other = await whole.registered("evsp", EVSP)
    await other.core.ensure_contract(roaming.service_ids[CONTRACTS])
    get = messages.GetCustomerContractRequest(contract_id=held.contract_id)
    theirs = roaming.contracts(other).GetCustomerContract(get, timeout=10)
    assert await refused(theirs) == HIDDEN
    own = messages.ChangeOwnContractRequest(
        request_id=new_request_id(),
        contract_id=held.contract_id,
        customer_secret="open sesame",
        language="de",
    )
    changed = await roaming.contracts(roaming.evsp).ChangeOwnContract(own, timeout=10)
    assert (changed.contract.language, changed.contract.version_number) == ("de", 2)
    end = messages.DisableCustomerContractRequest(
        request_id=new_request_id(), contract_id=held.contract_id
    )
    stub = roaming.contracts(roaming.evsp)
    at = Timestamp()
    at.FromDatetime(utc_now().replace(tzinfo=None))
    await stub.DisableCustomerContract(end, timeout=10)
    assert outcome(await decided(roaming, shows("0000000D"))) == ("BLOCKED", LIST)
    listed = [
        each.contract_id
        async for answer in stub.GetWhitelist(messages.GetWhitelistRequest(at_time=at), timeout=10)
        for each in answer.contracts
    ]
    assert held.contract_id in listed
