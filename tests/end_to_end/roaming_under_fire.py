"""Roaming in a whole market of which a test kills workers, the clearing house and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import psutil
from grpc import StatusCode, aio

from clearinghouse.storage import DATABASE_ERRORS, open_pool
from foundation.embedded_postgres import EmbeddedPostgres
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as wire
from gem.roaming.v1.authorization_pb2 import AuthorizationDecision
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gemarket.administration import new_request_id
from gemarket.ports import free_port
from tests.clearinghouse.clearing_process import ClearingProcess
from tests.clearinghouse.contract_holder import ContractHolder
from tests.clearinghouse.house import by_contract, contract
from tests.end_to_end.roaming import OPERATOR_ID, Roaming, house_settings
from tests.end_to_end.test_clearing_of_cdrs import holding
from tests.end_to_end.whole_market import running_market

#: A customer of the EVSP, whose contract the clearing house holds.
CUSTOMER = "DE-RMP-C00000001"
PATIENCE_S = 60.0
#: What a caller repeats; anything else is a defect.
_AWAY = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED})
#: What grpc.aio says, as INTERNAL, when the connection breaks under a message that it sends.
_BROKE_HERE = "Internal error from Core"
_SETTLED = """
SELECT count(*) FROM clearinghouse.cdr
WHERE state IN ('APPROVED', 'RETURNED') AND cdr_key = ANY($1::text[])
"""
# What a dead process had claimed is claimed again at once, not when its lease ends.
_CLAIM_AGAIN = (
    "UPDATE clearinghouse.{} SET next_at = now() WHERE next_at > now() + interval '1 second'"
)
T = TypeVar("T")


class Fire(Roaming):
    """Operator, EVSP and clearing house; what was acknowledged; what can be killed."""

    process: ClearingProcess
    server: EmbeddedPostgres
    config: Path
    records: ContractHolder
    #: Calls that were repeated.
    breaks = 0

    async def kill(self, victim: str, chance: random.Random) -> None:
        """End one of the parties as `kill -9` does, and let it come back."""
        if victim == "worker":
            pids = [pid for pid in self.whole.worker_pids().values() if psutil.pid_exists(pid)]
            # One that is not back yet is not there to be killed.
            for pid in chance.sample(pids, min(1, len(pids))):
                os.kill(pid, signal.SIGKILL)
        elif victim == "house":
            await self.process.kill()
            self.process = await ClearingProcess.start(self.config)
        else:
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            await asyncio.to_thread(self.server.start)

    async def everybody_is_there(self) -> None:
        """Wait until every worker that was killed serves again."""
        async with asyncio.timeout(PATIENCE_S):
            while not all(map(self._listens, self.whole.worker_pids().values())):  # noqa: ASYNC110  # processes of their own
                await asyncio.sleep(0.1)

    def _listens(self, pid: int) -> bool:
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            return False
        port = self.whole.market.port
        return any(each.status == "LISTEN" and each.laddr.port == port for each in connections)

    async def repeated(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call until it is answered, as any caller has to."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await call()
                except aio.AioRpcError as error:
                    if error.code() not in _AWAY and error.details() != _BROKE_HERE:
                        raise
                self.breaks += 1
                await asyncio.sleep(0.1)

    async def authorized(self, number: int) -> AuthorizationDecision:
        """Ask whether the customer may charge; a repetition is the same command."""
        request = wire.AuthorizeRequest(
            request_id=f"authorize-{number}",
            evse_id=f"{OPERATOR_ID}*E{number}",
            identification=by_contract(CUSTOMER),
            operator_session_id=f"OP-{number}",
        )
        stub = self.clearing(self.operator)
        answer = await self.repeated(lambda: stub.Authorize(request, timeout=10))
        decision: AuthorizationDecision = answer.decision
        return decision

    async def submitted(self, *records: ChargeDetailRecord) -> None:
        """Stream records until each is acknowledged."""
        batches = [
            wire.SubmitChargeDetailRecordsRequest(request_id=new_request_id(), records=[each])
            for each in records
        ]
        stub = self.clearing(self.operator)

        async def once() -> list[int]:
            call = stub.SubmitChargeDetailRecords(iter(batches), timeout=20)
            return [receipt.status async for answer in call for receipt in answer.receipts]

        statuses = await self.repeated(once)
        assert len(statuses) == len(records)
        assert set(statuses) <= {1, 2}, "stored now or before"

    async def settled(self, names: list[str]) -> None:
        """Wait until records have come to an end."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    for table in ("delivery", "receiver"):
                        await self.pool.execute(_CLAIM_AGAIN.format(table))
                    if await self.pool.fetchval(_SETTLED, names) == len(names):
                        return
                except DATABASE_ERRORS:
                    pass
                await asyncio.sleep(0.1)


@asynccontextmanager
async def under_fire(folder: Path) -> AsyncIterator[Fire]:
    """Run a market of two workers, a PostgreSQL and a clearing house that can all be killed."""
    server = EmbeddedPostgres(folder, options={"shared_buffers": "64MB"})
    await asyncio.to_thread(server.start)
    try:
        async with (
            running_market(database_url=server.url) as whole,
            open_pool(server.url, 2) as pool,
        ):
            house, settings = await house_settings(whole, folder, server.url, port=free_port())
            fire = Fire(whole, house, settings.port, pool)
            fire.server, fire.config = server, folder / "house.json"
            fire.config.write_text(settings.model_dump_json(exclude_unset=True))
            fire.records = ContractHolder()
            await fire.register()
            async with holding(whole, fire.evsp, fire.records) as endpoint:
                fire.process = await ClearingProcess.start(fire.config)
                try:
                    await fire.contract(endpoint)
                    await fire.follow(1)
                    held = contracts.CreateCustomerContractRequest(
                        request_id=new_request_id(), contract=contract(CUSTOMER)
                    )
                    await fire.contracts(fire.evsp).CreateCustomerContract(held, timeout=10)
                    yield fire
                finally:
                    await fire.process.kill()
    finally:
        await asyncio.to_thread(server.stop)
