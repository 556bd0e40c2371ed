"""Brings session notices to EVSPs through the router: an outbox that any process may take from.

Each notice is taken in a transaction that stays open until the EVSP has it: a process that dies
lets go of it with its connection, and the EVSP may hear of it again under the same request id.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import grpc
import structlog

from clearinghouse.market_client import MarketClient, to_provider
from clearinghouse.storage import DATABASE_ERRORS, Pool, transaction
from clearinghouse.storage_session import SessionStorage
from gem.roaming.v1.contract_holder_service_pb2 import ReceiveSessionNoticeRequest
from gem.roaming.v1.contract_holder_service_pb2_grpc import ContractHolderServiceStub
from gem.roaming.v1.session_notice_pb2 import SessionNotice

_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 0.5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 600.0
_log = structlog.get_logger("clearinghouse")


def wait_before(attempt: int) -> timedelta:
    """Give the wait after so many attempts in vain: doubled each time, 10 minutes at most."""
    return timedelta(seconds=min(_FIRST_WAIT_S * 2 ** min(attempt, 20), _LONGEST_WAIT_S))


class NoticeForwarder:
    """Forwards notices until it is cancelled."""

    def __init__(self, pool: Pool, market: MarketClient, lasting: timedelta) -> None:
        self._pool = pool
        self._market = market
        self._lasting = lasting

    async def run(self) -> None:
        """Forward what is due, for ever; a database that is away is tried again."""
        while True:
            try:
                while await self.forward_one():
                    pass
            except DATABASE_ERRORS as error:
                _log.warning("notices wait", error=type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def forward_one(self) -> bool:
        """Forward the notice that waits for longest; False where none is due."""
        async with transaction(self._pool) as connection:
            storage = SessionStorage(connection)
            row = await storage.due()
            if row is None:
                return False
            if await self._took(row):
                await storage.delivered(row["notice_ref"])
            else:
                wait = wait_before(row["attempt_count"])
                await storage.later(row["notice_ref"], wait, self._lasting)
        return True

    async def _took(self, row: asyncpg.Record) -> bool:
        request = ReceiveSessionNoticeRequest(
            request_id=f"notice-{row['notice_ref']}",
            notice=SessionNotice.FromString(row["notice"]),
        )
        try:
            stub = ContractHolderServiceStub(self._market.channel())
            metadata = to_provider(row["evsp_id"])
            await stub.ReceiveSessionNotice(request, timeout=_TIMEOUT_S, metadata=metadata)
        except (OSError, grpc.aio.AioRpcError) as error:
            _log.info("notice not taken", evsp=row["evsp_id"], error=type(error).__name__)
            return False
        return True
