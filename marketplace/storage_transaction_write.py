"""Writing the transaction log: two ways, one for what cannot be there yet and one for what may be.

SQL through asyncpg, because this is the hot path: a batch is one COPY for each kind of record. The
second way is for batches whose first write had an unknown outcome: keys are chosen by the caller,
so writing again changes nothing that was written before (reliability.md, 7).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from interceptors.call import FailedCall
from marketplace.router.target import TransactionEntry
from marketplace.transaction_batch import Batch

SCHEMA = "marketplace"
_IN_DOUBT = AnswerStatus.ANSWER_STATUS_IN_DOUBT
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Connection(Protocol):
    """What the log uses of an `asyncpg.Connection`."""

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[Any]],
        columns: Sequence[str],
        schema_name: str,
    ) -> str: ...

    async def execute(self, query: str, *arguments: Any) -> str: ...

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]: ...

    async def fetchval(self, query: str, *arguments: Any) -> Any: ...

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...

    async def close(self) -> None: ...


_STARTED = TransactionEntry._fields.index("started_ns")
#: In the order of the entries themselves.
ENTRY_COLUMNS = (
    *TransactionEntry._fields[:_STARTED],
    "started_at",
    *TransactionEntry._fields[_STARTED + 1 :],
    "worker_id",
)
FAILED_COLUMNS = (
    "call_id",
    "started_at",
    "requester_id",
    "method",
    "duration_us",
    "reason",
    "code",
    "request_bytes",
    "worker_id",
)

# 8 is ANSWER_STATUS_IN_DOUBT: the only status that a later result replaces.
_RESOLVE = """
WITH resolved AS (
  DELETE FROM marketplace.transaction_intent WHERE transaction_id = ANY($1::uuid[])
)
INSERT INTO marketplace.service_transaction AS stored (
  transaction_id, call_id, requester_id, provider_id, contract_id, service_id, service_version,
  method, started_at, duration_us, status, reason, code, request_bytes, answer_bytes,
  request_digest, answer_digest, item_count, value_micros, currency_code, units, price_id,
  worker_id)
SELECT * FROM unnest(
  $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
  $8::text[], $9::timestamptz[], $10::bigint[], $11::smallint[], $12::smallint[], $13::smallint[],
  $14::bigint[], $15::bigint[], $16::bytea[], $17::bytea[], $18::bigint[], $19::bigint[],
  $20::text[], $21::bigint[], $22::bigint[], $23::uuid[])
ON CONFLICT (transaction_id, started_at) DO UPDATE SET
  duration_us = excluded.duration_us, status = excluded.status, reason = excluded.reason,
  code = excluded.code, request_bytes = excluded.request_bytes,
  answer_bytes = excluded.answer_bytes, request_digest = excluded.request_digest,
  answer_digest = excluded.answer_digest, item_count = excluded.item_count,
  value_micros = excluded.value_micros, currency_code = excluded.currency_code,
  units = excluded.units, price_id = excluded.price_id,
  worker_id = excluded.worker_id, recorded_at = now()
WHERE stored.status = 8 AND excluded.status <> 8
"""

_INTEND_AGAIN = """
INSERT INTO marketplace.transaction_intent (
  transaction_id, call_id, requester_id, provider_id, contract_id, service_id, service_version,
  method, started_at, duration_us, status, reason, code, request_bytes, answer_bytes,
  request_digest, answer_digest, item_count, value_micros, currency_code, units, price_id,
  worker_id)
SELECT * FROM unnest(
  $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
  $8::text[], $9::timestamptz[], $10::bigint[], $11::smallint[], $12::smallint[], $13::smallint[],
  $14::bigint[], $15::bigint[], $16::bytea[], $17::bytea[], $18::bigint[], $19::bigint[],
  $20::text[], $21::bigint[], $22::bigint[], $23::uuid[])
