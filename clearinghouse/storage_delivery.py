"""The outbox of charge detail records in PostgreSQL: SQL and nothing else.

A claim is a lease: what a process that died had claimed is due again when the lease ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from clearinghouse.storage import Connection, Pool, transaction

_RECEIVER = """
SELECT r.evsp_partner_id, r.failure_count FROM clearinghouse.receiver AS r
WHERE r.next_at <= now() AND EXISTS (SELECT FROM clearinghouse.delivery AS d
    WHERE d.evsp_partner_id = r.evsp_partner_id AND d.state = 'WAITING' AND d.next_at <= now())
ORDER BY r.next_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""
# Who is served goes to the end of the queue; who failed is asked by one process at a time.
_TURN = """
UPDATE clearinghouse.receiver SET next_at = now()
    + CASE WHEN failure_count > 0 THEN $2::interval ELSE interval '0' END
WHERE evsp_partner_id = $1
"""
# Of a session only what nothing earlier stands before, delivered or dead.
_CLAIM = """
UPDATE clearinghouse.delivery AS d SET claim = $3, next_at = now() + $4::interval,
    attempt_count = d.attempt_count + 1
FROM (SELECT w.delivery_ref FROM clearinghouse.delivery AS w
      WHERE w.evsp_partner_id = $1 AND w.state = 'WAITING' AND w.next_at <= now()
          AND NOT EXISTS (SELECT FROM clearinghouse.delivery AS e WHERE e.lane = w.lane
              AND e.delivery_ref < w.delivery_ref AND e.state IN ('WAITING', 'DEAD'))
      ORDER BY w.delivery_ref LIMIT $2 FOR UPDATE SKIP LOCKED) AS mine
WHERE d.delivery_ref = mine.delivery_ref
RETURNING d.delivery_ref, d.cdr_ref, d.revision_number, d.attempt_count, d.refusal_count
"""

