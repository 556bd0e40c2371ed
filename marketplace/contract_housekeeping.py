"""Writes what has happened to contracts by itself, on every worker, each step exactly once.

Who reads a contract sees it as it is anyway, and routes change by their own timers: this task makes
history and notices of it, in time, and after the marketplace was away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract_changes import ContractChanges
from marketplace.storage_command import transaction
from marketplace.storage_tables import CONTRACT

_log = structlog.get_logger(__name__)
#: Contracts of one sweep; the next one follows at once while there are more.
SWEEP_MAX = 200
#: A sweep that finds nothing costs a worker a millisecond.
SWEEP_EVERY_S = 3.0


class ContractHousekeeping:
    """Sweeps every few seconds; workers share the work by the contracts' locks."""

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Callable[[], datetime] = utc_now,
        sweep_every_s: float = SWEEP_EVERY_S,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._sweep_every_s = sweep_every_s

    async def run(self) -> None:
        """Sweep until cancelled; one task runs this."""
        while True:
            try:
                more = await self.sweep() == SWEEP_MAX
            except Exception as error:  # noqa: BLE001  # tried again; nothing depends on one sweep
                _log.warning("a sweep of contracts failed", error=type(error).__name__)
                more = False
            await asyncio.sleep(0 if more else self._sweep_every_s)

    async def sweep(self) -> int:
        """Settle the contracts that are due, the longest due first; gives how many of them were."""
        now = self._clock()
        query = select(CONTRACT.c.contract_id).where(CONTRACT.c.due_at <= now)
        query = query.order_by(CONTRACT.c.due_at).limit(SWEEP_MAX)
        async with transaction(self._engine) as connection:
            due = list(await connection.scalars(query))
        failed = 0
        for contract_id in due:
            try:
                await self._settle(contract_id, now)
            except Exception as error:  # one contract keeps no other from its steps
                if _is_away(error):
                    raise
                _log.error("a contract could not be settled", error=type(error).__name__)
                failed += 1
        return len(due) - failed

    async def _settle(self, contract_id: str, now: datetime) -> None:
        """Settle one contract in a transaction of its own, unless somebody else is at it."""
        mine = (CONTRACT.c.contract_id == contract_id) & (CONTRACT.c.due_at <= now)
        free = select(CONTRACT.c.contract_id).where(mine).with_for_update(skip_locked=True)
        async with transaction(self._engine) as connection:
            if (await connection.execute(free)).one_or_none() is None:
                return
            changes = ContractChanges(connection, now)
            await changes.locked(contract_id)
            await changes.finish()


def _is_away(error: Exception) -> bool:
    """Say whether the database is away, so that trying the next contract makes no sense."""
    away = ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
    return isinstance(error, MarketError) and error.reason == away
