"""The command line without a market: refusals first, each with its exit status and its reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gemarket.commands.application import application
from gemarket.endpoints import Endpoints
from gemarket.hints import SEARCH, next_steps
from gemarket.layout import Layout
from tests.gemarket.test_endpoints import endpoints

_ROOT = Path(__file__).resolve().parents[2]
#: Wide enough that no message is wrapped.
_ENVIRONMENT = {"COLUMNS": "400", "TERM": "dumb"}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's own settings out, and work in an empty folder."""
    for name in [name for name in os.environ if name.startswith("GEMARKET_")]:
        monkeypatch.delenv(name)
    # The logs of the whole test session are not this command's to configure.
    monkeypatch.setattr("gemarket.commands.up.configure_logs", lambda: None)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **environment: str) -> Result:
    """Run `gemarket` with arguments."""
    return CliRunner().invoke(application, arguments, env={**_ENVIRONMENT, **environment})


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"GEMARKET_WORKERZ": "3"}, "GEMARKET_WORKERZ: there is no such setting"),
        ({"GEMARKET_LIMITS__DRAIN": "3"}, "GEMARKET_LIMITS__DRAIN: there is no such setting"),
        ({"GEMARKET_WORKERS": "0"}, "workers: "),
        ({"GEMARKET_PORT": "http"}, "port: "),
        ({"GEMARKET_TRUST_DOMAIN": "Not A Name"}, "trust_domain: "),
        ({"GEMARKET_DATABASE_URL": "mysql://root@localhost/x"}, "database_url: "),
        ({"GEMARKET_CONFIG": "absent.toml"}, "GEMARKET_CONFIG: "),
        ({"GEMARKET_TLS__CERTIFICATE_FILE": "x.pem"}, "tls: certificate_file and key_file belong"),
        (
            {"GEMARKET_LIMITS__DEFAULT_BUDGET_S": "90"},
            "limits: default_budget_s must not exceed max_call_s",
        ),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_up_refuses_a_wrong_setting_by_its_name(
    environment: dict[str, str], reason: str, tmp_path: Path
) -> None:
    result = run("up", **environment)
    assert result.exit_code == 1
    assert f"gemarket up: {reason}" in result.stderr
    assert not (tmp_path / ".gemarket" / "postgres").exists(), "nothing was started"


def test_up_refuses_a_file_with_a_key_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "gemarket.toml").write_text("[limits]\nspeed = 9\n")
    result = run("up", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "limits.speed: there is no such setting" in result.stderr


def test_a_secret_in_a_wrong_setting_is_not_repeated() -> None:
    result = run("up", GEMARKET_DATABASE_URL="postgresql+asyncpg://me:hunter2@[broken/x")
    assert result.exit_code == 1
    assert "hunter2" not in result.output + result.stderr


def test_the_program_itself_ends_with_the_status_and_the_reason(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gemarket.main", "up"],
        env={**os.environ, "PYTHONPATH": str(_ROOT), "GEMARKET_WORKERS": "none"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "gemarket up: workers:" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("call", SEARCH), 2),
        (("ca", "list", "volt"), 1),
        (("import", "osm", "some.json"), 1),
        (("doctor",), 1),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_without_a_market_the_reason_says_how_to_start_one(
    arguments: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    (tmp_path / "some.json").write_text("{}")
    result = run(*arguments, "--data-dir", str(tmp_path))
    assert result.exit_code == status
    assert "no market has been started here" in result.output
    assert "Traceback" not in result.output


def test_a_market_that_has_gone_away_is_named(tmp_path: Path) -> None:
    endpoints().write(tmp_path / "endpoints.json")
    for arguments in (("call", SEARCH), ("import", "osm", "some.json"), ("ca", "list", "volt")):
        (tmp_path / "some.json").write_text("{}")
        result = run(*arguments, "--data-dir", str(tmp_path))
        assert result.exit_code != 0
        assert f"gemarket {arguments[0]}:" in result.output
        assert "Traceback" not in result.output


def test_a_caller_who_is_not_known_is_answered_with_those_who_are(tmp_path: Path) -> None:
    endpoints().write(tmp_path / "endpoints.json")
    result = run("call", SEARCH, "--as", "nobody", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "known are: business, evsp" in result.stderr


def test_doctor_goes_on_after_each_finding(tmp_path: Path) -> None:
    endpoints().write(tmp_path / "endpoints.json")
    result = run("doctor", "--data-dir", str(tmp_path), GEMARKET_WORKERZ="2")
    assert result.exit_code == 1
    for reason in (
        "✗ settings: GEMARKET_WORKERZ: there is no such setting",
        "✓ endpoints",
        "✗ certificate evsp: No such file or directory",
        "✗ database: cannot connect",
        "✗ marketplace: ",
        "✗ provider volt: nobody listens on port 1 of 127.0.0.1",
    ):
        assert reason in result.stdout
    assert "checks failed" in result.stdout


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    made = run("ca", "init", "--data-dir", str(tmp_path))
    assert made.exit_code == 0
    assert "keep offline" in made.stdout
    root = (tmp_path / "ca" / "ca.pem").read_bytes()
    again = run("ca", "init", "--data-dir", str(tmp_path))
    assert again.exit_code == 1
    assert (tmp_path / "ca" / "ca.pem").read_bytes() == root


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "volt"
    assert run("ca", "request", "volt", str(folder)).exit_code == 0
    assert (folder / "key.pem").stat().st_mode & 0o077 == 0
    key = (folder / "key.pem").read_bytes()
    again = run("ca", "request", "volt", str(folder))
    assert again.exit_code == 1
    assert "exists already" in again.output
    assert (folder / "key.pem").read_bytes() == key


@pytest.mark.parametrize("arguments", [("xyz",), ("00", "--reason", "boredom")])
def test_a_revocation_that_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    result = run("ca", "revoke", *arguments)
    assert result.exit_code == 1
    assert "hexadecimal" in result.output


def test_the_version_is_told() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.strip()[0].isdigit()


def test_the_hints_name_files_and_addresses_of_the_market(tmp_path: Path) -> None:
    described: Endpoints = endpoints()
    hints = next_steps(described, Layout(tmp_path))
    commands = [line for line in hints.splitlines() if not line.startswith("#")]
    assert sum("127.0.0.1:8443" in line for line in commands) >= 5
    assert f"call {SEARCH} --as evsp --data-dir {tmp_path}" in hints
    assert f"curl -s {described.metrics}" in hints
    assert all("--cacert r --cert c --key k" in line for line in commands if "buf curl" in line)


@pytest.mark.parametrize(("columns", "width"), [("", 240), ("70", 70)])
def test_lines_for_a_file_are_wide_unless_it_is_said(columns: str, width: int) -> None:
    program = (
        "import sys; sys.argv[1:] = ['--version']; from gemarket.main import main\n"
        "try: main()\n"
        "except SystemExit: from gemarket.console import output; print(output.width)"
    )
    unset = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment = {**unset, "PYTHONPATH": str(_ROOT), **({"COLUMNS": columns} if columns else {})}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(width)


def test_a_command_imports_nothing_of_the_database() -> None:
    program = (
        "import sys; sys.argv[1:] = ['whoami', '--help']; from gemarket.main import main\n"
        "try: main()\n"
        "except SystemExit: print(*sorted({'gemarket.core_client', 'sqlalchemy'} & {*sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "gemarket.core_client"
