"""`cdr-intake` and `cdr-clear`: charge detail records through a whole market, a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from grpc import aio

from bench.cdr_records import authorize, record
from bench.roaming_stage import EVSP, OPERATOR, roaming_stage
from clearinghouse.storage import open_pool
from gem.roaming.v1 import clearing_service_pb2 as wire
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub

INTAKE_RECORDS = 20_000
CLEAR_RECORDS = 6_000
_BATCH, _STREAMS = 250, 2


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
    async with roaming_stage() as stage, stage.channel(OPERATOR) as channel:
        await _submit(channel, 4 * _BATCH, "warm")
        spent = stage.house.cpu_times()
        wall_s = await _submit(channel, count, "bench")
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
    async with (
        roaming_stage() as stage,
        open_pool(stage.market.database_url, 2) as pool,
        stage.channel(OPERATOR) as channel,
    ):
        await authorize(pool, count, "bench", OPERATOR, EVSP)
        spent, begun = stage.house.cpu_times(), time.perf_counter()
        await _submit(channel, count, "bench")
        booked = "SELECT count(*) FROM clearinghouse.booking"
        while await pool.fetchval(booked) < count:
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
