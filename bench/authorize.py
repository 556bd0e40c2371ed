"""`authorize` and `authorize-memory`: decisions from a whitelist of a million tokens."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import AsyncIterator
from pathlib import Path

from grpc import aio

from bench.load import Ask, Measured, measure
from bench.roaming_stage import (
    EVSE,
    EVSP,
    OPERATOR,
    RFID,
    RoamingStage,
    card,
    contract,
    roaming_stage,
)
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_contract_service_pb2_grpc as contracts_grpc
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1.authorization_pb2 import AuthorizationStatus
from gem.roaming.v1.identification_pb2 import Identification

FEW, MANY = 10_000, 1_000_000
_IN_FLIGHT = 8
_ROUNDS = 5
_CALLS = 800
_WARM_UP = 400
_LOADED = 100_000
_MESSAGE = 500
_ids = itertools.count(1)


def _asking(channel: aio.Channel, tokens: int) -> Ask:
    """Make the call that is repeated: some card of the whitelist, never the same request."""
    call: aio.UnaryUnaryMultiCallable[clearing.AuthorizeRequest, clearing.AuthorizeResponse] = (
        channel.unary_unary(
            "/gem.roaming.v1.ClearingService/Authorize",
            request_serializer=clearing.AuthorizeRequest.SerializeToString,
            response_deserializer=clearing.AuthorizeResponse.FromString,
        )
    )
    chance = random.Random(1)  # made-up customers

    async def ask() -> object:
        shown = Identification(kind=RFID, token_uid=card(chance.randrange(tokens)))
        request = clearing.AuthorizeRequest(
            request_id=f"bench-{next(_ids)}", evse_id=EVSE, identification=shown
        )
        answer = await call(request, timeout=10)
        status = answer.decision.status
        if status != AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED:
            message = f"the answer is {AuthorizationStatus.Name(status)}"
            raise RuntimeError(message)
        return answer

    return ask


async def _rounds(on: RoamingStage, tokens: int) -> list[Measured]:
    async with on.channel(OPERATOR) as channel:
        ask = _asking(channel, tokens)
        await measure(ask, _WARM_UP, [], _IN_FLIGHT)
        processes = await on.processes()
        return [await measure(ask, _CALLS, processes, _IN_FLIGHT) for _ in range(_ROUNDS)]


async def authorize(few: int = FEW, many: int = MANY) -> dict[str, float]:
    """Reach: CPU of clearing house and database, ratio ≤ 1.1; p99 through the router ≤ 50 ms."""
    async with roaming_stage() as on:
        await on.fill(0, few)
        small = await _rounds(on, few)
        await on.fill(few, many)
        large = await _rounds(on, many)
    everything = [latency for round_ in large for latency in round_.latencies_ms]
    whole = Measured(len(everything), 1.0, 0.0, tuple(everything))
    small_us = statistics.median(round_.cpu_us_per_call for round_ in small)
    large_us = statistics.median(round_.cpu_us_per_call for round_ in large)
    return {
        "tokens": many,
        "ratio": round(large_us / small_us, 3),
        "cpu_us": round(large_us, 1),
        "p50_ms": round(whole.percentile_ms(50), 2),
        "p99_ms": round(whole.percentile_ms(99), 2),
        "per_s": round(statistics.median(round_.per_s for round_ in large), 1),
    }


async def authorize_memory(many: int = MANY, loaded: int = _LOADED) -> dict[str, float]:
    """Reach: ≤ 400 MB, also after a load of 100,000 contracts and a stream of everything."""
    async with roaming_stage() as on:
        await on.fill(0, many - loaded)
        async with on.channel(EVSP) as channel:
            stub = contracts_grpc.ClearingContractServiceStub(channel)
            answers = stub.LoadCustomerContracts(_messages(many - loaded, many), timeout=600)
            count = 0
            async for answer in answers:
                count += len(answer.reports)
            request = contracts.StreamCustomerContractsRequest()
            streamed = 0
            async for page in stub.StreamCustomerContracts(request, timeout=600):
                streamed += len(page.contracts)
        await _rounds(on, many)
        peak_mb = _peak_mb(on.house.pid)
    return {"tokens": streamed, "loaded": count, "peak_mb": peak_mb}


async def _messages(first: int, last: int) -> AsyncIterator[contracts.LoadCustomerContractsRequest]:
    for start in range(first, last, _MESSAGE):
        yield contracts.LoadCustomerContractsRequest(
            request_id="bench-load",
            mode=contracts.LOAD_MODE_DELTA,
            atomic=True,
            contracts=map(contract, range(start, min(start + _MESSAGE, last))),
        )


def _peak_mb(pid: int) -> float:
    """Give the most memory that a process had so far, megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024, 1)
