"""Writing the transaction log: two ways, one for what cannot be there yet and one for what may be.

SQL through asyncpg, because this is the hot path: a batch is one COPY for each kind of record. The
second way is for batches whose first write had an unknown outcome: keys are chosen by the caller,
so writing again changes nothing that was written before (reliability.md, 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any
from uuid import UUID

import asyncpg

from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from interceptors.call import FailedCall
from marketplace.chain_session import ChainSession, Placed
from marketplace.copy_rows import COLUMNS, copied
from marketplace.log_chain import timestamp
from marketplace.log_connection import Connection
from marketplace.router.target import TransactionEntry
from marketplace.transaction_batch import Batch

SCHEMA = "marketplace"
_IN_DOUBT = AnswerStatus.ANSWER_STATUS_IN_DOUBT
#: Attempts at a write that others make at the same time; each finds what the others have written.
_ATTEMPTS = 5

_STARTED = TransactionEntry._fields.index("started_ns")
#: In the order of the entries themselves.
ENTRY_COLUMNS = (
    *TransactionEntry._fields[:_STARTED],
    "started_at",
    *TransactionEntry._fields[_STARTED + 1 :],
    "worker_id",
)
#: Of an entry with its place in a chain.
CHAINED_COLUMNS = (
    *ENTRY_COLUMNS,
    *("recorded_at", "chain_id", "sequence", "nonce", "record_hash", "chain_hash"),
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

_COLUMN_LIST = ", ".join(CHAINED_COLUMNS)

# No ON CONFLICT: where a resolver has put IN_DOUBT there, the batch goes the way of `write_again`.
_RESOLVE = f"""
WITH resolved AS (
  DELETE FROM marketplace.transaction_intent WHERE transaction_id = ANY($1::uuid[])
)
INSERT INTO marketplace.service_transaction ({_COLUMN_LIST})
SELECT * FROM unnest(
  $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
  $8::text[], $9::timestamptz[], $10::bigint[], $11::smallint[], $12::smallint[], $13::smallint[],
  $14::bigint[], $15::bigint[], $16::bytea[], $17::bytea[], $18::bigint[], $19::bigint[],
  $20::text[], $21::bigint[], $22::bigint[], $23::uuid[], $24::timestamptz[], $25::uuid[],
  $26::bigint[], $27::bytea[], $28::bytea[], $29::bytea[])
