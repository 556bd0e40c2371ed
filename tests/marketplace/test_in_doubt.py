"""Intents whose worker died become IN_DOUBT, and nothing that is known becomes less known."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from foundation.database import connect_raw
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.in_doubt import InDoubtResolver, announce, depart
from marketplace.storage_log_chain import lock_key
from marketplace.storage_transaction_write import write_again, write_first
from marketplace.transaction_batch import Batch
from tests.transaction_log_support import (
    IN_DOUBT,
    OK,
    connected,
    entry_of,
    eventually,
    log_on,
    rows,
    running,
    statuses,
)

GRACE_S = 2.0


async def _intended(connection: asyncpg.Connection, worker_id: UUID) -> UUID:
    intent = entry_of(status=0, value_micros=0)
    await write_first(connection, worker_id, Batch(intents=[intent]))
    return intent.transaction_id


async def _sweep_twice(resolver: InDoubtResolver, connection: asyncpg.Connection) -> int:
    return await resolver.sweep(connection, 10.0) + await resolver.sweep(connection, 10.0 + GRACE_S)


async def test_an_intent_of_a_living_worker_is_left_alone(
    log_url: str,
) -> None:
    alive = uuid4()
    async with connected(log_url) as its_own, connected(log_url) as connection:
        await announce(its_own, alive, "host", 1)
        await _intended(connection, alive)
        assert await _sweep_twice(InDoubtResolver(uuid4(), {}, GRACE_S), connection) == 0
    assert await statuses(log_url) == {}


async def test_a_worker_that_is_missing_for_a_moment_keeps_its_intents(
    log_url: str,
) -> None:
    """As all workers are, when PostgreSQL was started again."""
    worker = uuid4()
    async with connected(log_url) as connection:
        await _intended(connection, worker)
        resolver = InDoubtResolver(uuid4(), {}, GRACE_S)
        assert await resolver.sweep(connection, 10.0) == 0
        async with connected(log_url) as its_own:
            await announce(its_own, worker, "host", 1)
            assert await resolver.sweep(connection, 11.9) == 0
        assert await resolver.sweep(connection, 12.1) == 0
        assert await resolver.sweep(connection, 14.2) == 1


async def test_an_intent_that_has_its_result_does_not_become_doubtful(
    log_url: str,
) -> None:
    """A write that timed out may commit an intent after its result."""
    worker, entry = uuid4(), entry_of()
    async with connected(log_url) as connection:
        await write_again(connection, worker, Batch(resolutions=[entry]))
        await write_first(connection, worker, Batch(intents=[entry]))
        assert await _sweep_twice(InDoubtResolver(uuid4(), {}, GRACE_S), connection) == 0
    assert await statuses(log_url) == {entry.transaction_id: OK}
    assert await rows(log_url, "transaction_intent") == []


@pytest.mark.usecase(1491)
async def test_an_intent_of_a_dead_worker_becomes_in_doubt_and_costs_nothing(
    log_url: str,
) -> None:
    dead = uuid4()
    async with connected(log_url) as connection:
        async with connected(log_url) as its_own:
            await announce(its_own, dead, "host", 1)
        intent = await _intended(connection, dead)
        assert await _sweep_twice(InDoubtResolver(uuid4(), {}, GRACE_S), connection) == 1
    (row,) = await rows(log_url)
    assert (row["transaction_id"], row["status"], row["code"]) == (intent, IN_DOUBT, 2)
    assert (row["reason"], row["value_micros"]) == (ErrorReason.ERROR_REASON_IN_DOUBT, 0)
    assert await rows(log_url, "transaction_intent") == []
    assert await rows(log_url, "worker") == []


async def test_several_resolvers_at_once_make_one_entry(
    log_url: str,
) -> None:
    dead = uuid4()
    connections = [await connect_raw(log_url) for _ in range(4)]
    intents = [entry_of(status=0) for _ in range(700)]
    await write_first(connections[0], dead, Batch(intents=intents))
    resolvers = [InDoubtResolver(uuid4(), {}, 0.0) for _ in connections]
    pairs = zip(resolvers, connections, strict=True)
    counts = await asyncio.gather(*(resolver.sweep(c, 1.0) for resolver, c in pairs))
    assert sum(counts) == 700
    for connection in connections:
        await connection.close()
    assert set(await statuses(log_url)) == {intent.transaction_id for intent in intents}


async def test_a_late_result_replaces_in_doubt_and_in_doubt_replaces_nothing(
    log_url: str,
) -> None:
    worker, entry = uuid4(), entry_of()
    doubt = entry_of(
        transaction_id=entry.transaction_id,
        started_ns=entry.started_ns,
        status=IN_DOUBT,
        value_micros=0,
    )
    async with connected(log_url) as connection:
        for batch in (Batch(finals=[doubt]), Batch(finals=[entry]), Batch(finals=[doubt])):
            await write_again(connection, worker, batch)
    (row,) = await rows(log_url)
    assert (row["status"], row["value_micros"]) == (OK, entry.value_micros)


async def test_a_result_is_never_replaced_by_another(log_url: str) -> None:
    entry = entry_of()
    other = entry_of(
        transaction_id=entry.transaction_id, started_ns=entry.started_ns, status=4, value_micros=7
    )
    async with connected(log_url) as connection:
        await write_again(connection, uuid4(), Batch(finals=[entry]))
        await write_again(connection, uuid4(), Batch(finals=[other, entry]))
    (row,) = await rows(log_url)
    assert (row["status"], row["value_micros"]) == (OK, entry.value_micros)


async def test_a_stray_intent_of_the_worker_itself_is_resolved_but_none_in_flight(
    log_url: str,
) -> None:
    worker = uuid4()
    async with connected(log_url) as connection:
        in_flight, stray = await _intended(connection, worker), await _intended(connection, worker)
        resolver = InDoubtResolver(worker, {in_flight: 0}, GRACE_S)
        assert await resolver.sweep_own(connection) == 0
        older = "UPDATE marketplace.transaction_intent SET recorded_at = now() - interval '1 min'"
        await connection.execute(older)
        assert await resolver.sweep_own(connection) == 1
    assert await statuses(log_url) == {stray: IN_DOUBT}


async def test_a_worker_that_departs_leaves_no_row(log_url: str) -> None:
    worker = uuid4()
    async with connected(log_url) as connection:
        await announce(connection, worker, "host", os.getpid())
        assert [row["worker_id"] for row in await rows(log_url, "worker")] == [worker]
        await depart(connection, worker)
    assert await rows(log_url, "worker") == []


def test_a_lock_key_fits_the_database_and_follows_from_the_boot_id() -> None:
    assert lock_key(UUID(int=2**128 - 1)) == -1
    assert lock_key(UUID(int=1 << 64)) == 1


async def test_the_next_worker_finds_the_doubtful_calls_of_a_dead_one(
    log_url: str, tmp_path: Path
) -> None:
    async with connected(log_url) as connection:
        intent = await _intended(connection, uuid4())
    async with running(log_on(log_url, tmp_path)) as log:

        async def resolved() -> bool:
            return not await rows(log_url, "transaction_intent")

        await eventually(resolved, 5)
        assert log.figures().doubted == 1
    assert await statuses(log_url) == {intent: IN_DOUBT}
