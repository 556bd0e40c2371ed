"""`gemarket replay` before it calls anybody; what it does then is in `tests/end_to_end`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gemarket.commands.application import application
from tests.clearinghouse.test_replay_readers import HEAD, row


def run(folder: Path, file: Path, form: str) -> Result:
    given = ("replay", str(file), "--format", form, "--data-dir", str(folder))
    return CliRunner().invoke(application, given, env={"COLUMNS": "300", "TERM": "dumb"})


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
    (tmp_path / "endpoints.json").write_text(
        '{"marketplace": "127.0.0.1:1", "metrics": "", "trust_domain": "gem.example",'
        ' "ca_file": "", "database_url": "", "partners": {}, "operators": {}}'
    )
    file = tmp_path / "other.txt"
    file.write_text("something else")
    result = run(tmp_path, file, form)
    assert result.exit_code == 2
    assert "the file has no" in result.output


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, tmp_path / "nothing.csv", "dundee")
    assert result.exit_code == 2
    assert "does not exist" in result.output
