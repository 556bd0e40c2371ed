"""What the tests of the transaction log share: entries, a log on a database, and its accounts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from foundation.database import connect_raw
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from interceptors.call import FailedCall, new_call_id
from marketplace.housekeeping import HousekeepingLimits
from marketplace.router.target import TransactionEntry
from marketplace.transaction_log import DurableTransactionLog, LogLimits

OK = AnswerStatus.ANSWER_STATUS_OK
IN_DOUBT = AnswerStatus.ANSWER_STATUS_IN_DOUBT
#: Dead workers are found sooner than in production, so that tests are short.
FAST = LogLimits(housekeeping=HousekeepingLimits(sweep_every_s=0.1, dead_after_s=0.3))


def new_id() -> UUID:
    """Give an id as the router makes it."""
    return new_call_id(time.time_ns())


def entry_of(**changes: Any) -> TransactionEntry:
    """Give an entry of a successful call, with changes."""
    entry = TransactionEntry(
        transaction_id=new_id(),
        call_id=new_id(),
        requester_id="evsp",
        provider_id="operator",
        contract_id="contract-1",
        service_id="service-1",
        service_version="1.2.0",
        method="/gem.charging.v1.EvseSearchService/SearchEvses",
        started_ns=time.time_ns(),
        duration_us=1500,
        status=OK,
        reason=0,
        code=0,
        request_bytes=40,
        answer_bytes=900,
        request_digest=bytes(range(32)),
        answer_digest=bytes(range(32, 64)),
        item_count=5,
        value_micros=20_000,
        currency_code="EUR",
    )
    return entry._replace(**changes)


def failed_of(**changes: Any) -> FailedCall:
    """Give a call that was refused for want of a contract, with changes."""
    failed = FailedCall(
        call_id=new_id(),
        requester_id="evsp",
        method="/gem.charging.v1.EvseSearchService/SearchEvses",
        started_ns=time.time_ns(),
        duration_us=90,
        reason=ErrorReason.ERROR_REASON_NO_CONTRACT,
        code=7,
        request_bytes=40,
    )
    return replace(failed, **changes)


def log_on(url: str, folder: Path, limits: LogLimits = FAST) -> DurableTransactionLog:
    """Give a log that is not started yet."""
    return DurableTransactionLog(lambda: connect_raw(url), folder / "spill", limits, uuid4())


@asynccontextmanager
async def running(log: DurableTransactionLog) -> AsyncIterator[DurableTransactionLog]:
    """Start a log and close it."""
    await log.start()
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection of the test's own."""
    connection = await connect_raw(url)
    try:
        yield connection
    finally:
        await connection.close()


async def empty_log(url: str) -> None:
    """Delete whatever the log's tables hold; much faster than TRUNCATE or a fresh database."""
    async with connected(url) as connection:
        for table in (
            *("service_transaction", "transaction_intent", "failed_call", "worker"),
            *("transaction_superseded", "transaction_chain_register", "transaction_open_chain"),
        ):
            await connection.execute(f"DELETE FROM marketplace.{table}")


async def eventually(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]], within_s: float
) -> None:
    """Wait until something holds; fails where it does not within the time."""
    give_up_s = time.monotonic() + within_s
    for _ in range(int(within_s / 0.02) + 1):
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < give_up_s, "it never held"
        await asyncio.sleep(0.02)


async def rows(url: str, table: str = "service_transaction") -> list[asyncpg.Record]:
    """Give all rows of a table of the log."""
    async with connected(url) as connection:
        return await connection.fetch(f"SELECT * FROM marketplace.{table}")


async def statuses(url: str) -> dict[UUID, int]:
    """Give the status of every entry; fails where an id stands twice."""
    found = await rows(url)
    counts = Counter(row["transaction_id"] for row in found)
    assert [key for key, count in counts.items() if count > 1] == []
    return {row["transaction_id"]: row["status"] for row in found}
