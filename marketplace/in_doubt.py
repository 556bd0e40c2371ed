"""What became of calls whose worker died: intents without a result become IN_DOUBT.

A worker is alive as long as a session of PostgreSQL holds the advisory lock of its boot id. Nothing
here decides for good: a result that comes late, from a spill file or from a worker that had only
lost its connection, replaces IN_DOUBT, and IN_DOUBT never replaces a result.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.chain_session import ChainSession
from marketplace.log_chain import since_epoch_us
from marketplace.log_connection import Connection
from marketplace.router.target import TransactionEntry
from marketplace.storage_log_chain import held_keys, lock_key
from marketplace.storage_transaction_write import put_results

#: Intents resolved in one transaction.
BATCH = 500
#: Own intents older than this, of which the worker knows nothing, were written by a write that
#: timed out and committed after its result.
STRAY_AFTER_S = 10.0

_ANNOUNCE = """
INSERT INTO marketplace.worker (worker_id, host_name, process_id) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
"""

_DEPART = "DELETE FROM marketplace.worker WHERE worker_id = $1"

_FORGET = """
DELETE FROM marketplace.worker WHERE worker_id = ANY($1::uuid[])
AND NOT EXISTS (SELECT FROM marketplace.transaction_intent AS intent
                WHERE intent.worker_id = worker.worker_id)
"""

_KNOWN = """
SELECT DISTINCT worker_id FROM marketplace.transaction_intent
UNION SELECT worker_id FROM marketplace.worker
"""

_INTENTS = """
SELECT * FROM marketplace.transaction_intent
WHERE worker_id = $1 AND recorded_at < now() - make_interval(secs => $2)
"""

_TAKE = """
SELECT transaction_id FROM marketplace.transaction_intent
WHERE transaction_id = ANY($1::uuid[]) FOR UPDATE
"""
_ALONE = "SELECT pg_try_advisory_xact_lock($1)"
#: gRPC's code.
_UNKNOWN = 2
_NO_TIME = timedelta()


async def announce(
    connection: Connection, worker_id: UUID, host_name: str, process_id: int
) -> None:
    """Say that this worker is alive for as long as the connection's session lasts.

    Waits where an older session of this worker still holds the lock.
    """
    await connection.execute("SELECT pg_advisory_lock($1)", lock_key(worker_id))
    await connection.execute(_ANNOUNCE, worker_id, host_name, process_id)


async def depart(connection: Connection, worker_id: UUID) -> None:
    """Say that this worker has ended in order."""
    await connection.execute(_DEPART, worker_id)


class InDoubtResolver:
    """Finds intents that nobody will resolve any more; every worker runs one."""

    def __init__(self, worker_id: UUID, open_intents: Container[UUID], grace_s: float) -> None:
        """`open_intents` are the ids of this worker's calls in flight, a live view."""
        self._worker_id = worker_id
        self._open_intents = open_intents
        self._grace_s = grace_s
        self._missing_since_s: dict[UUID, float] = {}

    async def sweep(
        self, connection: Connection, now_s: float, chains: ChainSession | None = None
    ) -> int:
        """Resolve the intents of workers that are dead for the grace time; give how many.

        `now_s` is monotonic; `chains` are the connection's, where it has any. The grace time lets
        workers come back that lost their lock together with the database.
        """
        rows = await connection.fetch(_KNOWN)
        held = await held_keys(connection)
        missing = {
            row["worker_id"]
            for row in rows
            if row["worker_id"] != self._worker_id and lock_key(row["worker_id"]) not in held
        }
        since = {worker: self._missing_since_s.get(worker, now_s) for worker in missing}
        self._missing_since_s = since
        dead = [worker for worker, since_s in since.items() if now_s - since_s >= self._grace_s]
        chains = chains or ChainSession(self._worker_id)
        resolved = 0
        for worker in dead:
            intents = await connection.fetch(_INTENTS, worker, 0.0)
            resolved += await _resolve(connection, intents, worker, chains, dead=True)
        if dead:
            await connection.execute(_FORGET, dead)
        return resolved

    async def sweep_own(self, connection: Connection, chains: ChainSession | None = None) -> int:
        """Resolve this worker's stray intents; only while its spill is empty. Give how many."""
        found = await connection.fetch(_INTENTS, self._worker_id, STRAY_AFTER_S)
        strays = [row for row in found if row["transaction_id"] not in self._open_intents]
        chains = chains or ChainSession(self._worker_id)
        return await _resolve(connection, strays, self._worker_id, chains, dead=False)


async def _resolve(
    connection: Connection,
    intents: Sequence[Any],
    worker: UUID,
    chains: ChainSession,
    *,
    dead: bool,
) -> int:
    """Turn a worker's intents into entries; those of a `dead` one only while it stays dead."""
    resolved = 0
    for start in range(0, len(intents), BATCH):
        entries = [_doubted(intent) for intent in intents[start : start + BATCH]]
        await chains.open(connection, entries)
        try:
            async with chains.transaction(connection):
                if dead and not await connection.fetchval(_ALONE, lock_key(worker)):
                    return resolved  # it is back, or another worker resolves
                there = await connection.fetch(_TAKE, [entry.transaction_id for entry in entries])
                ids = {row["transaction_id"] for row in there}
                left = [entry for entry in entries if entry.transaction_id in ids]
                resolved += await put_results(connection, worker, left, chains)
        except asyncpg.UniqueViolationError:  # a result came at this moment
            return resolved
    return resolved


def _doubted(intent: Any) -> TransactionEntry:
    """Give the entry of an intent without a result: what may have happened has no price."""
    kept = {name: intent[name] for name in TransactionEntry._fields if name != "started_ns"}
    entry = TransactionEntry(**kept, started_ns=since_epoch_us(intent["started_at"]) * 1000)
    lasted = max(_NO_TIME, intent["recorded_at"] - intent["started_at"])
    return entry._replace(
        duration_us=lasted // timedelta(microseconds=1),
        status=AnswerStatus.ANSWER_STATUS_IN_DOUBT,
        reason=ErrorReason.ERROR_REASON_IN_DOUBT,
        code=_UNKNOWN,
        answer_bytes=0,
        answer_digest=b"",
        item_count=0,
        value_micros=0,
        units=None,
    )
