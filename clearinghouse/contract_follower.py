"""Keeps agreements in step with the marketplace's contracts (use cases 1497, 1500, 1513).

An EVSE operator's contract with an EVSP for ContractHolderService is their roaming agreement. The
events of the marketplace come in order and without a gap; each is stored, with what follows from it
and how far was read, in one transaction. Whoever is killed goes on behind the last one stored, and
of several processes each event takes effect in one.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import grpc
import structlog

from clearinghouse.agreement import Agreement, AgreementDetails
from clearinghouse.parts import Parts
from clearinghouse.storage import DATABASE_ERRORS, transaction
from clearinghouse.storage_agreement import AgreementStorage
from clearinghouse.storage_market_contract import MarketContractStorage
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceStub
from gem.marketplace.v1.contract_watch_pb2 import (
    WatchContractEventsRequest,
    WatchContractEventsResponse,
)

HOLDER_INTERFACE = "gem.roaming.v1.ContractHolderService"
#: Who wrote a version that the marketplace's contract brought about.
MARKET = "market"
_ENDED = frozenset({contract_pb2.CONTRACT_STATE_TERMINATED, contract_pb2.CONTRACT_STATE_EXPIRED})
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
_log = structlog.get_logger("clearinghouse")


class ContractFollower:
    """Follows the marketplace until it is cancelled."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self) -> None:
        """Follow for ever; a marketplace or database that is away is tried again."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                if await self._follow():
                    wait_s = _FIRST_WAIT_S
            except (*DATABASE_ERRORS, grpc.aio.AioRpcError) as error:
                _log.info("contracts not followed", error=type(error).__name__)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _follow(self) -> bool:
        """Follow one stream to its end; says whether anything came."""
        async with self._parts.pool.acquire() as connection:
            cursor = await MarketContractStorage(connection).cursor()
        came = False
        stub = ContractServiceStub(self._parts.market.channel())
        call = stub.WatchContractEvents(WatchContractEventsRequest(after_sequence=cursor))
        try:
            async for event in call:
                came = True
                if not await self.take(event):
                    break
        finally:
            call.cancel()
        return came

    async def take(self, event: WatchContractEventsResponse) -> bool:
        """Store an event and what follows from it, once; False where it is not the next one."""
        async with transaction(self._parts.pool) as connection:
            market = MarketContractStorage(connection)
            if not await market.advance(event.sequence):
                return False
            in_force = event.state == contract_pb2.CONTRACT_STATE_ACTIVE
            await market.keep(event, in_force=in_force, ended=event.state in _ENDED)
            own_id = self._parts.settings.partner_id
            member_id = event.requester_id if event.provider_id == own_id else ""
            agreements = AgreementStorage(connection)
            for row in await market.touched(event.contract_id, member_id, own_id, HOLDER_INTERFACE):
                await self._derive(agreements, row)
        return True

    async def _derive(self, agreements: AgreementStorage, contract: asyncpg.Record) -> None:
        """Let an agreement follow its contract; a disabled one stays as it is."""
        held = await agreements.of_market_contract(contract["contract_id"])
        if held is None:
            if contract["in_force"]:
                await agreements.add(await self._new(agreements, contract))
        elif held.active and contract["ended"]:
            await agreements.add(held.next(MARKET, active=False, market_active=False))
        elif held.active and held.market_active != contract["in_force"]:
            await agreements.add(held.next(MARKET, market_active=contract["in_force"]))

    async def _new(self, agreements: AgreementStorage, contract: asyncpg.Record) -> Agreement:
        currency_code = contract["currency_code"] or self._parts.settings.currency_code
        return Agreement(
            agreement_ref=await agreements.new_ref(),
            version_number=1,
            agreement_id=uuid4().hex,
            operator_id=contract["requester_id"],
            evsp_id=contract["provider_id"],
            market_contract_id=contract["contract_id"],
            details=AgreementDetails(currency_code),
            changed_by=MARKET,
        )
