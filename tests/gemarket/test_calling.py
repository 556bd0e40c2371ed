"""What commands that call core services share, without a market."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1 import saved_search_service_pb2 as wire
from gem.marketplace.v1.notification_pb2 import NotificationKind
from gemarket import console
from gemarket.commands import calling
from gemarket.commands.application import application
from gemarket.core_client import (
    TOKEN_VARIABLE,
    CoreClient,
    forget_token,
    keep_token,
    read_token,
    token_file,
)
from gemarket.layout import Layout
from tests.gemarket.test_endpoints import endpoints

_ENVIRONMENT = {"COLUMNS": "400", "TERM": "dumb"}
_KIND = (NotificationKind, "NOTIFICATION_KIND")


def run(*arguments: str, stdin: str = "") -> Result:
    """Run `gemarket` with arguments."""
    return CliRunner().invoke(application, arguments, env=_ENVIRONMENT, input=stdin)


@pytest.fixture(autouse=True)
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's own session out."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("login", "ada"),
        ("whoami",),
        ("users", "list"),
        ("users", "redeem"),
        ("notifications", "list"),
        ("interfaces", "list"),
        ("requests", "list"),
        ("searches", "list"),
    ],
    ids=" ".join,
)
def test_without_a_market_a_command_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "no market has been started here" in result.stderr.replace("\n", " ")
    assert result.stdout == ""


def test_an_unknown_party_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    endpoints().write(Layout(tmp_path).endpoints)
    result = run("requests", "list", "--as", "nobody", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "'nobody' is not known here" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("login", "ada", "--password", "x"),
        ("users", "redeem", "--password", "x"),
        ("users", "password", "x"),
        ("login",),
        ("requests", "respond"),
        ("requests", "list", "--limit", "0"),
        ("interfaces", "label", "a.B", "0", "current"),
    ],
    ids=" ".join,
)
def test_a_secret_is_no_argument_and_what_is_missing_is_named(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


@pytest.mark.parametrize("group", ["users", "notifications", "interfaces", "requests", "searches"])
def test_every_command_explains_itself(group: str) -> None:
    whole: Any = typer.main.get_command(application)
    commands = whole.get_command(None, group).commands
    assert len(commands) >= 5
    for command in commands.values():
        assert command.help
        names = {parameter.name for parameter in command.params}
        assert "data_dir" in names


def test_a_token_is_for_its_owner_only_and_goes_with_the_logout(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert read_token(layout) == ""
    token_file(layout).write_text("older")
    token_file(layout).chmod(0o644)
    keep_token(layout, "newer")
    assert read_token(layout) == "newer"
    assert stat.S_IMODE(token_file(layout).stat().st_mode) == 0o600
    forget_token(layout)
    forget_token(layout)
    assert read_token(layout) == ""


def test_the_token_of_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_token(Layout(tmp_path), "of the file")
    monkeypatch.setenv(TOKEN_VARIABLE, "of the environment")
    assert read_token(Layout(tmp_path)) == "of the environment"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("[red]x[/]", r"\[red]x\[/]"),
        ("a\x1b[2Jb", "a\N{REPLACEMENT CHARACTER}[2Jb"),
        ("a\x9b2Jb\x07", "a\N{REPLACEMENT CHARACTER}2Jb\N{REPLACEMENT CHARACTER}"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_texts_of_others_cannot_drive_the_terminal(text: str, shown: str) -> None:
    assert console.shown(text) == shown


def test_names_of_enums_are_words() -> None:
    kind = NotificationKind.NOTIFICATION_KIND_SERVICE_REQUEST_RESPONDED
    assert calling.enum_name(*_KIND, kind) == "service-request-responded"
    assert calling.enum_value(*_KIND, "service-request-responded") == kind
    with pytest.raises(ValueError, match="there are: contract-created"):
        calling.enum_value(*_KIND, "unspecified")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T01:00", 3600),
        ("1970-01-01T01:00+01:00", 0),
        ("1970-01-01T00:00:01Z", 1),
    ],
)
def test_a_time_is_of_utc_unless_it_says(text: str, seconds: int) -> None:
    found = calling.instant(text)
    assert found is not None
    assert found.seconds == seconds
    assert calling.when(found).startswith("1970-01-01 0")


def test_what_is_no_time_is_refused() -> None:
    assert calling.instant("") is None
    for text in ("tomorrow", "2026-13-01", "12:00"):
        with pytest.raises(ValueError, match="is no time"):
            calling.instant(text)


def test_a_list_is_a_table_or_one_object_after_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = [wire.SavedSearch(name="one"), wire.SavedSearch(name="two")]
    columns = ("name", "id")

    def row(search: Any) -> tuple[str, ...]:
        return search.name, search.saved_search_id

    for json_too in (False, True):
        calling.show_all([], "Searches", columns, row, json=json_too)
    assert capsys.readouterr().out == "Searches: there are none that match.\n"
    calling.show_all(found, "Searches", columns, row, json=False)
    assert "one" in capsys.readouterr().out
    calling.show_all(found, "Searches", columns, row, json=True)
    printed = "[" + capsys.readouterr().out.replace("}\n{", "},{") + "]"
    assert [each["name"] for each in json.loads(printed)] == ["one", "two"]


class Pages(CoreClient):
    """Answers with pages of numbers, of at most two."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[tuple[int, str]] = []

    async def ask(self, method: str, request: Any, response: Any) -> Any:
        self.asked.append((request.page.page_size, request.page.page_token))
        first = int(request.page.page_token or 0)
        last = min(first + min(2, request.page.page_size), self.count)
        searches = [wire.SavedSearch(name=str(number)) for number in range(first, last)]
        token = str(last) if last < self.count else ""
        return response(saved_searches=searches, page=PageInfo(next_page_token=token))


