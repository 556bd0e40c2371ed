"""`gemarket log verify` on a database, and what a statement says of a promise."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from gem.marketplace.v1 import statement_pb2
from gemarket.commands import log
from gemarket.commands.application import application
from gemarket.commands.transactions import _show_promise
from gemarket.console import output
from tests.conftest import MigratedDatabase
from tests.log_chains import a_whole_log, change, longest_chain

_WIDE = {"COLUMNS": "300", "TERM": "dumb"}


async def run(url: str, *arguments: str) -> Result:
    given = ("log", "verify", "--database-url", url, *arguments)
    return await asyncio.to_thread(CliRunner().invoke, application, given, env=_WIDE)


@pytest.mark.usecase(1242)
async def test_a_database_that_is_not_there_is_said_without_its_address(tmp_path: object) -> None:
    result = await run(f"postgresql://somebody:secret@/nothing?host={tmp_path}")
    assert result.exit_code == 2
    assert "secret" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.usecase(1242)
async def test_breaks_are_shown_as_a_table_and_end_with_one(
    migrated_database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await migrated_database("marketplace")
    empty = await run(url)
    assert (empty.exit_code, empty.stdout) == (
        0,
        "The log is what was written: 0 entries in 0 chains.\n",
    )
    await a_whole_log(url)
    whole = await run(url)
    assert "The log is what was written: 13 entries in 2 chains." in whole.stdout
    assert "13/12" in whole.stderr, "the one that was replaced is read too"
    chain = await longest_chain(url)
    changed = chain[1]
    sql = "UPDATE marketplace.service_transaction SET item_count = 99 WHERE transaction_id = $1"
    await change(url, sql, changed["transaction_id"])
    await change(
        url,
        "DELETE FROM marketplace.service_transaction WHERE transaction_id = $1",
        chain[3]["transaction_id"],
    )
    broken = await run(url)
    assert broken.exit_code == 1
    assert "2 breaks" in broken.stderr
    lines = [line for line in broken.stdout.splitlines() if str(changed["chain_id"]) in line]
    assert [("changed" in line, "missing" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]
    assert str(changed["transaction_id"]) in lines[0]
    monkeypatch.setattr(log, "_MOST_SHOWN", 1)
    limited = await run(url)
    assert "2 breaks" in limited.stderr
    assert "missing" not in limited.stdout
    assert UUID(int=0).hex not in limited.stdout


def test_a_statement_says_in_words_whether_a_promise_was_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(output, "print", lambda text, **_: said.append(text))
    level = statement_pb2.ServiceLevel(availability_permille=998)
    promise = statement_pb2.ServiceLevelPromise(availability_permille=999, percentile_95_ms=20)
    _show_promise(promise, level)
    assert said == []
    promise.is_availability_kept, promise.is_percentile_95_kept = False, True
    _show_promise(promise, level)
    assert said == [
        "availability: 998 ‰, 999 ‰ promised: not kept",
        "95 % within 20 ms promised: kept",
    ]
