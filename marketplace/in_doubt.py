"""What became of calls whose worker died: intents without a result become IN_DOUBT.

A worker is alive as long as a session of PostgreSQL holds the advisory lock of its boot id. Nothing
here decides for good: a result that comes late, from a spill file or from a worker that had only
lost its connection, replaces IN_DOUBT, and IN_DOUBT never replaces a result.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from uuid import UUID

from marketplace.storage_transaction_write import Connection

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

_HELD = """
SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_INTENTS = """
SELECT transaction_id FROM marketplace.transaction_intent
WHERE worker_id = $1 AND recorded_at < now() - make_interval(secs => $2)
"""

# 8: ANSWER_STATUS_IN_DOUBT, 89: ERROR_REASON_IN_DOUBT, 2: UNKNOWN. What may have happened has no
# price.
_RESOLVE = """
WITH gone AS (
  DELETE FROM marketplace.transaction_intent WHERE transaction_id = ANY($1::uuid[]) RETURNING *
), doubted AS (
  INSERT INTO marketplace.service_transaction (transaction_id, started_at, call_id, requester_id,
    provider_id, contract_id, service_id, service_version, method, duration_us, status, reason,
    code, request_bytes, answer_bytes, request_digest, answer_digest, item_count, value_micros,
    currency_code, price_id, worker_id)
  SELECT transaction_id, started_at, call_id, requester_id, provider_id, contract_id, service_id,
    service_version, method,
    greatest(0, extract(epoch FROM recorded_at - started_at) * 1000000)::bigint,
    8, 89, 2, request_bytes, 0, request_digest, ''::bytea, 0, 0, currency_code, price_id, worker_id
  FROM gone
  ON CONFLICT DO NOTHING
  RETURNING transaction_id
)
SELECT count(*) FROM doubted
"""


def lock_key(worker_id: UUID) -> int:
    """Give the key of the advisory lock that a living worker holds: the id's first 8 bytes."""
    return int.from_bytes(worker_id.bytes[:8], "big", signed=True)


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

    async def sweep(self, connection: Connection, now_s: float) -> int:
        """Resolve the intents of workers that are dead for the grace time; give how many.

        `now_s` is monotonic. The grace time lets workers come back that lost their lock together
        with the database.
        """
        rows = await connection.fetch(_KNOWN)
        held = {row["key"] for row in await connection.fetch(_HELD)}
        missing = {
            row["worker_id"]
            for row in rows
            if row["worker_id"] != self._worker_id and lock_key(row["worker_id"]) not in held
        }
        since = {worker: self._missing_since_s.get(worker, now_s) for worker in missing}
        self._missing_since_s = since
        dead = [worker for worker, since_s in since.items() if now_s - since_s >= self._grace_s]
        resolved = 0
        for worker in dead:
            resolved += await self._resolve_dead(connection, worker)
        if dead:
            await connection.execute(_FORGET, dead)
        return resolved

    async def sweep_own(self, connection: Connection) -> int:
        """Resolve this worker's stray intents; only while its spill is empty. Give how many."""
        rows = await connection.fetch(_INTENTS, self._worker_id, STRAY_AFTER_S)
        strays = [row["transaction_id"] for row in rows]
        strays = [stray for stray in strays if stray not in self._open_intents]
        return await _resolve(connection, strays)

    async def _resolve_dead(self, connection: Connection, worker: UUID) -> int:
        async with connection.transaction():
            alone = await connection.fetchval(
                "SELECT pg_try_advisory_xact_lock($1)", lock_key(worker)
            )
            if not alone:  # it is back, or another worker resolves
                return 0
            rows = await connection.fetch(_INTENTS, worker, 0.0)
            return await _resolve(connection, [row["transaction_id"] for row in rows])


async def _resolve(connection: Connection, transaction_ids: Sequence[UUID]) -> int:
    resolved = 0
    for start in range(0, len(transaction_ids), BATCH):
        batch = transaction_ids[start : start + BATCH]
        resolved += await connection.fetchval(_RESOLVE, list(batch))
    return resolved
