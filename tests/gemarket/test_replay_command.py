"""`gemarket replay` before it calls anybody; what it does then is in `tests/end_to_end`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from clearinghouse.replay import EarlyEndError
from clearinghouse.replay_cast import Cast
from clearinghouse.replay_result import ReplayResult
from gemarket.commands.application import application
from gemarket.recordings import Recording
from tests.clearinghouse.test_replay_readers import HEAD, row


def run(folder: Path, file: Path, form: str) -> Result:
    given = ("replay", str(file), "--format", form, "--data-dir", str(folder))
    return CliRunner().invoke(application, given, env={"COLUMNS": "300", "TERM": "dumb"})


def write_endpoints(folder: Path) -> None:
    (folder / "endpoints.json").write_text(
        '{"marketplace": "127.0.0.1:1", "metrics": "", "trust_domain": "gem.example",'
        ' "ca_file": "", "database_url": "", "partners": {}, "operators": {}}'
    )


def replayed(folder: Path, monkeypatch: pytest.MonkeyPatch, outcome: str | Exception) -> Result:
    """Run a replay of one session whose calls come to this."""

    async def run_replay(recording: Recording, cast: Cast, *_: Any, **__: Any) -> ReplayResult:
        if isinstance(outcome, Exception):
            raise outcome
        result = ReplayResult()
        for session in recording.sessions():
            result.count(session, cast, outcome)
        return result

    monkeypatch.setattr("gemarket.commands.replay.run_replay", run_replay)
    write_endpoints(folder)
    city = folder / "city.csv"
    city.write_text(HEAD + row())
    return run(folder, city, "dundee")


@pytest.mark.parametrize("outcome", ["not told", "forwarded"])
def test_a_session_on_its_way_fails_the_command(
    outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replayed(tmp_path, monkeypatch, outcome)
    assert result.exit_code == 1
    assert "1 sessions are not settled yet" in result.output
    assert "balances add up" not in result.output


def test_sessions_that_came_to_an_end_are_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replayed(tmp_path, monkeypatch, "returned: negative energy")
    assert result.exit_code == 0
    assert "balances add up to zero" in result.output


def test_a_clearing_house_that_breaks_off_is_a_failure_of_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replayed(tmp_path, monkeypatch, EarlyEndError("it ended [bold]early"))
    assert result.exit_code == 1
    assert "gemarket replay: it ended [bold]early" in result.output


def test_where_no_market_runs_the_reason_is_told(tmp_path: Path) -> None:
    city = tmp_path / "city.csv"
    city.write_text(HEAD + row())
    result = run(tmp_path, city, "dundee")
    assert result.exit_code == 2
    assert "try `gemarket up`" in result.output


@pytest.mark.parametrize("form", ["acn", "dundee"])
def test_a_file_of_another_kind_is_refused_before_anybody_is_called(
    form: str, tmp_path: Path
) -> None:
    write_endpoints(tmp_path)
    file = tmp_path / "other.txt"
    file.write_text("something else")
    result = run(tmp_path, file, form)
    assert result.exit_code == 2
    assert "the file has no" in result.output


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, tmp_path / "nothing.csv", "dundee")
    assert result.exit_code == 2
    assert "does not exist" in result.output
