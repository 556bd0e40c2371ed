"""Tariffs and settlement of a clearing house, through the market and its router."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from clearinghouse import operator
from clearinghouse.provider_settings import read_settings
from clearinghouse.storage import Pool, open_pool
from foundation.embedded_postgres import EmbeddedPostgres
from gem.common.v1.time_range_pb2 import TimeRange
from gem.options.v1.options_pb2 import PARTNER_ROLE_CLEARING_HOUSE
from gem.roaming.v1 import settlement_service_pb2 as settlement
from gem.roaming.v1 import tariff_service_pb2 as tariffs
from gem.roaming.v1.settlement_pb2 import NETTING_KIND_BILATERAL
from gem.roaming.v1.settlement_service_pb2_grpc import SettlementServiceStub
from gem.roaming.v1.tariff_service_pb2_grpc import TariffServiceStub
from gem.roaming.v1.tariff_version_pb2 import TariffVersion
from gemarket.administration import descriptor_set
from gemarket.ports import free_port
from gemarket.supervisor import ChildSpec
from tests.clearinghouse_ledger import APRIL, MARCH, agree, booked, booking, house_database
from tests.clearinghouse_records import plausible, price, tariff
from tests.end_to_end.whole_market import EVSP, Party, WholeMarket

INTERFACES = ("gem.roaming.v1.SettlementService", "gem.roaming.v1.TariffService")
TIMEOUT_S = 20


@dataclass
class Roaming:
    """A clearing house with two EVSPs and an operator that contracted it."""

    operator: Party
    evsp: Party
    other_evsp: Party
    config: Path
    pool: Pool

    async def settled(self) -> Any:
        """Settle March as the clearing house's people do."""
        given = ["clear", "--from", "2026-03-01", "--to", "2026-04-01"]
        arguments = operator.parser().parse_args([*given, "--config", str(self.config)])
        return await operator.run(arguments)


async def _served(whole: WholeMarket, house: Party, database_url: str) -> tuple[Path, int]:
    """Start the clearing house as a process of its own."""
    market, port = whole.market, free_port()
    key_file = market.layout.run / f"{house.partner_id}.key"
    key_file.write_bytes(bytes(32))
    key_file.chmod(0o600)
    config = {
        "partner_id": house.partner_id,
        "database_url": database_url,
        "port": port,
        "key_file": str(house.identity.key_file),
        "certificate_file": str(house.identity.certificate_file),
        "ca_file": str(house.identity.ca_file),
        "trust_domain": market.settings.trust_domain,
        "token_key_file": str(key_file),
        "market_address": market.address,
    }
    file = market.layout.run / f"{house.partner_id}.json"
    file.write_text(json.dumps(config))
    arguments = ("--config", str(file))
    await market.supervisor.start(ChildSpec(house.partner_id, "clearinghouse.provider", arguments))
    return file, port


@pytest.fixture(scope="module")
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """Give a database of its own: other clearing houses of the market have theirs."""
    async with house_database(postgres) as url:
        yield url


@pytest.fixture(scope="module")
async def roaming(whole: WholeMarket, database_url: str) -> AsyncIterator[Roaming]:
    files = descriptor_set(settlement.DESCRIPTOR, tariffs.DESCRIPTOR)
    await whole.technical.core.ensure_interface(files)
    house = await whole.registered("hub", PARTNER_ROLE_CLEARING_HOUSE)
    config, port = await _served(whole, house, database_url)
    operator_party = await whole.operator()
    evsps = [await whole.registered("evsp", EVSP) for _ in range(2)]
    for interface in INTERFACES:
        service_id = await whole.offer(house, f"127.0.0.1:{port}", interface)
        for party in (operator_party, *evsps):
            await party.core.ensure_contract(service_id)
    async with open_pool(read_settings(config).database_url, 4) as pool:
        yield Roaming(operator_party, evsps[0], evsps[1], config, pool)


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()


@pytest.mark.usefixtures("roaming")
async def test_a_partner_without_a_contract_reaches_no_clearing_house(whole: WholeMarket) -> None:
    stranger = await whole.registered("evsp", EVSP)
    stub: Any = SettlementServiceStub(stranger.core.channel)
    call = stub.ListStatements(settlement.ListStatementsRequest(), timeout=TIMEOUT_S)
    assert await code_of(call) is grpc.StatusCode.PERMISSION_DENIED


