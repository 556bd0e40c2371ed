"""Use case 1511 through the whole market: operator, clearing house and EVSP are partners of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc import aio

from clearinghouse.provider import serve
from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.storage import open_pool
from foundation.migrations import migrate
from gem.options.v1 import options_pb2
from gem.roaming.v1 import (
    clearing_service_pb2,
    clearing_service_pb2_grpc,
    contract_holder_service_pb2,
    contract_holder_service_pb2_grpc,
)
from gem.roaming.v1.cdr_clearing_pb2 import CdrState
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gemarket.administration import descriptor_set
from gemarket.identity import server_credentials
from interceptors.provider_side import MarketplaceOnly
from tests.clearinghouse.clearing import AUTHORIZATION_COLUMNS, authorization_row, numbered
from tests.clearinghouse.contract_holder import ContractHolder
from tests.end_to_end.whole_market import EVSP, OPERATOR, Party, WholeMarket

_SERVICE = "gem.roaming.v1.ClearingService"

pytestmark = pytest.mark.usecase(1511)
HOLDER = "gem.roaming.v1.ContractHolderService"
OPERATOR_ID = "DE*C15"
PATIENCE_S = 30.0


@asynccontextmanager
async def holding(whole: WholeMarket, party: Party, holder: ContractHolder) -> AsyncIterator[str]:
    """Serve an EVSP as the partner that it is; gives the endpoint."""
    domain = whole.market.settings.trust_domain
    server = aio.server(interceptors=(MarketplaceOnly(domain),))
    contract_holder_service_pb2_grpc.add_ContractHolderServiceServicer_to_server(holder, server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(party.identity))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def clearing(whole: WholeMarket, party: Party, folder: Path) -> AsyncIterator[str]:
    """Serve a clearing house as the partner that it is; gives the endpoint."""
    key = folder / "token.key"
    key.touch(mode=0o600)
    key.write_bytes(b"a key of tests, thirty-two bytes")
    identity = party.identity
    settings = ProviderSettings(
        partner_id=party.partner_id,
        database_url=whole.market.database_url,
        key_file=identity.key_file,
        certificate_file=identity.certificate_file,
        ca_file=identity.ca_file,
        trust_domain=whole.market.settings.trust_domain,
        token_key_file=key,
        market_address=whole.market.address,
    )
    provider = await serve(settings)
    try:
        yield f"127.0.0.1:{provider.port}"
    finally:
        await provider.stop(1.0)


def records() -> list[ChargeDetailRecord]:
    """Give records of the operator, the last of them not plausible."""
    made = [numbered(number) for number in range(21)]
    for record in made:
        record.operator_id = OPERATOR_ID
        record.location.evse_id = record.location.evse_id.replace("DE*ABC", OPERATOR_ID)
    made[-1].total_time_ms = 1
    return made


async def test_records_go_from_the_operator_through_the_clearing_house_to_the_evsp(
    whole: WholeMarket, tmp_path: Path
) -> None:
    roaming = (clearing_service_pb2.DESCRIPTOR, contract_holder_service_pb2.DESCRIPTOR)
    await whole.technical.core.ensure_interface(descriptor_set(*roaming))
    await migrate(whole.market.database_url, "clearinghouse")
    house = await whole.registered("house", options_pb2.PARTNER_ROLE_CLEARING_HOUSE)
    operator = await whole.registered("operator", OPERATOR, operator_ids=[OPERATOR_ID])
    evsp, holder, sent = await whole.registered("evsp", EVSP), ContractHolder(), records()
    async with (
        holding(whole, evsp, holder) as holder_endpoint,
        clearing(whole, house, tmp_path) as house_endpoint,
    ):
        holds = await whole.offer(evsp, holder_endpoint, HOLDER)
        clears = await whole.offer(house, house_endpoint, _SERVICE)
        await house.core.ensure_contract(holds)
        await operator.core.ensure_contract(clears)
        await evsp.core.ensure_contract(clears)
        async with open_pool(whole.market.database_url, 1) as pool:
            await pool.copy_records_to_table(
                "authorization",
                schema_name="clearinghouse",
                columns=AUTHORIZATION_COLUMNS,
                records=[
                    authorization_row(each, evsp.partner_id, operator.partner_id) for each in sent
                ],
            )
        await _submit(operator, sent)
        states = await _cleared(operator, len(sent))
        assert states.pop(sent[-1].cdr_id) == CdrState.CDR_STATE_RETURNED
        assert set(states.values()) == {CdrState.CDR_STATE_APPROVED}
        assert {name[1] for name in holder.kept} == states.keys()
        for kept in holder.kept.values():
            assert kept.operator_partner_id == operator.partner_id
            assert kept.rating.within_tolerance
        stub = clearing_service_pb2_grpc.ClearingServiceStub(evsp.core.channel)
        listing = clearing_service_pb2.ListChargeDetailRecordsRequest()
        seen = (await stub.ListChargeDetailRecords(listing, timeout=10)).records
        assert {each.record.cdr_id for each in seen} == states.keys()


async def _submit(operator: Party, sent: list[ChargeDetailRecord]) -> None:
    """Stream records in two batches, and one alone that was sent before."""
    stub = clearing_service_pb2_grpc.ClearingServiceStub(operator.core.channel)
    requests = [
        clearing_service_pb2.SubmitChargeDetailRecordsRequest(request_id=name, records=batch)
        for name, batch in (("first", sent[:15]), ("second", sent[15:]))
    ]
    call = stub.SubmitChargeDetailRecords(iter(requests), timeout=20)
    answers = [answer async for answer in call]
    assert [len(answer.receipts) for answer in answers] == [15, 6]
    assert {receipt.status for answer in answers for receipt in answer.receipts} == {1}
    again = clearing_service_pb2.SubmitChargeDetailRecordRequest(request_id="again", record=sent[0])
    assert (await stub.SubmitChargeDetailRecord(again, timeout=10)).receipt.status == 2


async def _cleared(operator: Party, count: int) -> dict[str, int]:
    """Wait until every record was approved or returned; gives the states by id."""
    stub = clearing_service_pb2_grpc.ClearingServiceStub(operator.core.channel)
    listing = clearing_service_pb2.ListChargeDetailRecordsRequest(
        states=[CdrState.CDR_STATE_APPROVED, CdrState.CDR_STATE_RETURNED]
    )
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await stub.ListChargeDetailRecords(listing, timeout=10)).records
            if len(found) == count:
                return {each.record.cdr_id: each.state for each in found}
            await asyncio.sleep(0.1)