"""  # noqa: S608  # names of columns, from above

_STORED = """
WITH resolved AS (
  DELETE FROM marketplace.transaction_intent WHERE transaction_id = ANY($1::uuid[])
)
SELECT transaction_id, started_at, status FROM marketplace.service_transaction
WHERE (transaction_id, started_at) IN (SELECT * FROM unnest($1::uuid[], $2::timestamptz[]))
AND started_at = ANY($2::timestamptz[])
FOR UPDATE
"""

# The older version keeps its place in its chain; the newer one gets a place of its own.
_SUPERSEDE = f"""
WITH older AS (
  DELETE FROM marketplace.service_transaction
  WHERE (transaction_id, started_at) IN (SELECT * FROM unnest($1::uuid[], $2::timestamptz[]))
  AND started_at = ANY($2::timestamptz[])
  RETURNING {_COLUMN_LIST}
)
INSERT INTO marketplace.transaction_superseded ({_COLUMN_LIST}) SELECT {_COLUMN_LIST} FROM older
"""  # noqa: S608  # names of columns, from above

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


def _entry_row(entry: TransactionEntry, worker_id: UUID) -> tuple[Any, ...]:
    return (*entry[:_STARTED], timestamp(entry.started_ns), *entry[_STARTED + 1 :], worker_id)


def placed_row(placed: Placed, worker_id: UUID) -> tuple[Any, ...]:
    """Give the values of `CHAINED_COLUMNS`."""
    recorded_at = timestamp(placed.recorded_us * 1000)
    return (*_entry_row(placed.entry, worker_id), recorded_at, *placed[3:])


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


async def write_first(
    connection: Connection, worker_id: UUID, batch: Batch, chains: ChainSession | None = None
) -> None:
    """Write a batch that was never written before; all of it or nothing.

    `chains` are the connection's; without any, the batch gets chains of its own. Raises whatever
    the connection raises; the outcome is then unknown and the batch goes the way of `write_again`.
    """
    chains = chains or ChainSession(worker_id)
    await chains.open(connection, chain(batch.finals, batch.resolutions))
    if batch.kinds() > 1:
        async with chains.transaction(connection):
            await _write_kinds(connection, worker_id, batch, chains)
    else:
        with chains.statement():
            await _write_kinds(connection, worker_id, batch, chains)


async def _write_kinds(
    connection: Connection, worker_id: UUID, batch: Batch, chains: ChainSession
) -> None:
    if batch.intents:
        await connection.copy_records_to_table(
            "transaction_intent",
            records=[_entry_row(entry, worker_id) for entry in batch.intents],
            columns=ENTRY_COLUMNS,
            schema_name=SCHEMA,
        )
    if batch.finals:
        await _copy_placed(connection, chains.place(batch.finals, worker_id), worker_id)
    if batch.resolutions:
        placed = chains.place(batch.resolutions, worker_id)
        rows = [placed_row(each, worker_id) for each in placed]
        await connection.execute(_RESOLVE, *_columns(rows))
    if batch.failed:
        await connection.copy_records_to_table(
            "failed_call",
            records=[_failed_row(failed, worker_id) for failed in batch.failed],
            columns=FAILED_COLUMNS,
            schema_name=SCHEMA,
        )


async def _copy_placed(connection: Connection, placed: Sequence[Placed], worker_id: UUID) -> None:
    if connection.is_closed():  # asyncpg looks for this only on its other way
        raise asyncpg.InterfaceError("the connection was lost before")
    await connection.copy_to_table(
        "service_transaction",
        source=copied(placed, worker_id),
        columns=COLUMNS,
        schema_name=SCHEMA,
        format="binary",
    )


async def write_again(
    connection: Connection, worker_id: UUID, batch: Batch, chains: ChainSession | None = None
) -> None:
    """Write a batch of which any part may be there already, in one transaction.

    A stored entry stays as it is and where it is, unless it is IN_DOUBT and the batch knows better.
    """
    chains = chains or ChainSession(worker_id)
    results: dict[UUID, TransactionEntry] = {}
    for entry in (*batch.finals, *batch.resolutions):
        if results.setdefault(entry.transaction_id, entry).status == _IN_DOUBT:
            results[entry.transaction_id] = entry
    open_intents = [entry for entry in batch.intents if entry.transaction_id not in results]
    await chains.open(connection, results.values())
    for attempt in range(_ATTEMPTS):
        try:
            async with chains.transaction(connection):
                if open_intents:
                    rows = [_entry_row(entry, worker_id) for entry in open_intents]
                    await connection.execute(_INTEND_AGAIN, *_columns(rows))
                await put_results(connection, worker_id, list(results.values()), chains)
                if batch.failed:
                    rows = [_failed_row(failed, worker_id) for failed in batch.failed]
                    await connection.execute(_FAIL_AGAIN, *_columns(rows))
        except asyncpg.UniqueViolationError:
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


async def put_results(
    connection: Connection,
    worker_id: UUID,
    results: Sequence[TransactionEntry],
    chains: ChainSession,
) -> int:
    """Write results that may be there already, and forget their intents; give how many were new.

    Within a transaction of `chains`, which are open for them. Only what is written gets a place in
    a chain. Raises UniqueViolationError where others write the same at this moment: try again.
    """
    if not results:
        return 0
    ids = [entry.transaction_id for entry in results]
    starts = [timestamp(entry.started_ns) for entry in results]
    found = await connection.fetch(_STORED, ids, starts)
    stored = {(row["transaction_id"], row["started_at"]): row["status"] for row in found}
    news, older = [], []
    for entry, key in zip(results, zip(ids, starts, strict=True), strict=True):
        if key not in stored:
            news.append(entry)
        elif stored[key] == _IN_DOUBT != entry.status:
            news.append(entry)
            older.append(key)
    if older:
        await connection.execute(_SUPERSEDE, *_columns(older))
    if news:
        await _copy_placed(connection, chains.place(news, worker_id), worker_id)
    return len(news)


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Turn rows into one array for each column."""
    return [list(column) for column in zip(*rows, strict=True)]