async def test_no_contracted_partner_settles_a_period(roaming: Roaming) -> None:
    period = TimeRange()
    period.start_time.FromDatetime(MARCH)
    period.end_time.FromDatetime(APRIL)
    request = settlement.RunClearingRequest(
        request_id="R", period=period, netting=NETTING_KIND_BILATERAL
    )
    for party in (roaming.operator, roaming.evsp):
        stub: Any = SettlementServiceStub(party.core.channel)
        code = await code_of(stub.RunClearing(request, timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_settled_period_is_seen_by_its_parties_and_exported(roaming: Roaming) -> None:
    owed = {"operator_id": roaming.operator.partner_id, "evsp_id": roaming.evsp.partner_id}
    mine = [booking(number, **owed) for number in range(1, 4)]
    credit = mine[0].credit(4, "CREDIT", MARCH)
    others = replace(booking(5, **owed), evsp_id=roaming.other_evsp.partner_id)
    await booked(roaming.pool, [*mine, credit, others])
    run = await roaming.settled()
    assert run["cdr_count"] == 5
    for party, count in ((roaming.evsp, 4), (roaming.other_evsp, 1)):
        stub: Any = SettlementServiceStub(party.core.channel)
        listed = await stub.ListStatements(
            settlement.ListStatementsRequest(run_id=run["run_id"]), timeout=TIMEOUT_S
        )
        (statement,) = listed.statements
        assert statement.debtor_partner_id == party.partner_id
        lines = await stub.ListStatementLines(
            settlement.ListStatementLinesRequest(statement_id=statement.statement_id),
            timeout=TIMEOUT_S,
        )
        assert statement.line_count == len(lines.lines) == count
        net = await stub.GetNetting(
            settlement.GetNettingRequest(run_id=run["run_id"]), timeout=TIMEOUT_S
        )
        (position,) = net.positions
        assert position.net.amount_micros == -statement.with_tax.amount_micros
        ids = {line.cdr_id for line in lines.lines}
        await _check_files(stub, statement.statement_id, ids)
    stub = SettlementServiceStub(roaming.operator.core.channel)
    request = settlement.GetClearingRunRequest(run_id=run["run_id"])
    assert (await stub.GetClearingRun(request, timeout=TIMEOUT_S)).run.cdr_count == 5


async def _check_files(stub: Any, statement_id: str, ids: set[str]) -> None:
    heads = {
        settlement.STATEMENT_FORMAT_CSV: b"cdr_id,",
        settlement.STATEMENT_FORMAT_XLSX: b"PK",
        settlement.STATEMENT_FORMAT_PDF: b"%PDF-",
    }
    for form, head in heads.items():
        request = settlement.ExportStatementRequest(statement_id=statement_id, format=form)
        stream = stub.ExportStatement(request, timeout=TIMEOUT_S)
        content = b"".join([piece.content async for piece in stream])
        assert content.startswith(head)
        if form == settlement.STATEMENT_FORMAT_CSV:
            rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
            assert sorted(row["cdr_id"] for row in rows) == sorted(ids)


async def test_a_tariff_is_seen_by_whom_its_operator_agreed_with_and_rates_records(
    roaming: Roaming,
) -> None:
    await agree(roaming.pool, roaming.operator.partner_id, roaming.evsp.partner_id)
    version = TariffVersion(
        operator_id="DE*ABC",
        tariff=tariff(price("ENERGY", "0.40", 20), price("PARKING_TIME", 2, 20)),
    )
    version.validity.start_time.FromDatetime(MARCH)
    publisher: Any = TariffServiceStub(roaming.operator.core.channel)
    request = tariffs.PublishTariffRequest(request_id="R", version=version)
    published = (await publisher.PublishTariff(request, timeout=TIMEOUT_S)).version
    asked = tariffs.GetTariffRequest(operator_id="DE*ABC", tariff_id="T1")
    stub: Any = TariffServiceStub(roaming.evsp.core.channel)
    assert (await stub.GetTariff(asked, timeout=TIMEOUT_S)).version == published
    other: Any = TariffServiceStub(roaming.other_evsp.core.channel)
    assert await code_of(other.GetTariff(asked, timeout=TIMEOUT_S)) is grpc.StatusCode.NOT_FOUND
    rate = tariffs.RateChargeDetailRecordRequest(record=plausible(), by_published_tariff=True)
    comparison = (await stub.RateChargeDetailRecord(rate, timeout=TIMEOUT_S)).comparison
    assert comparison.rating.with_tax_micros == 6_000_000
    assert not comparison.within_tolerance, "the record says 0.50 EUR per kWh"
