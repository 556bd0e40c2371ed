"""`transactions-search` and `transactions-export`: ten million entries of one month.

Through a whole market with one worker, over mutual TLS, as a partner sees it.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psutil
from grpc import aio

from bench.load import measure
from foundation.database import connect_raw
from foundation.settings import Settings
from gem.common.v1 import time_range_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.transaction_service_pb2_grpc import TransactionServiceStub
from gem.options.v1 import options_pb2
from gemarket.administration import Connection, PartnerPlan
from gemarket.identity import Identity, channel_credentials
from gemarket.market import Market
from marketplace.partitions import bounds, partition_name

ENTRIES = 10_000_000
EXPORTED = 1_000_000
#: One requester in a hundred asks; every twentieth of the entries is one provider's.
REQUESTERS, PROVIDERS = 100, 20
_PARTNER = "provider-1"
_DAYS = 30
_START = datetime(2026, 6, 1, tzinfo=UTC)
_SEARCHES = 1000
_IN_FLIGHT = 2
_SAMPLE_EVERY_S = 0.05
_MIB = 1 << 20

# A day is filled before it becomes a partition, so that its indexes are built once.
_TABLE = """
CREATE TABLE marketplace.{name} (
  LIKE marketplace.service_transaction INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
"""
_FILL = """
INSERT INTO marketplace.{name}
SELECT gen_random_uuid(), '{start}'::timestamptz + random() * interval '1 day', gen_random_uuid(),
  'requester-' || 1 + n % {requesters}, 'provider-' || 1 + (n / {requesters}) % {providers},
  'contract-' || n % {contracts}, 'service-' || 1 + (n / {requesters}) % {providers}, '1.0.0',
  '/gem.charging.v1.EvseSearchService/SearchEvses', (1000 + random() * 50000)::bigint,
  CASE WHEN random() < 0.97 THEN 1 ELSE 4 END, 0, 0, 40, 900,
  sha256(n::text::bytea), sha256((n + 1)::text::bytea), 5, (random() * 1000000)::bigint,
  CASE WHEN random() < 0.9 THEN 'EUR' ELSE 'SEK' END, gen_random_uuid(), now()
FROM generate_series(1, {rows}) AS n
"""
_ATTACH = """
ALTER TABLE marketplace.service_transaction ATTACH PARTITION marketplace.{name}
FOR VALUES FROM ('{start}') TO ('{end}')
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A market with a full log, and a partner's connection to it."""

    market: Market
    channel: aio.Channel

    def worker(self) -> psutil.Process:
        """Give the process that serves."""
        pids = self.market.supervisor.pids()
        (pid,) = [pid for name, pid in pids.items() if name.startswith("worker")]
        return psutil.Process(pid)


async def fill(
    connection: asyncpg.Connection[asyncpg.Record], entries: int, providers: int = PROVIDERS
) -> None:
    """Put so many entries into the month, evenly over its days."""
    for number in range(_DAYS):
        day = (_START + timedelta(days=number)).date()
        start, end = (instant.isoformat() for instant in bounds(day))
        values = {
            "name": partition_name("service_transaction", day),
            "start": start,
            "end": end,
            "rows": entries // _DAYS,
            "requesters": REQUESTERS,
            "providers": providers,
            "contracts": REQUESTERS * providers,
        }
        for statement in (_TABLE, _FILL, _ATTACH):
            await connection.execute(statement.format(**values))
    await connection.execute("ANALYZE marketplace.service_transaction")


@asynccontextmanager
async def _stage(entries: int, providers: int) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="gem-bench-") as folder:
        settings = {"data_dir": Path(folder), "port": 0, "metrics_port": 0, "workers": 1}
        market = Market(Settings.model_validate(settings))
        await market.start()
        try:
            identity = await _partner(market)
            address = market.endpoints({}, {}).database_url
            connection = await connect_raw(address, None)
            try:
                await connection.execute("SET statement_timeout = 0")
                await fill(connection, entries, providers)
            finally:
                await connection.close()
            credentials = channel_credentials(identity)
            async with aio.secure_channel(market.address, credentials) as channel:
                yield Stage(market, channel)
        finally:
            await market.stop()


async def _partner(market: Market) -> Identity:
    """Bring the partner in whose month is searched."""
    identity = Identity(market.layout.partner(_PARTNER).folder)
    operator = market.layout.operator("business")
    async with Connection(market.address, operator) as business:
        roles = [options_pb2.PARTNER_ROLE_EVSE_OPERATOR]
        await business.ensure_partner(PartnerPlan(_PARTNER, "Partner", roles))
        await business.issue_identity(_PARTNER, identity, market.authority.root_pem)
    return identity


def _month() -> time_range_pb2.TimeRange:
    made = time_range_pb2.TimeRange()
    made.start_time.FromDatetime(_START)
    made.end_time.FromDatetime(_START + timedelta(days=_DAYS))
    return made


async def transactions_search(entries: int = ENTRIES) -> Mapping[str, object]:
    """Reach: a partner's month by value, first page, p99 ≤ 100 ms."""
    async with _stage(entries, PROVIDERS) as stage:
        stub = TransactionServiceStub(stage.channel)
        dice = random.Random(1242)

        async def ask() -> object:
            order = dice.choice(
                (
                    wire.TRANSACTION_ORDER_HIGHEST_VALUE_FIRST,
                    wire.TRANSACTION_ORDER_LOWEST_VALUE_FIRST,
                )
            )
            which = wire.TransactionFilter(period=_month())
            request = wire.ListTransactionsRequest(filter=which, order=order)
            answer = await stub.ListTransactions(request, timeout=30)
            assert len(answer.transactions) == 100
            return answer

        await measure(ask, 50, [], _IN_FLIGHT)
        measured = await measure(ask, _SEARCHES, [], _IN_FLIGHT)
    return {
        "p50_ms": round(measured.percentile_ms(50), 2),
        "p99_ms": round(measured.percentile_ms(99), 2),
        "per_s": round(measured.per_s, 1),
        "entries": entries,
        "entries_of_the_partner": entries // PROVIDERS,
    }


async def transactions_export(exported: int = EXPORTED) -> Mapping[str, object]:
    """Reach: ≥ 50,000 rows/s as CSV; the worker's memory flat, ≤ 64 MiB above idle."""
    async with _stage(exported, 1) as stage:
        worker, stub = stage.worker(), TransactionServiceStub(stage.channel)
        idle = worker.memory_info().rss
        most = [idle]

        async def watch() -> None:
            while True:
                most.append(worker.memory_info().rss)
                await asyncio.sleep(_SAMPLE_EVERY_S)

        watching = asyncio.create_task(watch())
        begun, rows = time.perf_counter(), 0
        which = wire.TransactionFilter(period=_month())
        request = wire.ExportTransactionsRequest(filter=which, format=wire.EXPORT_FORMAT_CSV)
        async for piece in stub.ExportTransactions(request, timeout=1800):
            rows = max(rows, piece.written_count)
        wall_s = time.perf_counter() - begun
        watching.cancel()
    return {
        "rows": rows,
        "rows_per_s": round(rows / wall_s),
        "memory_above_idle_mib": round((max(most) - idle) / _MIB, 1),
    }
