"""Brings session notices to EVSPs through the router: an outbox that any process may take from.

Some are claimed at a time and sent at once, each session's in their order. What a process that dies
had claimed is due again a little later, and the EVSP may hear of it again under the same request
id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import grpc
import structlog

from clearinghouse.market_client import MarketClient, to_provider
from clearinghouse.storage import DATABASE_ERRORS, Pool
from clearinghouse.storage_session import SessionStorage
from gem.roaming.v1.contract_holder_service_pb2 import ReceiveSessionNoticeRequest
from gem.roaming.v1.contract_holder_service_pb2_grpc import ContractHolderServiceStub
from gem.roaming.v1.session_notice_pb2 import SessionNotice

_TIMEOUT_S = 5.0
#: Notices that are sent at once.
_AT_ONCE = 16
#: How long a claim holds; its notices are sent, or have failed, long before.
_LEASE = timedelta(seconds=6 * _TIMEOUT_S)
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
                while await self.forward_some():
                    pass
            except DATABASE_ERRORS as error:
                _log.warning("notices wait", error=type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def forward_some(self) -> bool:
        """Forward the notices that wait for longest; False where none is due."""
        storage = SessionStorage(self._pool)
        rows = await storage.claim(_AT_ONCE, _LEASE)
        taken = await asyncio.gather(*map(self._took, rows))
        await self._note(storage, list(zip(rows, taken, strict=True)))
        return bool(rows)

    async def _note(
        self, storage: SessionStorage, tried: Sequence[tuple[asyncpg.Record, bool]]
    ) -> None:
        delivered = [row["notice_ref"] for row, took in tried if took]
        if delivered:
            await storage.delivered(delivered)
        missed = [row for row, took in tried if not took]
        if missed:
            waits = [wait_before(row["attempt_count"] - 1) for row in missed]
            await storage.later([row["notice_ref"] for row in missed], waits, self._lasting)

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
