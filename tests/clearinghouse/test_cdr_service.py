"""The rpcs about charge detail records over mutual TLS: who may do and see what (1511)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from clearinghouse.provider import serve
from clearinghouse.provider_settings import read_settings
from clearinghouse.storage import Pool
from gem.roaming.v1 import cdr_clearing_pb2 as cdrs
from gem.roaming.v1 import clearing_service_pb2 as wire
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.dispute_pb2 import DisputeState
from tests.clearinghouse.clearing import EVSP, HASHING, OPERATOR, Clearing, market_client, numbered
from tests.clearinghouse.clearing_process import calling, metadata, write_config
from tests.clearinghouse.contract_holder import ContractHolder, HolderMarket, Mode
from tests.identities import Identity, MakeIdentity
from tests.mobility.test_provider import refused

if TYPE_CHECKING:
    from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceAsyncStub

pytestmark = pytest.mark.usecase(1511)
PATIENCE_S = 30.0
STRANGER = "stranger"


class Service:
    """A clearing house that serves, and its partners."""

    def __init__(self, stub: ClearingServiceAsyncStub, clearing: Clearing) -> None:
        self.stub = stub
        self.clearing = clearing
        self.numbers = 0

    async def call(self, sender: str, request: Any) -> Any:
        """Call the rpc that a request is of."""
        name = type(request).__name__.removesuffix("Request")
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            self.numbers += 1
            request.request_id = f"r-{self.numbers}"
        return await getattr(self.stub, name)(request, metadata=metadata(sender), timeout=20)

    async def submit(self, record: ChargeDetailRecord, sender: str = OPERATOR) -> int:
        request = wire.SubmitChargeDetailRecordRequest(record=record)
        status: int = (await self.call(sender, request)).receipt.status
        return status

    async def get(self, cdr_id: str, sender: str = OPERATOR) -> cdrs.ClearedCdr:
        request = wire.GetChargeDetailRecordRequest(key=key(cdr_id))
        found: cdrs.ClearedCdr = (await self.call(sender, request)).record
        return found

    async def until(self, cdr_id: str, state: str) -> cdrs.ClearedCdr:
        """Wait until a record came into a state."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self.get(cdr_id)
                if found.state == cdrs.CdrState.Value(f"CDR_STATE_{state}"):
                    return found
                await asyncio.sleep(0.02)

    async def cleared(self, number: int, state: str) -> ChargeDetailRecord:
        """Bring one record so far."""
        record = numbered(number)
        await self.clearing.authorize(record)
        assert await self.submit(record) == cdrs.SUBMISSION_STATUS_STORED
        await self.until(record.cdr_id, state)
        return record


def key(cdr_id: str, revision: int = 0) -> cdrs.CdrKey:
    return cdrs.CdrKey(operator_id="DE*ABC", cdr_id=cdr_id, revision_number=revision)


def review(cdr_id: str, verdict: str, revision: int = 0) -> wire.ReviewChargeDetailRecordRequest:
    said = cdrs.CdrReview(
        cdr_id=cdr_id,
        operator_id="DE*ABC",
        revision_number=revision,
        verdict=cdrs.CdrVerdict.Value(f"CDR_VERDICT_{verdict}"),
    )
    return wire.ReviewChargeDetailRecordRequest(review=said)


@pytest.fixture
async def service(
    pool: Pool,
    shared_url: str,
    holder: ContractHolder,
    holders_market: HolderMarket,
    make_identity: MakeIdentity,
    marketplace_identity: Identity,
    tmp_path: Path,
) -> AsyncIterator[Service]:
    """Serve a clearing house in this process."""
    identity = make_identity("clearinghouse")
    config = write_config(tmp_path, identity, shared_url, holders_market.port)
    provider = await serve(read_settings(config))
    client = market_client(holders_market.port, identity, tmp_path)
    try:
        async with calling(provider.port, marketplace_identity) as stub:
            assert holders_market.holders == {EVSP: holder}
            yield Service(stub, Clearing(pool, client))
    finally:
        await provider.stop(1.0)
        await client.close()


