"""`contracts-effect`: how long after its acknowledgement a suspension is not yet in effect.

Callers on every worker never pause. A call that is started after the acknowledgement and reaches
the provider all the same says how late the suspension was.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from grpc import StatusCode, aio

from bench.answers import search_request
from bench.load import Ask
from bench.stage import REQUESTER, Stage, asking, operators, stage
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gemarket.administration import Connection

WORKERS = 2
ROUNDS = 300
#: So many connections are spread over the workers until each has one.
_CHANNELS_MAX = 64
#: A time without a call that reaches the provider after which the suspension is in effect.
_WATCH_S = 0.08


class Caller:
    """Calls one after the other over one connection, and notes when a call reached a provider."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        #: Start of each call that reached the provider, seconds.
        self.routed_s: list[float] = []
        self.refused = 0

    async def run(self) -> None:
        """Call until cancelled."""
        while True:
            started_s = time.perf_counter()
            try:
                await self._ask()
                self.routed_s.append(started_s)
            except aio.AioRpcError as error:
                if error.code() is not StatusCode.PERMISSION_DENIED:
                    raise
                self.refused += 1


def _accepted(on: Stage) -> list[int]:
    """Give how many connections of callers each worker has."""
    port = on.market.port
    return [
        sum(each.laddr.port == port for each in process.net_connections("tcp") if each.raddr)
        for process in on.worker_processes()
    ]


@asynccontextmanager
async def on_every_worker(on: Stage) -> AsyncIterator[list[aio.Channel]]:
    """Open one connection to each worker."""
    async with AsyncExitStack() as stack:
        found: dict[int, aio.Channel] = {}
        for _ in range(_CHANNELS_MAX):
            before = _accepted(on)
            channel = await stack.enter_async_context(on.channel(on.market.address))
            await asyncio.wait_for(channel.channel_ready(), 10)
            grown = [now - then for now, then in zip(_accepted(on), before, strict=True)]
            found.setdefault(grown.index(1), channel)
            if len(found) == WORKERS:
                break
        assert len(found) == WORKERS, "the kernel shares connections out"
        yield list(found.values())


async def _late_ms(buyer: Connection, contract_id: str, callers: list[Caller]) -> float:
    """Suspend once; gives how late the last call was that reached the provider, milliseconds."""
    for caller in callers:
        caller.routed_s.clear()
    await buyer.suspend(contract_id)
    acknowledged_s = time.perf_counter()
    await asyncio.sleep(_WATCH_S)
    starts_s = [start for caller in callers for start in caller.routed_s]
    late_s = max((start - acknowledged_s for start in starts_s), default=0.0)
    await buyer.resume(contract_id)
    await asyncio.sleep(random.uniform(0.0, 0.02))  # spread over the heartbeat
    return max(late_s, 0.0) * 1e3


async def contracts_effect(rounds: int = ROUNDS) -> dict[str, float]:
    """Reach: p99 ≤ 50 ms from the acknowledgement to the last call that was routed."""
    async with stage(operators(1, 1), WORKERS) as on, AsyncExitStack() as stack:
        buyer = await stack.enter_async_context(
            Connection(on.market.address, on.market.layout.partner(REQUESTER))
        )
        listed = await buyer.contracts.ListContracts(contracts.ListContractsRequest(), timeout=10)
        (contract,) = listed.contracts
        channels = await stack.enter_async_context(on_every_worker(on))
        request = search_request().SerializeToString()
        callers = [Caller(asking(channel, request)) for channel in channels]
        tasks = [asyncio.create_task(caller.run()) for caller in callers]
        stack.callback(lambda: [task.cancel() for task in tasks])
        late_ms = sorted(
            [await _late_ms(buyer, contract.contract_id, callers) for _ in range(rounds)]
        )
        assert not any(task.done() for task in tasks), "callers call until the end"
        assert all(caller.refused for caller in callers), "a suspended contract refuses calls"
    return {
        "p50_ms": round(late_ms[len(late_ms) // 2], 2),
        "p99_ms": round(late_ms[int(len(late_ms) * 0.99)], 2),
        "worst_ms": round(late_ms[-1], 2),
        "rounds": rounds,
    }
