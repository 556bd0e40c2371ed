"""The spill: what it refuses, what it keeps, and who may take it over."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interceptors.call import FailedCall
from marketplace.router.target import TransactionEntry
from marketplace.spill import SUFFIX, Spill, adopt, lock_path, open_own
from marketplace.transaction_batch import Batch, Kind, decode, encode
from tests.transaction_log_support import entry_of, failed_of

MEGABYTE = 1 << 20

_texts = st.text(max_size=20)
_numbers = st.integers(-(2**63), 2**63 - 1)
_digests = st.binary(max_size=32)
ENTRIES = st.builds(
    TransactionEntry,
    **dict.fromkeys(("transaction_id", "call_id"), st.uuids()),
    **dict.fromkeys(("requester_id", "provider_id", "contract_id", "service_id"), _texts),
    **dict.fromkeys(("service_version", "method", "currency_code"), _texts),
    **dict.fromkeys(("started_ns", "duration_us", "status", "reason", "code"), _numbers),
    **dict.fromkeys(("request_bytes", "answer_bytes", "item_count", "value_micros"), _numbers),
    **dict.fromkeys(("request_digest", "answer_digest"), _digests),
)
FAILED = st.builds(
    FailedCall,
    call_id=st.uuids(),
    **dict.fromkeys(("requester_id", "method"), _texts),
    **dict.fromkeys(("started_ns", "duration_us", "reason", "code", "request_bytes"), _numbers),
)


@pytest.mark.parametrize("body", ["", "[]", "{}", "[1,2]", "null", '{"transaction_id": 1}'])
def test_what_is_no_record_is_refused(body: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(Kind.FINAL, body)


@given(ENTRIES)
def test_an_entry_comes_back_from_the_file_as_it_was(entry: TransactionEntry) -> None:
    assert decode(Kind.FINAL, encode(entry)) == entry


@given(FAILED)
def test_a_failed_call_comes_back_from_the_file_as_it_was(failed: FailedCall) -> None:
    assert decode(Kind.FAILED, encode(failed)) == failed


async def test_a_full_spill_refuses_a_batch_whole_and_goes_on(tmp_path: Path) -> None:
    spill = await open_own(tmp_path, uuid4(), 40 * 4096)
    await spill.append(Batch(finals=[entry_of()]))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await spill.append(Batch(finals=[entry_of() for _ in range(1000)]))
    assert spill.count == 1
    await spill.append(Batch(finals=[entry_of()]))
    assert spill.count == 2
    await spill.close()


async def test_a_folder_that_cannot_be_made_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        await open_own(tmp_path / "file" / "spill", uuid4(), MEGABYTE)


async def test_a_spill_of_a_living_worker_is_never_taken_over(tmp_path: Path) -> None:
    spill = await open_own(tmp_path, uuid4(), MEGABYTE)
    await spill.append(Batch(finals=[entry_of()]))
    assert await adopt(tmp_path, MEGABYTE) is None
    await spill.close()


async def test_a_file_that_is_no_spill_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / f"0-first{SUFFIX}").write_bytes(b"a name that is no id")
    (tmp_path / f"{0:032x}{SUFFIX}").write_bytes(b"no database" * 1000)
    worker_id = uuid4()
    await _left_behind(tmp_path, Batch(finals=[entry_of()]), worker_id.hex)
    adopted = await adopt(tmp_path, MEGABYTE)
    assert adopted is not None
    assert adopted.worker_id == worker_id
    await adopted.close()


async def test_records_come_out_in_the_order_in_which_they_went_in(tmp_path: Path) -> None:
    spill = await open_own(tmp_path, uuid4(), MEGABYTE)
    intent, failed = entry_of(status=0), failed_of()
    entries = [entry_of() for _ in range(5)]
    await spill.append(Batch(intents=[intent], finals=entries[:3]))
    await spill.append(Batch(finals=entries[3:], resolutions=[intent], failed=[failed]))
    seen: list[object] = []
    while (chunk := await spill.first(2)) is not None:
        seen += [record for _, record in chunk.batch.records()]
        await spill.remove(chunk.last_sequence)
    assert seen == [intent, *entries, intent, failed]
    assert spill.count == 0
    await spill.close()


async def test_an_empty_spill_leaves_no_file_behind(tmp_path: Path) -> None:
    spill = await open_own(tmp_path, uuid4(), MEGABYTE)
    await spill.append(Batch(finals=[entry_of()]))
    chunk = await spill.first(10)
    assert chunk is not None
    await spill.remove(chunk.last_sequence)
    await spill.close()
    assert names_in(tmp_path) == []


async def test_what_was_put_aside_stays_on_disk_and_is_not_drained_again(tmp_path: Path) -> None:
    spill = await open_own(tmp_path, uuid4(), MEGABYTE)
    await spill.append(Batch(finals=[entry_of()]))
    chunk = await spill.first(1)
    assert chunk is not None
    await spill.reject(chunk.last_sequence)
    assert (spill.count, spill.rejected) == (0, 1)
    await spill.close()
    assert [name for name in names_in(tmp_path) if name.endswith(SUFFIX)] != []
    assert await adopt(tmp_path, MEGABYTE) is None


async def test_a_record_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    spill = await open_own(tmp_path, uuid4(), MEGABYTE)
    entries = [entry_of(), entry_of()]
    await spill.append(Batch(finals=entries))
    spill._database.execute("UPDATE record SET body = 'broken' WHERE sequence = 1")
    chunk = await spill.first(10)
    assert chunk is not None
    assert chunk.batch.finals == entries[1:]
    assert (spill.count, spill.rejected) == (1, 1)
    await spill.close()


async def test_only_one_of_two_workers_takes_an_orphan_over(tmp_path: Path) -> None:
    entry = entry_of()
    await _left_behind(tmp_path, Batch(finals=[entry]), uuid4().hex)
    first, second = await adopt(tmp_path, MEGABYTE), await adopt(tmp_path, MEGABYTE)
    assert second is None
    assert first is not None
    chunk = await first.first(10)
    assert chunk is not None
    assert chunk.batch.finals == [entry]
    await first.close()


_WRITER = """
import asyncio, os, sys
from pathlib import Path
from uuid import uuid4
from marketplace.spill import open_own
from marketplace.transaction_batch import Batch
from tests.transaction_log_support import entry_of

