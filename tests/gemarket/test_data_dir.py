"""`--data-dir`: whatever is wrong with it, each command says it in one line and ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gemarket.commands.application import application
from gemarket.endpoints import read_endpoints
from tests.gemarket.fake_market import FakeMarket

_COMMANDS = [
    "users list",
    "partners list",
    "contracts search",
    "services search",
    "service-files list s",
    "transactions list",
    "explain-route a.B/C",
    "log heads f",
    "log verify",
    "call a.B/C",
    "ca list volt",
    "doctor",
]


def run(folder: Path | str, command: str) -> Result:
    """Run a command on a data directory."""
    given = (*command.split(), "--data-dir", str(folder))
    return CliRunner().invoke(application, given, env={"COLUMNS": "500", "TERM": "dumb"})


def broken(folder: Path, how: str) -> Path:
    """Make a data directory that is wrong in one way."""
    folder = folder / "[red]data"
    if how == "a file":
        folder.write_text("")
        return folder
    folder.mkdir()
    file = folder / "endpoints.json"
    if how == "a folder in its place":
        file.mkdir()
    elif how == "bytes":
        file.write_bytes(b"\xff\xfe")
    elif how == "half a file":
        file.write_text('{"marketplace": "127.0')
    elif how == "of the future":
        file.write_text(json.dumps({"partners": {}, "operators": {}, "more": 1}))
    return folder


@pytest.mark.parametrize("command", _COMMANDS)
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("empty", "no market has been started here"),
        ("a file", "endpoints.json cannot be read: Not a directory"),
        ("a folder in its place", "endpoints.json cannot be read: Is a directory"),
        ("bytes", "is not an endpoints file of this version"),
        ("half a file", "is not an endpoints file of this version"),
        ("of the future", "is not an endpoints file of this version"),
    ],
)
def test_the_reason_and_the_file_are_named(
    market: FakeMarket, tmp_path: Path, command: str, how: str, reason: str
) -> None:
    result = run(broken(tmp_path, how), command)
    assert result.exit_code == (1 if command.split(maxsplit=1)[0] in {"ca", "doctor"} else 2)
    assert reason in result.output
    assert "[red]data/endpoints.json" in result.output
    assert "Traceback" not in result.output
    assert market.calls == []


def test_without_the_option_the_environment_and_then_the_usual_folder_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GEMARKET_DATA_DIR", raising=False)
    runner, wide = CliRunner(), {"COLUMNS": "500", "TERM": "dumb"}
    result = runner.invoke(application, ["users", "list"], env=wide)
    assert f"{Path.cwd() / '.gemarket' / 'endpoints.json'} does not exist" in result.output
    named = {**wide, "GEMARKET_DATA_DIR": "elsewhere"}
    result = runner.invoke(application, ["users", "list"], env=named)
    assert f"{Path.cwd() / 'elsewhere' / 'endpoints.json'} does not exist" in result.output


@pytest.mark.parametrize("command", ["users list --as volt", "contracts search --as volt"])
def test_a_party_whose_files_are_gone_is_told_which_one(
    market: FakeMarket, tmp_path: Path, command: str
) -> None:
    raw = json.loads((market.folder / "endpoints.json").read_text())
    raw["partners"]["volt"]["certificate_file"] = str(tmp_path / "gone" / "certificate.pem")
    (tmp_path / "endpoints.json").write_text(json.dumps(raw))
    result = run(tmp_path, command)
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr
    assert str(tmp_path / "gone" / "key.pem") in result.stderr


@pytest.mark.parametrize("command", ["login ada", "users redeem", "partners track r"])
def test_where_people_cannot_come_in_it_is_said(
    market: FakeMarket, tmp_path: Path, command: str
) -> None:
    raw = json.loads((market.folder / "endpoints.json").read_text())
    (tmp_path / "endpoints.json").write_text(json.dumps({**raw, "sessions": ""}))
    assert read_endpoints(tmp_path / "endpoints.json").sessions == ""
    result = run(tmp_path, command)
    assert result.exit_code == 2
    assert "the address of the listener for people is not known" in result.stderr


@pytest.mark.parametrize("command", ["ca init", "ca request volt"])
def test_an_authority_and_a_request_need_a_folder_that_can_be_made(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file")
    option = ("--data-dir", place) if command == "ca init" else (place,)
    result = CliRunner().invoke(application, [*command.split(), *option])
    assert result.exit_code == 1
    assert result.stderr.startswith("gemarket ca:")
    assert "Traceback" not in result.output