ON CONFLICT DO NOTHING
"""

_FAIL_AGAIN = """
INSERT INTO marketplace.failed_call (call_id, started_at, requester_id, method, duration_us, reason,
  code, request_bytes, worker_id)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[],
  $6::smallint[], $7::smallint[], $8::bigint[], $9::uuid[])
ON CONFLICT DO NOTHING
"""


def timestamp(since_epoch_ns: int) -> datetime:
    """Give the instant, cut to the microsecond that PostgreSQL keeps; the same every time."""
    return _EPOCH + timedelta(microseconds=since_epoch_ns // 1000)


def _entry_row(entry: TransactionEntry, worker_id: UUID) -> tuple[Any, ...]:
    return (*entry[:_STARTED], timestamp(entry.started_ns), *entry[_STARTED + 1 :], worker_id)


def _failed_row(failed: FailedCall, worker_id: UUID) -> tuple[Any, ...]:
    return (
        failed.call_id,
        timestamp(failed.started_ns),
        failed.requester_id,
        failed.method,
        failed.duration_us,
        failed.reason,
        failed.code,
        failed.request_bytes,
        worker_id,
    )


async def write_first(connection: Connection, worker_id: UUID, batch: Batch) -> None:
    """Write a batch that was never written before; all of it or nothing.

    Raises whatever the connection raises; the outcome is then unknown and the batch goes the way of
    `write_again`.
    """
    if batch.kinds() > 1:
        async with connection.transaction():
            await _write_kinds(connection, worker_id, batch)
    else:
        await _write_kinds(connection, worker_id, batch)


async def _write_kinds(connection: Connection, worker_id: UUID, batch: Batch) -> None:
    if batch.intents:
        await _copy_entries(connection, "transaction_intent", worker_id, batch.intents)
    if batch.finals:
        await _copy_entries(connection, "service_transaction", worker_id, batch.finals)
    if batch.resolutions:
        # A resolver may have put IN_DOUBT there: no COPY.
        await connection.execute(_RESOLVE, *_arrays(batch.resolutions, worker_id))
    if batch.failed:
        await connection.copy_records_to_table(
            "failed_call",
            records=[_failed_row(failed, worker_id) for failed in batch.failed],
            columns=FAILED_COLUMNS,
            schema_name=SCHEMA,
        )


async def _copy_entries(
    connection: Connection, table: str, worker_id: UUID, entries: Sequence[TransactionEntry]
) -> None:
    await connection.copy_records_to_table(
        table,
        records=[_entry_row(entry, worker_id) for entry in entries],
        columns=ENTRY_COLUMNS,
        schema_name=SCHEMA,
    )


async def write_again(connection: Connection, worker_id: UUID, batch: Batch) -> None:
    """Write a batch of which any part may be there already, in one transaction.

    A stored entry stays as it is, unless it is IN_DOUBT and the batch knows better.
    """
    results: dict[UUID, TransactionEntry] = {}
    for entry in (*batch.finals, *batch.resolutions):
        if results.setdefault(entry.transaction_id, entry).status == _IN_DOUBT:
            results[entry.transaction_id] = entry
    open_intents = [entry for entry in batch.intents if entry.transaction_id not in results]
    async with connection.transaction():
        if open_intents:
            await connection.execute(_INTEND_AGAIN, *_arrays(open_intents, worker_id))
        if results:
            await connection.execute(_RESOLVE, *_arrays(list(results.values()), worker_id))
        if batch.failed:
            rows = [_failed_row(failed, worker_id) for failed in batch.failed]
            await connection.execute(_FAIL_AGAIN, *map(list, zip(*rows, strict=True)))


def _arrays(entries: Sequence[TransactionEntry], worker_id: UUID) -> list[list[Any]]:
    """Turn entries into one array for each column, in the order of the columns."""
    rows = (_entry_row(entry, worker_id) for entry in entries)
    return [list(column) for column in zip(*rows, strict=True)]