async def main():
    spill = await open_own(Path(sys.argv[1]), uuid4(), 1 << 24)
    while True:
        entry = entry_of()
        await spill.append(Batch(finals=[entry]))
        print(entry.transaction_id, flush=True)

asyncio.run(main())
"""


@pytest.mark.fault
async def test_what_was_acknowledged_survives_kill_9_of_its_worker(tmp_path: Path) -> None:
    """The process dies in the middle of writing; every id that it printed is in its file."""
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    acknowledged = await asyncio.to_thread(kill_in_the_middle, command)
    adopted = await adopt(tmp_path, 1 << 24)
    assert adopted is not None
    chunk = await adopted.first(100_000)
    assert chunk is not None
    kept = {str(entry.transaction_id) for entry in chunk.batch.finals}
    assert set(acknowledged) <= kept
    assert len(kept) == len(chunk.batch.finals)
    await adopted.close()


def kill_in_the_middle(command: list[str]) -> list[str]:
    """Run a process until it printed fifty lines, kill it, and give all that it printed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline().strip() for _ in range(50)]
        worker.kill()
        return lines + worker.stdout.read().split()


def names_in(folder: Path) -> list[str]:
    """Give the names of the files in a folder."""
    return [path.name for path in folder.iterdir()]


async def _left_behind(folder: Path, batch: Batch, name: str) -> None:
    """Leave a spill file as a dead worker does: with records, its lock given up."""
    path = folder / f"{name}{SUFFIX}"
    lock = os.open(lock_path(path), os.O_RDWR | os.O_CREAT)
    spill = Spill(path, lock, MEGABYTE)
    await spill.append(batch)
    spill._database.close()
    spill._thread.shutdown()
    os.close(lock)
