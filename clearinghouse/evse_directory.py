"""Asks operators, through the marketplace, where their EVSEs are and what they give.

Charge detail records are held against it. No check waits for an answer: what is not known is not
checked, and an operator whose search for EVSEs the clearing house did not contract is not asked.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import structlog

from clearinghouse.market_client import MarketClient, to_provider
from clearinghouse.storage import DATABASE_ERRORS, Pool
from clearinghouse.storage_published_evse import PublishedEvse, WantedEvse, claim_due, tell
from gem.charging.v1.evse_search_service_pb2 import GetEvseRequest
from gem.charging.v1.evse_search_service_pb2_grpc import EvseSearchServiceStub

SEARCH_INTERFACE = "gem.charging.v1.EvseSearchService"
_TIMEOUT_S = 5.0
_AT_ONCE = 8
_LOOK_EVERY_S = 1.0
#: Between two questions about an EVSE: after an answer, and where none came.
_LASTING = timedelta(days=1)
_AGAIN = timedelta(minutes=10)
_log = structlog.get_logger("clearinghouse")


class EvseDirectory:
    """Asks until it is cancelled."""

    def __init__(self, pool: Pool, market: MarketClient, partner_id: str) -> None:
        """Make it; `partner_id` is the clearing house's own."""
        self._pool = pool
        self._market = market
        self._partner_id = partner_id

    async def run(self) -> None:
        """Ask what is due, for ever; a database that is away is tried again."""
        while True:
            try:
                while await self.ask_some():
                    pass
            except DATABASE_ERRORS as error:
                _log.warning("EVSEs wait", error=type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def ask_some(self) -> int:
        """Ask about some EVSEs side by side; give about how many."""
        due = await claim_due(self._pool, self._partner_id, SEARCH_INTERFACE, _AT_ONCE, _AGAIN)
        for wanted, told in zip(due, await asyncio.gather(*map(self._ask, due)), strict=True):
            if told is not None:
                await tell(self._pool, wanted.evse_key, told, _LASTING)
        return len(due)

    async def _ask(self, wanted: WantedEvse) -> PublishedEvse | None:
        """Give what the operator says; None where it says nothing."""
        request = GetEvseRequest(evse_id=wanted.evse_id)
        try:
            stub = EvseSearchServiceStub(self._market.channel())
            metadata = to_provider(wanted.operator_partner_id)
            answer = await stub.GetEvse(request, timeout=_TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return PublishedEvse()
            _log.info("operator did not answer", error=error.code().name)
            return None
        except OSError as error:
            _log.warning("certificate cannot be read", error=type(error).__name__)
            return None
        evse = answer.evse
        point = evse.location
        return PublishedEvse(point.latitude_e7, point.longitude_e7, evse.max_power_w or None)