async def test_what_is_anothers_is_not_found(service: Service) -> None:
    record = await service.cleared(1, "APPROVED")
    requests: list[Callable[[], Any]] = [
        lambda: wire.GetChargeDetailRecordRequest(key=key("CDR-1")),
        lambda: review("CDR-1", "APPROVED"),
        lambda: wire.ReviseChargeDetailRecordRequest(record=record),
        lambda: wire.RejectChargeDetailRecordRequest(key=key("CDR-1")),
        lambda: wire.CreditChargeDetailRecordRequest(key=key("CDR-1"), credit_cdr_id="C"),
        lambda: wire.DisputeChargeDetailRecordRequest(key=key("CDR-1"), claim_text="no"),
    ]
    for make in requests:
        code, reason = await refused(service.call(STRANGER, make()))
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"), make()
    wrong_side: list[tuple[str, Any]] = [
        (OPERATOR, review("CDR-1", "DECLINED")),
        (OPERATOR, wire.DisputeChargeDetailRecordRequest(key=key("CDR-1"), claim_text="no")),
        (EVSP, wire.CreditChargeDetailRecordRequest(key=key("CDR-1"), credit_cdr_id="C")),
        (EVSP, wire.RejectChargeDetailRecordRequest(key=key("CDR-1"))),
    ]
    for sender, request in wrong_side:
        code, _ = await refused(service.call(sender, request))
        assert code is grpc.StatusCode.NOT_FOUND, request
    listing = wire.ListChargeDetailRecordsRequest()
    assert not (await service.call(STRANGER, listing)).records
    assert not (await service.call(STRANGER, wire.PullChargeDetailRecordsRequest())).records
    acknowledge = wire.AcknowledgeChargeDetailRecordsRequest(keys=[key("CDR-1")])
    assert (await service.call(STRANGER, acknowledge)).unknown_keys == [key("CDR-1")]


