"""Settling a period: one transaction that leaves a whole run or none.

A run takes every booking of a session that ended before the end of its period and that no run took
before, so that what comes late is in the next one. Runs follow each other by a lock in PostgreSQL:
whichever processes ask, no booking is taken twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import uuid4

import asyncpg

from clearinghouse import storage_settlement as storage
from clearinghouse.netting import Position, bilateral, multilateral
from clearinghouse.storage import Connection, Pool, transaction
from clearinghouse.storage_settlement import NewRun, RunRow
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

_RETRY_AFTER_S = 5.0


class Netting(IntEnum):
    """How debts are put together; the numbers are those of the proto enum."""

    BILATERAL = 1
    MULTILATERAL = 2


@dataclass(frozen=True, slots=True)
class ClearingCommand:
    """A period to be settled; both ends in UTC, the end exclusive."""

    requester_id: str
    #: A repetition with the same content gives the first run.
    request_id: str
    period_start: datetime
    period_end: datetime
    netting: Netting

    @property
    def digest(self) -> bytes:
        """Equal for commands of the same content."""
        ends = (self.period_start.timestamp(), self.period_end.timestamp())
        return hashlib.sha256(repr((*ends, int(self.netting))).encode()).digest()


async def run_clearing(pool: Pool, command: ClearingCommand, now: datetime) -> RunRow:
    """Settle a period, or give the run that this command made before.

    Raises:
        MarketError: STATE_NOT_ALLOWED where the period has not ended, or a total is beyond all
            amounts; REQUEST_ID_REUSED where the id came with other content; CONFLICT where another
            run takes too long. None of them leaves anything.
    """
    if command.period_end > now:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, "the period has not ended yet"
        )
    try:
        async with transaction(pool) as connection:
            await storage.wait_for_turn(connection)
            found = await storage.run_of_request(
                connection, command.requester_id, command.request_id
            )
            if found is None:
                return await _settled(connection, command, now)
    except asyncpg.LockNotAvailableError:
        raise MarketError(
            ErrorReason.ERROR_REASON_CONFLICT,
            "another run is being made: try again",
            retry_after_s=_RETRY_AFTER_S,
        ) from None
    except (asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError):
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, "a total is beyond the largest amount"
        ) from None
    run, digest = found
    if digest != command.digest:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
            "this request_id was used before for another period",
        )
    return run


async def _settled(connection: Connection, command: ClearingCommand, now: datetime) -> RunRow:
    new = NewRun(
        run_id=str(uuid4()),
        requester_id=command.requester_id,
        request_id=command.request_id,
        digest=command.digest,
        period_start=command.period_start,
        period_end=command.period_end,
        netting=int(command.netting),
        closed_at=now,
    )
    run = await storage.open_run(connection, new)
    await storage.make_statements(connection, run.run_ref)
    debts = await storage.debts(connection, run.run_ref)
    net = bilateral if command.netting is Netting.BILATERAL else multilateral
    positions = net(debts)
    _check(positions, await storage.ledger_of_run(connection, run.run_ref))
    await storage.write_positions(connection, run.run_ref, positions)
    return run


def _check(positions: list[Position], ledger: dict[tuple[str, str], int]) -> None:
    """Hold the statements against the ledger, which knows nothing of them."""
    sums: Counter[tuple[str, str]] = Counter()
    for position in positions:
        sums[position.partner_id, position.currency_code] += position.net_micros
    by_statements = {key: amount for key, amount in sums.items() if amount}
    if by_statements != {key: amount for key, amount in ledger.items() if amount}:
        raise RuntimeError("the ledger and the statements do not agree")