@pytest.mark.parametrize(("count", "limit", "calls"), [(0, 5, 1), (5, 9, 3), (5, 3, 2), (2, 2, 1)])
async def test_pages_are_read_until_there_is_enough(count: int, limit: int, calls: int) -> None:
    market = Pages(count)
    request, response = wire.ListSavedSearchesRequest(), wire.ListSavedSearchesResponse
    found = await calling.pages(market, "m", request, response, "saved_searches", limit)
    assert [each.name for each in found] == [str(n) for n in range(min(count, limit))]
    assert len(market.asked) == calls


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("[bold]wrong[/]"), 2, "[bold]wrong[/]"),
        (KeyError("who"), 2, "who"),
        (FileNotFoundError(2, "No such file", "key.pem"), 2, "key.pem"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["value", "key", "file", "interrupt"],
)
def test_a_command_that_fails_ends_with_its_reason(
    error: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(typer.Exit) as ended:
        calling.run_async(work())
    assert ended.value.exit_code == status
    assert text in capsys.readouterr().err


class Terminal:
    """Standard input that is a terminal or is not."""

    def __init__(self, text: str, *, interactive: bool) -> None:
        self._lines = iter(text.splitlines(keepends=True))
        self._interactive = interactive

    def isatty(self) -> bool:
        return self._interactive

    def readline(self) -> str:
        return next(self._lines, "")


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [("one\ntwo\n", "one", "two"), ("one\r\n", "one", ""), (" one \ntwo", " one ", "two")],
)
def test_secrets_are_lines_of_an_input_that_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, text: str, first: str, second: str
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(text, interactive=False))
    assert calling.secret("Link") == first
    assert calling.secret("Password") == second


def test_a_terminal_is_asked_without_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def prompt(text: str, *, hide_input: bool) -> str:
        asked.append((text, hide_input))
        return "typed"

    monkeypatch.setattr("sys.stdin", Terminal("", interactive=True))
    monkeypatch.setattr("typer.prompt", prompt)
    assert calling.secret("Password") == "typed"
    assert asked == [("Password", True)]


def test_a_bar_goes_where_it_spoils_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    with calling.bytes_progress() as bar:
        bar.advance(bar.add_task("file", total=10), 10)
    assert capsys.readouterr().out == ""
