"""Every option that makes no sense is named in its refusal, before the market is asked anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gemarket.fake_market import FakeMarket

_TIME = "is no time of ISO 8601, such as 2026-02-01T08:00"
_REGISTER = "services register T a.B h:1 --description D --accept-contract 1"
_REQUEST = "requests create --title T --text X --category c"

#: Command, and what its refusal says.
_REFUSED = [
    ("users create ada --name A --roles buyer,owner", "no 'owner'; there are: administrator,"),
    ("users roles ada boss", "no 'boss'; there are: administrator, buyer, seller, viewer,"),
    ("notifications list --kind wonder", "no 'wonder'; there are: contract-created,"),
    ("notifications preferences wonder --email", "no 'wonder'; there are: contract-created,"),
    ("interfaces label a.B 1 newest", "no 'newest'; there are: current, deprecated"),
    ("interfaces label a.B 1 deprecated --from soon", f"'soon' {_TIME}"),
    ("interfaces proposals --state open", "no 'open'; there are: proposed, invalid, in-review,"),
    ("interfaces vote p maybe", "no 'maybe'; there are: for, against"),
    ("interfaces review p perhaps --reason R", "no decision 'perhaps'; there are: accept, reject"),
    ("interfaces propose absent", "No such file or directory: 'absent'"),
    ("requests list --owner me", "no owner 'me'; there are: own, others"),
    ("requests list --state gone", "no 'gone'; there are: open, closed, expired, deleted"),
    (f"{_REQUEST} --until 2026-02-30", f"'2026-02-30' {_TIME}"),
    (f"{_REQUEST} --until 2026-02-01 --from 24:00", f"'24:00' {_TIME}"),
    ("requests respond r --text T --planned never", f"'never' {_TIME}"),
    ("partners list --state gone", "no partner state 'gone'; there are: registered, active,"),
    ("partners list --role boss", "no partner role 'boss'; there are:"),
    ("partners list --order size", "no order 'size'; there are: id, company, latest"),
    ("partners list --activity none", "no activity 'none'; there are: provider, requester"),
    ("partners list --since x", f"'x' {_TIME}"),
    ("partners requests --state gone", "no partner registration state 'gone'; there are:"),
    ("partners change-requests --state gone", "no partner change state 'gone'; there are:"),
    ("partners publish-contract 2 T absent", "No such file or directory: 'absent'"),
    ("contracts search --role buyer", "no role 'buyer'; there are: requester, provider"),
    ("contracts search --state gone", "no state 'gone'; there are:"),
    ("contracts search --valid-at x", f"'x' {_TIME}"),
    ("contracts accept o --start x", f"'x' {_TIME}"),
    ("contracts terminate c --reason R --at x", f"'x' {_TIME}"),
    ("contracts change c --reason R", "give one of --terms, --until and --offering"),
    ("contracts change c --reason R --until 2027-01-01 --offering o", "give one of --terms"),
    ("contracts change c --reason R --terms absent", "No such file or directory: 'absent'"),
    ("services search --state gone", "no state 'gone'; there are: registered, published,"),
    ("services search --relation mine", "no relation 'mine'; there are: offered, contracted,"),
    (f"{_REGISTER} --hosting DE", "hosting is written COUNTRY/REGION/OPERATOR"),
    (f"{_REGISTER} --offering absent", "No such file or directory: 'absent'"),
    ("services register T a.B@x h:1 --description D --accept-contract 1", "NAME or NAME@VERSION"),
    ("service-files upload s here.txt --kind image", "no kind 'image'; there are: manual,"),
    ("explain-route a.B/C --at x", f"'x' {_TIME}"),
    ("log heads f --from x", "'x' is no day such as 2026-02-01"),
    ("log verify --own --to 2026-02-30", "'2026-02-30' is no day such as 2026-02-01"),
    ("log verify --own --heads absent", "No such file or directory: 'absent'"),
]


@pytest.mark.parametrize(("command", "reason"), _REFUSED, ids=[row[0] for row in _REFUSED])
def test_the_refusal_names_what_is_wrong_and_what_there_is(
    market: FakeMarket, command: str, reason: str
) -> None:
    Path("here.txt").write_text("x")
    result = market.run(*command.split())
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.startswith("gemarket")
    assert result.stdout == ""
    assert market.calls == []


@pytest.mark.parametrize(
    "command",
    [
        "users list --as [red]nobody[/]",
        "partners list --as [red]nobody[/]",
        "contracts search --as [red]nobody[/]",
        "services search --as [red]nobody[/]",
        "transactions list --as [red]nobody[/]",
        "conformance list s --as [red]nobody[/]",
        "explain-route a.B/C --as [red]nobody[/]",
        "log heads f --as [red]nobody[/]",
        "call a.B/C --as [red]nobody[/]",
    ],
)
def test_a_party_that_is_not_here_is_named_letter_by_letter(
    market: FakeMarket, command: str
) -> None:
    result = market.run(*command.split())
    assert result.exit_code == 2
    known = "known are: ampere, business, technical, volt"
    assert f"'[red]nobody[/]' is not known here; {known}" in result.stderr
    assert market.calls == []


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("users list --limit 0", "--limit"),
        ("users list --limit 10001", "--limit"),
        ("contracts search --ends-within -1", "--ends-within"),
        ("services search --limit many", "--limit"),
        ("services register T a.B h:1", "--description"),
        ("services version s 2.0 --interface-version -1", "--interface-version"),
        ("partners accept-contract 0 --as volt", "version"),
        ("partners change", "--as"),
        ("partners person --as volt --name A", "--email"),
        ("requests create --title T --text X", "--until"),
        ("interfaces review p accept", "--reason"),
        ("notifications watch --count -1", "--count"),
        ("service-files upload s absent.txt", "FILE"),
        ("conformance revoke s", "--reason"),
        ("users list --colour", "--colour"),
    ],
)
def test_the_form_of_options_is_checked_by_their_names(
    market: FakeMarket, command: str, option: str
) -> None:
    result = market.run(*command.split())
    assert result.exit_code == 2
    assert option in result.stderr
    assert "Usage: " in result.stderr
    assert market.calls == []


@pytest.mark.parametrize(
    "command",
    [f"{_REGISTER} --offering latin", "contracts change c --reason R --terms latin"],
    ids=["offering", "terms"],
)
def test_a_file_that_is_no_text_is_refused_with_the_reason(
    market: FakeMarket, command: str
) -> None:
    Path("latin").write_bytes(b'{"title": "M\xfcnchen"}')
    result = market.run(*command.split())
    assert result.exit_code == 2
    assert "'utf-8' codec can't decode byte 0xfc" in result.stderr
    Path("latin").write_text('{"a[red]b": 1}')
    result = market.run(*command.split())
    assert result.exit_code == 2
    assert 'no field named "a[red]b"' in result.stderr
    assert market.calls == []
