"""`cdr-intake` and `cdr-clear`: charge detail records through a whole market, a second."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from grpc import aio

from bench.cdr_records import OPERATOR_ID, authorize, record
from bench.stage import market, start_python
from clearinghouse.storage import Pool, open_pool
from clearinghouse.token_hash import write_token_key
from foundation.migrations import migrate
from gem.options.v1 import options_pb2
from gem.roaming.v1 import clearing_service_pb2, contract_holder_service_pb2
from gem.roaming.v1 import clearing_service_pb2 as wire
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub
from gemarket.administration import Connection, PartnerPlan, ServicePlan, descriptor_set
from gemarket.identity import channel_credentials
from gemarket.market import Market
from gemarket.ports import free_port

INTAKE_RECORDS = 20_000
CLEAR_RECORDS = 6_000
_BATCH, _STREAMS = 250, 2
_HOUSE, _OPERATOR, _EVSP = "bench-house", "bench-operator", "bench-evsp"
_CLEARING = "gem.roaming.v1.ClearingService"
_HOLDER = "gem.roaming.v1.ContractHolderService"
_PARTNERS = {
    _HOUSE: options_pb2.PARTNER_ROLE_CLEARING_HOUSE,
    _OPERATOR: options_pb2.PARTNER_ROLE_EVSE_OPERATOR,
    _EVSP: options_pb2.PARTNER_ROLE_EVSP,
}


@dataclass(frozen=True, slots=True)
class ClearingStage:
    """A market with a clearing house, an operator and an EVSP."""

    pool: Pool
    #: The operator's connection to the market.
    channel: aio.Channel
    house: psutil.Process


@asynccontextmanager
async def clearing_stage() -> AsyncIterator[ClearingStage]:
    """Set everything up, each party a process of its own."""
    limits = {"partner_max_calls": 1000, "partner_calls_per_s": 1_000_000}
    async with market(1, limits=limits) as running:
        await migrate(running.database_url, "clearinghouse")
        house, holder = (f"127.0.0.1:{free_port()}" for _ in range(2))
        with tempfile.TemporaryDirectory(prefix="gem-bench-") as folder:
            await _register(running)
            processes = [
                await start_python("bench.contract_holder", _holder_plan(running, holder)),
                await _start_house(running, house, Path(folder)),
            ]
            try:
                await _contract(running, house, holder)
                credentials = channel_credentials(running.layout.partner(_OPERATOR))
                async with (
                    open_pool(running.database_url, 2) as pool,
                    aio.secure_channel(running.address, credentials) as channel,
                ):
                    yield ClearingStage(pool, channel, psutil.Process(processes[1].pid))
            finally:
                for process in processes:
                    process.terminate()
                    await process.wait()


async def _register(running: Market) -> None:
    layout = running.layout
    async with (
        Connection(running.address, layout.operator("business")) as business,
        Connection(running.address, layout.operator("technical")) as technical,
    ):
        roaming = (clearing_service_pb2.DESCRIPTOR, contract_holder_service_pb2.DESCRIPTOR)
        await technical.publish_interface(descriptor_set(*roaming))
        for name, role in _PARTNERS.items():
            owned = [OPERATOR_ID] if name == _OPERATOR else []
            await business.ensure_partner(PartnerPlan(name, "Bench", [role], operator_ids=owned))
            roots = running.authority.root_pem
            await business.issue_identity(name, layout.partner(name), roots)


def _holder_plan(running: Market, address: str) -> str:
    return json.dumps(
        {
            "address": address,
            "identity": str(running.layout.partner(_EVSP).folder),
            "trust_domain": running.settings.trust_domain,
        }
    )


async def _start_house(running: Market, address: str, folder: Path) -> asyncio.subprocess.Process:
    identity, key = running.layout.partner(_HOUSE), folder / "token.key"
    write_token_key(key)
    config = folder / "clearinghouse.json"
    content = {
        "partner_id": _HOUSE,
        "database_url": running.database_url,
        "port": int(address.rpartition(":")[2]),
        "key_file": str(identity.key_file),
        "certificate_file": str(identity.certificate_file),
        "ca_file": str(identity.ca_file),
        "trust_domain": running.settings.trust_domain,
        "token_key_file": str(key),
        "market_address": running.address,
    }
    config.write_text(json.dumps(content))
    return await start_python("clearinghouse.provider", "--config", str(config))


async def _contract(running: Market, house: str, holder: str) -> None:
    """Publish both services, and let each party contract what it calls."""
    layout = running.layout
    for provider, interface, endpoint, buyer in (
        (_EVSP, _HOLDER, holder, _HOUSE),
        (_HOUSE, _CLEARING, house, _OPERATOR),
    ):
        plan = ServicePlan(provider, "Roaming", interface, endpoint)
        async with Connection(running.address, layout.partner(provider)) as seller:
            service_id = await seller.ensure_service(plan)
        async with Connection(running.address, layout.operator("technical")) as technical:
            await technical.publish_service(service_id)
        async with Connection(running.address, layout.partner(buyer)) as party:
            await party.ensure_contract(service_id)


async def _submit(channel: aio.Channel, count: int, prefix: str) -> float:
    """Stream records in batches over some streams; gives the seconds until all are durable."""
    requests = [
        wire.SubmitChargeDetailRecordsRequest(
            request_id=f"{prefix}-{first}",
            records=[record(number, prefix) for number in range(first, first + _BATCH)],
        )
        for first in range(0, count, _BATCH)
    ]
    begun = time.perf_counter()

    async def stream(part: list[wire.SubmitChargeDetailRecordsRequest]) -> int:
        call = ClearingServiceStub(channel).SubmitChargeDetailRecords(iter(part), timeout=600)
        statuses = [receipt.status async for each in call for receipt in each.receipts]
        assert set(statuses) == {1}, "each is new"
        return len(statuses)

    parts = [requests[number::_STREAMS] for number in range(_STREAMS)]
    assert sum(await asyncio.gather(*map(stream, parts))) == count
    return time.perf_counter() - begun


async def cdr_intake(count: int = INTAKE_RECORDS) -> Mapping[str, object]:
    """Reach: ≥ 2,000 records/s, each acknowledged when it is durable."""
    async with clearing_stage() as stage:
        await _submit(stage.channel, 4 * _BATCH, "warm")
        spent = stage.house.cpu_times()
        wall_s = await _submit(stage.channel, count, "bench")
        now = stage.house.cpu_times()
    cpu_s = now.user + now.system - spent.user - spent.system
    return {
        "records": count,
        "records_per_s": round(count / wall_s),
        "batch": _BATCH,
        "cpu_us_per_record": round(1e6 * cpu_s / count),
    }


async def cdr_clear(count: int = CLEAR_RECORDS) -> Mapping[str, object]:
    """Reach: ≥ 300 records/s from their submission to their approval by the EVSP, and booked."""
    async with clearing_stage() as stage:
        await authorize(stage.pool, count, "bench", _OPERATOR, _EVSP)
        spent, begun = stage.house.cpu_times(), time.perf_counter()
        await _submit(stage.channel, count, "bench")
        booked = "SELECT count(*) FROM clearinghouse.booking"
        while await stage.pool.fetchval(booked) < count:
            await asyncio.sleep(0.1)
            assert time.perf_counter() - begun < 600, "records got stuck"
        wall_s = time.perf_counter() - begun
        now = stage.house.cpu_times()
    cpu_s = now.user + now.system - spent.user - spent.system
    return {
        "records": count,
        "records_per_s": round(count / wall_s, 1),
        "cpu_us_per_record": round(1e6 * cpu_s / count),
    }