_SUCCEEDED = """
UPDATE clearinghouse.receiver SET failure_count = 0, next_at = least(next_at, now()),
    succeeded_at = now()
WHERE evsp_partner_id = $1 AND (failure_count > 0 OR succeeded_at < now() - interval '1 second')
"""
_FAILED = """
UPDATE clearinghouse.receiver SET failure_count = failure_count + 1, next_at = now() + $2::interval
WHERE evsp_partner_id = $1
"""
# A strike is a refusal, or a failure between which and the one before others came through.
_STRIKE = """
UPDATE clearinghouse.delivery AS d SET claim = NULL, failure = $3, failed_at = now(),
    next_at = now() + $4::interval, refusal_count = refusal_count + s.strike,
    state = CASE WHEN refusal_count + s.strike >= $6 THEN 'DEAD' ELSE state END
FROM (SELECT e.delivery_ref,
          CASE WHEN $5 OR e.failed_at < r.succeeded_at THEN 1 ELSE 0 END AS strike
      FROM clearinghouse.delivery AS e JOIN clearinghouse.receiver AS r USING (evsp_partner_id)
      WHERE e.delivery_ref = $1) AS s
WHERE d.delivery_ref = s.delivery_ref AND d.claim = $2 AND d.state = 'WAITING'
"""
_RELEASE = """
UPDATE clearinghouse.delivery SET claim = NULL, next_at = now()
WHERE delivery_ref = ANY($1::bigint[]) AND claim = $2 AND state = 'WAITING'
"""
_DELIVERED = """
UPDATE clearinghouse.delivery AS d SET state = 'DELIVERED', claim = NULL, ended_at = now()
FROM unnest($1::bigint[], $2::integer[]) AS t (cdr_ref, revision)
WHERE d.cdr_ref = t.cdr_ref AND d.revision_number = t.revision AND d.state IN ('WAITING', 'DEAD')
"""
_WAITING = """
SELECT cdr_ref FROM clearinghouse.delivery
WHERE evsp_partner_id = $1 AND state IN ('WAITING', 'DEAD') ORDER BY delivery_ref LIMIT $2
"""
_DEAD = """
SELECT d.delivery_ref, d.evsp_partner_id, c.operator_partner_id, c.operator_key, c.cdr_key,
    d.revision_number, d.attempt_count, d.failure, d.created_at
FROM clearinghouse.delivery AS d JOIN clearinghouse.cdr AS c USING (cdr_ref)
WHERE d.state = 'DEAD' AND d.delivery_ref > $1 ORDER BY d.delivery_ref LIMIT $2
"""
_REVIVE = """
UPDATE clearinghouse.delivery SET state = 'WAITING', next_at = now(), attempt_count = 0,
    refusal_count = 0, failed_at = NULL WHERE delivery_ref = $1 AND state = 'DEAD'
"""
_HAND_BACK = """
UPDATE clearinghouse.delivery SET state = 'HANDED_BACK', ended_at = now()
WHERE delivery_ref = $1 AND state = 'DEAD' RETURNING cdr_ref
"""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A record that this process is to deliver now."""

    delivery_ref: int
    cdr_ref: int
    revision_number: int
    #: This attempt among them.
    attempt_count: int
    #: Attempts before in which this record, not its receiver, was the trouble.
    refusal_count: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What one process is to deliver to one receiver; it may be empty."""

    claim_id: UUID
    evsp_partner_id: str
    #: Attempts in which the receiver could not be reached, since the last in which it could.
    failure_count: int
    deliveries: tuple[ClaimedDelivery, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was given up until somebody decides about it."""

    delivery_ref: int
    evsp_partner_id: str
    operator_partner_id: str
    operator_key: str
    cdr_key: str
    revision_number: int
    attempt_count: int
    failure: str
    created_at: datetime


async def claim(pool: Pool, limit: int, lease: timedelta) -> Claim | None:
    """Claim the oldest deliveries of the receiver whose turn it is; None where nothing is due.

    Of a receiver that failed the last time, one delivery is claimed.
    """
    async with transaction(pool) as connection:
        receiver = await connection.fetchrow(_RECEIVER)
        if receiver is None:
            return None
        evsp, failures = receiver
        await connection.execute(_TURN, evsp, lease)
        claim_id = uuid4()
        size = 1 if failures else limit
        rows = await connection.fetch(_CLAIM, evsp, size, claim_id, lease)
    found = sorted((ClaimedDelivery(*row) for row in rows), key=lambda each: each.delivery_ref)
    return Claim(claim_id, evsp, failures, tuple(found))


async def receiver_answered(connection: Connection, evsp_partner_id: str) -> None:
    """Note that a receiver could be reached."""
    await connection.execute(_SUCCEEDED, evsp_partner_id)


async def receiver_failed(connection: Connection, evsp_partner_id: str, wait: timedelta) -> None:
    """Let a receiver alone for a while."""
    await connection.execute(_FAILED, evsp_partner_id, wait)


async def note_failure(
    connection: Connection,
    claimed: Claim,
    delivery: ClaimedDelivery,
    failure: str,
    wait: timedelta,
    *,
    refused: bool,
    strikes_max: int,
) -> None:
    """Let a delivery be tried again after a wait, or never where it was the trouble too often."""
    await connection.execute(
        _STRIKE, delivery.delivery_ref, claimed.claim_id, failure, wait, refused, strikes_max
    )


async def release(connection: Connection, claimed: Claim) -> None:
    """Let be claimed again at once what was claimed and not tried."""
    refs = [each.delivery_ref for each in claimed.deliveries]
    await connection.execute(_RELEASE, refs, claimed.claim_id)


async def mark_delivered(
    connection: Connection, cdr_refs: Sequence[int], revision_numbers: Sequence[int]
) -> None:
    """Note that revisions of records have come to their receivers."""
    await connection.execute(_DELIVERED, cdr_refs, revision_numbers)


async def undelivered(connection: Connection, evsp_partner_id: str, limit: int) -> list[int]:
    """Give the oldest records that wait for a receiver."""
    rows = await connection.fetch(_WAITING, evsp_partner_id, limit)
    return [row["cdr_ref"] for row in rows]


async def dead_letters(connection: Connection, after: int, limit: int) -> list[DeadLetter]:
    """List dead letters behind one, the oldest first."""
    rows = await connection.fetch(_DEAD, after, limit)
    return [DeadLetter(*row) for row in rows]


async def revive(connection: Connection, delivery_ref: int) -> bool:
    """Let a dead letter be tried again as if it were new; False where it is none."""
    done: str = await connection.execute(_REVIVE, delivery_ref)
    return done == "UPDATE 1"


async def hand_back(connection: Connection, delivery_ref: int) -> int | None:
    """End a dead letter for good; gives its record, None where it is none."""
    found: int | None = await connection.fetchval(_HAND_BACK, delivery_ref)
    return found
