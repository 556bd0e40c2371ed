"""The transaction log as the router and the interceptors use it, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from foundation.database import connect_raw
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.durable_writer import WriterLimits
from marketplace.group_commit import GroupLimits
from marketplace.transaction_log import (
    DurableTransactionLog,
    LogFigures,
    LogLimits,
    printable,
)
from marketplace.transaction_log_metrics import TransactionLogMetrics
from tests.transaction_log_support import (
    FAST,
    IN_DOUBT,
    OK,
    entry_of,
    eventually,
    failed_of,
    log_on,
    rows,
    running,
    statuses,
)

NOWHERE = LogLimits(start_wait_s=0.05, flush_s=1.0)


async def no_database() -> asyncpg.Connection:
    raise ConnectionRefusedError


def log_without_database(folder: Path, limits: LogLimits = NOWHERE) -> DurableTransactionLog:
    return DurableTransactionLog(no_database, folder / "spill", limits)


async def test_a_log_that_is_closed_refuses_entries(tmp_path: Path) -> None:
    log = log_without_database(tmp_path)
    async with running(log):
        pass
    with pytest.raises(MarketError) as refused:
        await log.record([entry_of()])
    assert refused.value.reason == ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE


async def test_an_entry_that_nothing_takes_is_an_error_and_so_is_an_intent(tmp_path: Path) -> None:
    """Fail closed: neither is a provider asked nor does an answer leave."""
    limits = replace(NOWHERE, spill_max_bytes=40 * 4096)
    async with running(log_without_database(tmp_path, limits)) as log:
        many = [entry_of() for _ in range(1000)]
        for method in (log.record, log.intend):
            with pytest.raises(MarketError) as refused:
                await method(many)
            assert refused.value.reason == ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
        assert log.figures().open_intents == 0


async def test_more_entries_than_may_wait_are_refused(tmp_path: Path) -> None:
    limits = replace(NOWHERE, group=GroupLimits(pending_records=2))
    async with running(log_without_database(tmp_path, limits)) as log:
        with pytest.raises(MarketError):
            await log.record([entry_of(), entry_of(), entry_of()])


async def test_failed_calls_over_the_bound_are_dropped_and_counted(tmp_path: Path) -> None:
    limits = replace(NOWHERE, pending_failed_calls=10)
    async with running(log_without_database(tmp_path, limits)) as log:
        await asyncio.gather(*(log.record_failed(failed_of()) for _ in range(25)))
        assert log.figures().failed_calls_dropped == 15
        assert log.figures().spill_records == 10


async def test_a_failed_call_without_a_name_is_not_kept(tmp_path: Path) -> None:
    async with running(log_without_database(tmp_path)) as log:
        await log.record_failed(failed_of(requester_id=None))
        assert log.figures().spill_records == 0


def test_what_a_caller_sent_as_method_is_printable_and_short() -> None:
    assert printable("/a.B/C") == "/a.B/C"
    assert printable("/a\0\n\x7fé C") == "/a?????C"
    assert len(printable("x" * 10_000)) == 255


async def test_a_record_that_postgresql_refuses_holds_up_no_other(
    log_url: str, tmp_path: Path
) -> None:
    """Its caller still gets its answer: the record is durable, aside, for a person to look at."""
    good = [entry_of() for _ in range(3)]
    async with running(log_on(log_url, tmp_path)) as log:
        await log.record([good[0], entry_of(requester_id="no text\0"), good[1]])
        await eventually(lambda: not log.figures().spilling, 10)
        await log.record([good[2]])
        assert log.figures().rejected_records == 1
    assert set(await statuses(log_url)) == {entry.transaction_id for entry in good}


@pytest.mark.usecase(1491)
async def test_every_provider_asked_has_one_entry_as_it_was_given(
    log_url: str, tmp_path: Path
) -> None:
    call_id = uuid4()
    given = [
        entry_of(call_id=call_id, provider_id=name, started_ns=1_800_000_000_123_456_789)
        for name in ("first", "second", "third")
    ]
    async with running(log_on(log_url, tmp_path)) as log:
        await log.record(given)
        kept = {row["provider_id"]: row for row in await rows(log_url)}
        assert log.figures().spilled == 0
    assert kept.keys() == {"first", "second", "third"}
    row = dict(kept["second"])
    assert row.pop("started_at").timestamp() == pytest.approx(1_800_000_000.123456)
    assert row.pop("worker_id") == log.worker_id
    for name in ("recorded_at", "chain_id", "sequence", "nonce", "record_hash", "chain_hash"):
        assert row.pop(name) is not None
    assert row == {name: getattr(given[1], name) for name in row}


@pytest.mark.usecase(1491)
async def test_an_intent_is_there_before_its_result_and_gone_with_it(
    log_url: str, tmp_path: Path
) -> None:
    intents = [entry_of(status=0) for _ in range(3)]
    # Nobody here dies, and no database is away: a pause of this machine must not look like it.
    patient = WriterLimits(write_timeout_s=20, connect_timeout_s=20)
    async with running(
        log_on(log_url, tmp_path, LogLimits(writer=patient, start_wait_s=20))
    ) as log:
        await log.intend(intents)
        assert len(await rows(log_url, "transaction_intent")) == 3
        assert await rows(log_url) == []
        fresh = entry_of()
        await log.record([*(intent._replace(status=OK) for intent in intents[:2]), fresh])
        assert len(await rows(log_url, "transaction_intent")) == 1
        await log.record([intents[2]._replace(status=IN_DOUBT)])
        assert log.figures().open_intents == 0
    expected = {entry.transaction_id: OK for entry in (*intents[:2], fresh)}
    assert await statuses(log_url) == expected | {intents[2].transaction_id: IN_DOUBT}
    assert await rows(log_url, "transaction_intent") == []


async def test_a_result_keeps_the_start_of_its_intent_and_so_its_key(
    log_url: str, tmp_path: Path
) -> None:
    intent = entry_of(status=0)
    async with running(log_on(log_url, tmp_path)) as log:
        await log.intend([intent])
        await log.record([intent._replace(status=OK, started_ns=intent.started_ns + 10**9)])
        (row,) = await rows(log_url)
    assert row["started_at"].timestamp() == pytest.approx(intent.started_ns / 1e9, abs=1e-5)


async def test_an_entry_recorded_twice_is_billed_once(log_url: str, tmp_path: Path) -> None:
    entry, other = entry_of(), entry_of()
    async with running(log_on(log_url, tmp_path)) as log:
        await log.record([entry])
        await log.record([entry, other])
        await eventually(lambda: not log.figures().spilling, 10)
    assert await statuses(log_url) == {entry.transaction_id: OK, other.transaction_id: OK}


async def test_a_cancelled_call_has_its_entries_all_the_same(log_url: str, tmp_path: Path) -> None:
    intent, fresh = entry_of(status=0), entry_of()
    async with running(log_on(log_url, tmp_path)) as log:
        await log.intend([intent])
        task = asyncio.create_task(log.record([intent._replace(status=OK), fresh]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await log.flush()
        assert await statuses(log_url) == {intent.transaction_id: OK, fresh.transaction_id: OK}


@pytest.mark.usecase(1241)
async def test_every_failed_call_of_a_partner_is_in_a_table_of_its_own(
    log_url: str, tmp_path: Path
) -> None:
    async with running(log_on(log_url, tmp_path)) as log:
        await log.record_failed(failed_of(method="/no such\nmethod"))
        async with asyncio.timeout(20):
            # On a busy machine it may be in the spill for a moment.
            while not (found := await rows(log_url, "failed_call")):  # noqa: ASYNC110  # another process writes
                await asyncio.sleep(0.05)
    (row,) = found
    assert (row["requester_id"], row["method"]) == ("evsp", "/no?such?method")
    assert row["reason"] == ErrorReason.ERROR_REASON_NO_CONTRACT
    assert await rows(log_url) == []


async def test_close_writes_what_is_pending_and_leaves_no_trace_of_the_worker(
    log_url: str, tmp_path: Path
) -> None:
    entries = [entry_of() for _ in range(200)]
    log = log_on(log_url, tmp_path)
    async with running(log):
        tasks = [asyncio.create_task(log.record([entry])) for entry in entries]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert len(await statuses(log_url)) == 200
    assert await rows(log_url, "worker") == []
    assert list((tmp_path / "spill").iterdir()) == []


async def test_what_a_log_could_not_drain_the_next_one_of_the_host_does(
    log_url: str, tmp_path: Path
) -> None:
    """Its intents too: whoever was asked last by a worker that is gone, is in doubt."""
    entry, intent = entry_of(), entry_of(status=0)
    async with running(log_without_database(tmp_path)) as lonely:
        await lonely.record([entry])
        await lonely.intend([intent])
        await lonely.record_failed(failed_of())
    async with running(log_on(log_url, tmp_path, FAST)) as log:

        async def both_there() -> bool:
            return len(await rows(log_url)) == 2

        await eventually(both_there, 10)
        assert log.figures().adopted == 3
    assert await statuses(log_url) == {entry.transaction_id: OK, intent.transaction_id: IN_DOUBT}
    assert {row["worker_id"] for row in await rows(log_url)} == {lonely.worker_id}
    assert len(await rows(log_url, "failed_call")) == 1
    assert list((tmp_path / "spill").iterdir()) == []


async def test_metrics_show_the_state_and_count_what_happened_once(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = TransactionLogMetrics(registry)
    log = log_without_database(tmp_path)
    async with running(log):
        await log.record([entry_of(), entry_of()])
        metrics.update(log.figures())
        await log.record([entry_of()])
        metrics.update(log.figures())
        metrics.update(log.figures())
    prefix = "gemarket_transaction_log_"
    assert registry.get_sample_value(prefix + "spilled_total") == 3
    assert registry.get_sample_value(prefix + "spill_records") == 3
    assert registry.get_sample_value(prefix + "spilling") == 1
    assert registry.get_sample_value(prefix + "failed_calls_dropped_total") == 0


async def test_metrics_count_failed_calls_that_the_interceptor_gave_up(tmp_path: Path) -> None:
    registry, lost = CollectorRegistry(), [0]
    metrics = TransactionLogMetrics(registry)
    metrics.watch_lost(lambda: lost[0])
    async with running(log_without_database(tmp_path)) as log:
        for so_far in (0, 2, 2, 3):
            lost[0] = so_far
            metrics.update(log.figures())
    name = "gemarket_transaction_log_failed_calls_lost_total"
    assert registry.get_sample_value(name) == 3


async def test_the_observer_is_told_from_the_start(tmp_path: Path) -> None:
    seen: list[LogFigures] = []
    log = DurableTransactionLog(no_database, tmp_path / "spill", NOWHERE, observe=seen.append)
    async with running(log):
        await eventually(lambda: bool(seen), 5)


async def test_a_log_has_started_when_its_writer_has_a_connection_too(
    log_url: str, tmp_path: Path
) -> None:
    """Else the first entries would go the long way through the spill."""
    made = 0

    async def connect() -> asyncpg.Connection:
        nonlocal made
        made += 1
        if made > 1:
            await asyncio.sleep(0.3)
        return await connect_raw(log_url)

    log = DurableTransactionLog(connect, tmp_path, LogLimits(start_wait_s=10), uuid4())
    async with running(log):
        await log.record([entry_of()])
        assert log.figures().spilled == 0
    assert made > 1