@pytest.mark.parametrize(
    ("request_message", "code"),
    [
        (review("CDR-1", "UNSPECIFIED"), grpc.StatusCode.INVALID_ARGUMENT),
        (review("CDR-1", "APPROVED", revision=7), grpc.StatusCode.ABORTED),
        (
            wire.RejectChargeDetailRecordRequest(key=key("no operator id")),
            grpc.StatusCode.NOT_FOUND,
        ),
        (wire.SubmitChargeDetailRecordRequest(), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_a_wrong_request_is_refused(
    service: Service, holder: ContractHolder, request_message: Any, code: grpc.StatusCode
) -> None:
    holder.mode = Mode.LATER
    await service.cleared(1, "FORWARDED")
    assert (await refused(service.call(EVSP, request_message)))[0] is code


async def test_a_stream_is_acknowledged_record_by_record_in_its_order(service: Service) -> None:
    records = [numbered(number) for number in range(9)]
    nameless = numbered(9)
    nameless.operator_id = "D*ABC"
    batches = [records[:3], [*records[3:6], records[0], nameless], records[6:]]
    requests = [
        wire.SubmitChargeDetailRecordsRequest(request_id=f"r{number}", records=batch)
        for number, batch in enumerate(batches)
    ]
    call = service.stub.SubmitChargeDetailRecords(iter(requests), metadata=metadata(OPERATOR))
    answers = [answer async for answer in call]
    assert [answer.request_id for answer in answers] == ["r0", "r1", "r2"]
    statuses = [[receipt.status for receipt in answer.receipts] for answer in answers]
    assert statuses == [[1, 1, 1], [1, 1, 1, 2, 5], [1, 1, 1]]
    assert answers[1].receipts[4].findings[0].field == "operator_id"


async def test_an_implausible_record_is_returned_with_every_reason_and_can_be_revised(
    service: Service, holder: ContractHolder
) -> None:
    record = numbered(1)
    await service.clearing.authorize(record)
    wrong = numbered(1)
    wrong.total_energy_milli_wh, wrong.currency_code = -1, "eur"
    wrong.end_time.seconds = wrong.start_time.seconds - 60
    await service.submit(wrong)
    found = await service.until("CDR-1", "RETURNED")
    assert len({finding.reason for finding in found.findings}) >= 4
    assert not holder.kept
    revise = wire.ReviseChargeDetailRecordRequest(record=record, revision_number=0)
    receipt = (await service.call(OPERATOR, revise)).receipt
    assert (receipt.status, receipt.state) == (1, cdrs.CDR_STATE_REVISED)
    assert (await service.call(OPERATOR, revise)).receipt.status == 2
    found = await service.until("CDR-1", "APPROVED")
    assert (found.revision_number, list(found.findings)) == (1, [])
    assert await service.submit(wrong) == cdrs.SUBMISSION_STATUS_ALREADY_SUBMITTED
    late = wire.ReviseChargeDetailRecordRequest(record=wrong, revision_number=1)
    assert (await refused(service.call(OPERATOR, late)))[1] == "STATE_NOT_ALLOWED"


async def test_a_declined_record_is_given_up_and_the_session_is_free(
    service: Service, holder: ContractHolder
) -> None:
    holder.mode = Mode.DECLINE
    await service.cleared(1, "DECLINED")
    assert (await service.get("CDR-1")).decline_text == "not ours"
    reject = wire.RejectChargeDetailRecordRequest(key=key("CDR-1"), text="our mistake")
    assert (await service.call(OPERATOR, reject)).state == cdrs.CDR_STATE_REJECTED
    fresh = numbered(1)
    fresh.cdr_id = "CDR-1b"
    holder.mode = Mode.APPROVE
    assert await service.submit(fresh) == cdrs.SUBMISSION_STATUS_STORED
    await service.until("CDR-1b", "APPROVED")
    assert await service.clearing.bookings() == {"cdr-1b": 7_200_000}


async def test_a_disputed_record_is_credited_and_the_session_has_a_fresh_one(
    service: Service,
) -> None:
    await service.cleared(1, "APPROVED")
    claim = wire.DisputeChargeDetailRecordRequest(key=key("CDR-1"), claim_text="never there")
    dispute = (await service.call(EVSP, claim)).dispute
    assert (await service.call(EVSP, claim)).dispute == dispute
    again = wire.DisputeChargeDetailRecordRequest(key=key("CDR-1"), claim_text="again")
    assert (await refused(service.call(EVSP, again)))[1] == "STATE_NOT_ALLOWED"
    withdraw = wire.AnswerDisputeRequest(
        dispute_id=dispute.dispute_id, answer=DisputeState.DISPUTE_STATE_WITHDRAWN
    )
    assert (await refused(service.call(OPERATOR, withdraw)))[1] == "NOT_FOUND"
    answer = wire.AnswerDisputeRequest(
        dispute_id=dispute.dispute_id,
        answer=DisputeState.DISPUTE_STATE_CREDITED,
        credit_cdr_id="CREDIT-1",
    )
    closed = (await service.call(OPERATOR, answer)).dispute
    assert closed.state == DisputeState.DISPUTE_STATE_CREDITED
    credit = await service.until("CREDIT-1", "APPROVED")
    assert credit.record.total_cost.with_tax_micros == -7_200_000
    original = await service.get("CDR-1")
    assert (original.state, original.credit_cdr_id) == (cdrs.CDR_STATE_CREDITED, "CREDIT-1")
    assert sum((await service.clearing.bookings()).values()) == 0
    fresh = numbered(1)
    fresh.cdr_id = "FRESH-1"
    assert await service.submit(fresh) == cdrs.SUBMISSION_STATUS_STORED
    await service.until("FRESH-1", "APPROVED")
    other = wire.CreditChargeDetailRecordRequest(key=key("CDR-1"), credit_cdr_id="CREDIT-2")
    assert (await refused(service.call(OPERATOR, other)))[1] == "STATE_NOT_ALLOWED"


async def test_a_credit_that_the_operator_makes_is_checked_against_the_record(
    service: Service,
) -> None:
    record = await service.cleared(1, "APPROVED")
    credit = numbered(1)
    credit.cdr_id, credit.credited_cdr_id = "CREDIT-1", record.cdr_id
    await service.submit(credit)
    found = await service.until("CREDIT-1", "RETURNED")
    credit_reason = cdrs.PlausibilityReason.PLAUSIBILITY_REASON_CREDIT
    assert credit_reason in {finding.reason for finding in found.findings}
    assert (await service.get("CDR-1")).state == cdrs.CDR_STATE_APPROVED


async def test_an_evsp_that_pulls_gets_records_until_it_acknowledges_them(
    service: Service, holder: ContractHolder
) -> None:
    holder.mode = Mode.DOWN
    for number in range(3):
        await service.cleared(number, "ACCEPTED")
    pull = wire.PullChargeDetailRecordsRequest(max_count=2)
    first = await service.call(EVSP, pull)
    assert [each.record.cdr_id for each in first.records] == ["CDR-0", "CDR-1"]
    assert first.more
    assert await service.call(EVSP, pull) == first
    keys = [key(each.record.cdr_id) for each in first.records]
    acknowledge = wire.AcknowledgeChargeDetailRecordsRequest(keys=[*keys, key("unknown")])
    assert (await service.call(EVSP, acknowledge)).unknown_keys == [key("unknown")]
    rest = await service.call(EVSP, pull)
    assert [each.record.cdr_id for each in rest.records] == ["CDR-2"]
    assert not rest.more
    await service.until("CDR-0", "FORWARDED")
    done = await service.call(EVSP, review("CDR-0", "APPROVED"))
    assert done.state == cdrs.CDR_STATE_APPROVED


async def test_each_side_sees_what_is_its_own(service: Service, holder: ContractHolder) -> None:
    record = numbered(1)
    record.identification.ClearField("contract_id")
    record.identification.token_uid = "04A2B3C4D5E6F7"
    shown = HASHING.identification(record.identification)
    assert shown is not None
    await service.clearing.authorize(record, identity_key=shown.hex())
    await service.submit(record)
    await service.until("CDR-1", "APPROVED")
    by_operator, by_evsp = await service.get("CDR-1"), await service.get("CDR-1", EVSP)
    assert by_operator.record.identification.contract_id == ""
    assert by_evsp.record.identification.contract_id == "NL-TNM-C00122045-K"
    (kept,) = holder.kept.values()
    for each in (by_operator, by_evsp, kept):
        assert each.record.identification.token_uid == ""


async def test_lists_are_paged_from_the_latest_and_filtered(service: Service) -> None:
    for number in range(5):
        await service.cleared(number, "APPROVED")
    await service.submit(numbered(9))
    await service.until("CDR-9", "RETURNED")
    found: list[str] = []
    request = wire.ListChargeDetailRecordsRequest(states=[cdrs.CDR_STATE_APPROVED])
    request.page.page_size = 2
    while True:
        answer = await service.call(OPERATOR, request)
        found += [each.record.cdr_id for each in answer.records]
        if not answer.page.next_page_token:
            break
        request.page.page_token = answer.page.next_page_token
    assert found == [f"CDR-{number}" for number in (4, 3, 2, 1, 0)]
    of_session = wire.ListChargeDetailRecordsRequest(session_id="CH-3")
    assert [e.record.cdr_id for e in (await service.call(EVSP, of_session)).records] == ["CDR-3"]
    late = wire.ListChargeDetailRecordsRequest()
    late.started.start_time.FromDatetime(service.clearing.now)
    assert not (await service.call(OPERATOR, late)).records
    request.page.page_token = "none of ours"
    assert (await refused(service.call(OPERATOR, request)))[1] == "REQUEST_INVALID"
