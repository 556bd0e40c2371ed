"""`log-verify`: how many entries of the transaction log are verified a second."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import psutil

from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from interceptors.call import new_call_id
from marketplace.chain_session import ChainSession
from marketplace.partitions import ensure_partitions
from marketplace.router.target import TransactionEntry
from marketplace.storage_log_verification import LogVerification, reading
from marketplace.storage_transaction_write import write_first
from marketplace.transaction_batch import Batch

ENTRIES = 300_000
_CHAINS = 4
_BATCH = 500
_START = datetime(2026, 6, 1, 12, tzinfo=UTC)
_MIB = 1 << 20


def _entry(number: int) -> TransactionEntry:
    started_ns = int(_START.timestamp()) * 10**9 + number * 1000
    return TransactionEntry(
        new_call_id(started_ns), new_call_id(started_ns), f"requester-{number % 100}",
        f"provider-{number % 20}", f"contract-{number % 2000}", f"service-{number % 20}", "1.0.0",
        "/gem.charging.v1.EvseSearchService/SearchEvses", started_ns, 1000 + number % 50_000, 1, 0,
        0, 40, 900, sha256(b"request").digest(), sha256(b"answer").digest(), 5, 25_000, "EUR",
    )  # fmt: skip


async def _fill(url: str, entries: int) -> float:
    """Write the entries as workers do, in several chains; give the entries written a second."""
    begun = time.perf_counter()
    for number in range(_CHAINS):
        connection, worker_id = await connect_raw(url), uuid4()
        chains = ChainSession(worker_id)
        await ensure_partitions(connection, _START.date(), 1)
        for first in range(number * entries // _CHAINS, (number + 1) * entries // _CHAINS, _BATCH):
            last = min(first + _BATCH, (number + 1) * entries // _CHAINS)
            batch = Batch(finals=[_entry(each) for each in range(first, last)])
            await write_first(connection, worker_id, batch, chains)
        await chains.close(connection)
        await connection.execute("ANALYZE marketplace.service_transaction")
        await connection.close()
    return entries / (time.perf_counter() - begun)


async def log_verify(entries: int = ENTRIES) -> Mapping[str, object]:
    """Report: entries verified a second, and the memory that it takes."""
    with tempfile.TemporaryDirectory(prefix="gem-bench-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            await migrate(server.url, "marketplace")
            written_per_s = await _fill(server.url, entries)
            process = psutil.Process()
            idle, begun = process.memory_info().rss, time.perf_counter()
            async with reading(server.url) as connection:
                verification = LogVerification(connection)
                breaks = [one async for one in verification.breaks()]
            wall_s = time.perf_counter() - begun
            grown = process.memory_info().rss - idle
        finally:
            server.stop()
    assert breaks == [], "nobody changed the log"
    assert verification.entry_count == entries
    return {
        "entries": entries,
        "chains": verification.chain_count,
        "verified_per_s": round(entries / wall_s),
        "written_per_s": round(written_per_s),
        "memory_grown_mib": round(grown / _MIB, 1),
    }
