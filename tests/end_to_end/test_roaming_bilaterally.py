"""Roaming without a clearing house, by a contract of operator and EVSP (feature 1804).

The same interfaces: the variation of use case 1512, and the EVSP as second actor of 1502.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from grpc import StatusCode, aio

from gem.roaming.v1 import cdr_clearing_pb2 as cdrs
from gem.roaming.v1 import contract_holder_service_pb2 as wire
from gem.roaming.v1.contract_holder_service_pb2_grpc import ContractHolderServiceStub
from gem.roaming.v1.session_notice_pb2 import SessionNotice
from gemarket.administration import descriptor_set, new_request_id
from tests.clearinghouse.clearing import numbered
from tests.clearinghouse.contract_holder import ContractHolder, Mode
from tests.clearinghouse.house import by_contract, outcome, shows
from tests.end_to_end.charging import reason_of
from tests.end_to_end.roaming import HOLDER, own_provider_id
from tests.end_to_end.test_clearing_of_cdrs import holding
from tests.end_to_end.whole_market import EVSP, OPERATOR, Party, WholeMarket

pytestmark = pytest.mark.usecase(1502, 1511, 1512)
OPERATOR_ID = "DE*BLO"
EVSE = f"{OPERATOR_ID}*E1"
CUSTOMERS = ("DE-BLA-C00000001", "DE-BLB-C00000001")


@dataclass
class Bilateral:
    """An operator, and two EVSPs that it has contracts with."""

    operator: Party
    evsps: tuple[Party, Party]
    holders: tuple[ContractHolder, ContractHolder]

    def call(self, rpc: str, request: Any, to: int | None = None) -> Any:
        """Call as the operator; `to` names one of the EVSPs."""
        stub = ContractHolderServiceStub(self.operator.core.channel)
        named = (("gem-provider", self.evsps[to].partner_id),) if to is not None else None
        return getattr(stub, rpc)(request, metadata=named, timeout=10)


@pytest.fixture(scope="module")
async def bilateral(whole: WholeMarket) -> AsyncIterator[Bilateral]:
    """Bring them in; no clearing house is there."""
    await whole.technical.core.ensure_interface(descriptor_set(wire.DESCRIPTOR))
    operator = await whole.registered("operator", OPERATOR, operator_ids=[OPERATOR_ID])
    evsps = (await whole.registered("evsp", EVSP), await whole.registered("evsp", EVSP))
    holders = ContractHolder(), ContractHolder()
    async with (
        holding(whole, evsps[0], holders[0]) as first,
        holding(whole, evsps[1], holders[1]) as second,
    ):
        for evsp, customer, endpoint in zip(evsps, CUSTOMERS, (first, second), strict=True):
            await own_provider_id(whole, evsp, customer[:6])
            service_id = await whole.offer(evsp, endpoint, HOLDER)
            await operator.core.ensure_contract(service_id)
        yield Bilateral(operator, evsps, holders)


def question(customer: str) -> wire.AuthorizeCustomerRequest:
    return wire.AuthorizeCustomerRequest(
        request_id=new_request_id(),
        evse_id=EVSE,
        contract_id=customer,
        identification=by_contract(customer),
    )


async def refused(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), reason_of(caught.value)


async def test_the_evsp_whose_customer_it_is_decides(bilateral: Bilateral) -> None:
    for customer in CUSTOMERS:
        decision = (await bilateral.call("AuthorizeCustomer", question(customer))).decision
        assert outcome(decision) == ("ALLOWED", "EVSP")
        assert decision.contract_id == customer


async def test_nobody_is_asked_whom_the_operator_did_not_name(bilateral: Bilateral) -> None:
    unknown = question("DE-BLX-C00000001")
    code, reason = await refused(bilateral.call("AuthorizeCustomer", unknown))
    assert (code, reason) == (StatusCode.FAILED_PRECONDITION, "PROVIDER_AMBIGUOUS")
    by_card = question("")
    by_card.identification.CopyFrom(shows())
    code, _ = await refused(bilateral.call("AuthorizeCustomer", by_card))
    assert code is StatusCode.FAILED_PRECONDITION
    named = (await bilateral.call("AuthorizeCustomer", by_card, to=1)).decision
    assert outcome(named) == ("ALLOWED", "EVSP")


async def test_who_has_no_contract_with_the_evsp_does_not_reach_it(
    bilateral: Bilateral, whole: WholeMarket
) -> None:
    stranger = await whole.registered("operator", OPERATOR)
    call = Bilateral(stranger, bilateral.evsps, bilateral.holders).call
    code, reason = await refused(call("AuthorizeCustomer", question(CUSTOMERS[0])))
    assert (code, reason) == (StatusCode.PERMISSION_DENIED, "NO_CONTRACT")


async def test_notices_and_records_go_to_the_evsp_itself(bilateral: Bilateral) -> None:
    notice = SessionNotice(operator_session_id="OP-1", sequence_number=1, evse_id=EVSE, kind=1)  # type: ignore[arg-type]  # START
    notice.authorization_reference = "theirs"
    notice.notice_time.GetCurrentTime()
    notice.start_time.GetCurrentTime()
    told = wire.ReceiveSessionNoticeRequest(request_id=new_request_id(), notice=notice)
    await bilateral.call("ReceiveSessionNotice", told, to=0)
    record = numbered(1)
    record.operator_id, record.location.evse_id = OPERATOR_ID, EVSE
    sent = wire.ReceiveChargeDetailRecordRequest(
        request_id=new_request_id(),
        record=cdrs.ClearedCdr(record=record, state=cdrs.CDR_STATE_RECEIVED),
    )
    holder = bilateral.holders[0]
    holder.mode = Mode.ACKNOWLEDGE_THEN_DIE
    code, _ = await refused(bilateral.call("ReceiveChargeDetailRecord", sent, to=0))
    assert code is StatusCode.UNAVAILABLE
    holder.mode = Mode.APPROVE
    answer = await bilateral.call("ReceiveChargeDetailRecord", sent, to=0)
    assert answer.review.verdict == cdrs.CDR_VERDICT_APPROVED
    assert (len(holder.kept), len(bilateral.holders[1].kept)) == (1, 0)
    key = cdrs.CdrKey(operator_id=OPERATOR_ID, cdr_id=record.cdr_id)
    asked = wire.GetChargeDetailRecordReviewRequest(key=key)
    said = await bilateral.call("GetChargeDetailRecordReview", asked, to=0)
    assert said.review == answer.review
    code, _ = await refused(bilateral.call("GetChargeDetailRecordReview", asked, to=1))
    assert code is StatusCode.NOT_FOUND
