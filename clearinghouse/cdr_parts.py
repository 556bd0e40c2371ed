"""What clearing of charge detail records works with, and its work in the background."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from clearinghouse.cdr_context import ContextSource
from clearinghouse.cdr_delivery import CdrDelivery, DeliveryLimits
from clearinghouse.cdr_intake import CdrIntake
from clearinghouse.cdr_pipeline import CdrChecker
from clearinghouse.market_client import MarketClient
from clearinghouse.repeated_work import RepeatedWork
from clearinghouse.storage import Pool
from clearinghouse.storage_cdr_context import StoredContexts
from clearinghouse.token_hash import TokenHashing

#: EVSPs that are waited for at the same time: one that is slow holds up as few as it can.
_DELIVERIES_AT_ONCE = 4


def utc_now() -> datetime:
    """Give the time in UTC."""
    return datetime.now(UTC)


class CdrParts:
    """Made once a process, inside its event loop."""

    def __init__(
        self,
        pool: Pool,
        hashing: TokenHashing,
        market: MarketClient,
        *,
        source: ContextSource | None = None,
        clock: Callable[[], datetime] = utc_now,
        limits: DeliveryLimits | None = None,
    ) -> None:
        self.pool = pool
        self.hashing = hashing
        self.clock = clock
        delivery = CdrDelivery(pool, market, clock, limits or DeliveryLimits())
        self.delivering = RepeatedWork(
            "deliver", delivery.deliver_batch, at_once=_DELIVERIES_AT_ONCE
        )
        checker = CdrChecker(pool, source or StoredContexts(hashing), clock, self.delivering.wake)
        self.checking = RepeatedWork("check", checker.check_batch)
        self.intake = CdrIntake(pool, hashing, self.checking.wake)

    def start(self) -> None:
        """Begin to check and to deliver."""
        self.checking.start()
        self.delivering.start()

    async def stop(self) -> None:
        """End; what is not done is done by whoever comes next."""
        await self.checking.stop()
        await self.delivering.stop()
