"""`gemarket login`, `logout`, `whoami` and `users` against a running market (1618, 1619)."""

from __future__ import annotations

import json
import stat

import pytest

from gemarket.core_client import TOKEN_VARIABLE, token_file
from tests.end_to_end.people import PASSWORD
from tests.end_to_end.test_command_line_of_partners import answers, known, prints, refused
from tests.end_to_end.test_command_line_on_a_market import run
from tests.end_to_end.whole_market import EVSE_SEARCH, WholeMarket

_ADA = ("users", "create", "ada", "--name", "Ada B.", "--roles", "administrator")


@pytest.fixture(autouse=True)
def nobody_is_logged_in(whole: WholeMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without a session."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    token_file(whole.market.layout).unlink(missing_ok=True)


@pytest.mark.usecase(1618, 1619)
async def test_people_from_the_first_link_to_the_logout(whole: WholeMarket) -> None:
    partner = await whole.requester()
    await known(whole, partner)
    of_partner = ("--partner", partner.partner_id)
    made = await answers(whole, *_ADA, *of_partner, "--as", "business")
    link = made["one_time_link"]["secret"]
    for stdin, reason in (
        (f"wrong\n{PASSWORD}\n", "NOT_FOUND"),
        (f"{link}\nshort\n", "REQUEST_INVALID"),
    ):
        assert reason in await refused(whole, "users", "redeem", stdin=stdin)
    redeemed = await run(whole, "users", "redeem", stdin=f"{link}\n{PASSWORD}\n")
    assert redeemed.exit_code == 0, redeemed.output

    login = ("login", "ada", *of_partner)
    assert "LOGIN_FAILED" in await refused(whole, *login, stdin="wrong\n")
    file = token_file(whole.market.layout)
    assert not file.exists()
    assert (await run(whole, *login, "--password", PASSWORD)).exit_code == 2
    done = await run(whole, *login, stdin=f"{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    assert PASSWORD not in done.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text()
    assert token not in done.output
    who = await prints(whole, "whoami")
    assert f"{partner.partner_id} (ada): administrator" in who
    operator = await prints(whole, "whoami", "--as", "technical")
    assert "technical (certificate): technical-operator" in operator

    bob = ("users", "create", "bob", "--name", "Bob [red]C.[/]", "--roles", "buyer,viewer")
    assert "sets a password with" in await prints(whole, *bob)
    assert "there is no 'king'" in await refused(whole, "users", "roles", "bob", "king", status=2)
    assert "seller" in await prints(whole, "users", "roles", "bob", "seller")
    assert (await answers(whole, "users", "disable", "bob"))["state"] == "USER_STATE_DISABLED"
    assert "STATE_NOT_ALLOWED" in await refused(whole, "users", "link", "bob")
    assert "invited" in await prints(whole, "users", "enable", "bob")
    assert (await answers(whole, "users", "link", "bob"))["one_time_link"]["secret"]
    listed = await prints(whole, "users", "list")
    assert "Bob [red]C.[/]" in listed
    told = await prints(whole, "notifications", "list", "--kind", "user-changed")
    assert "User bob was enabled, by user ada." in told

    assert "1 sessions ended" in await prints(whole, "logout")
    assert not file.exists()
    assert "nobody is logged in" in await refused(whole, "logout", status=2)


@pytest.mark.usecase(1373, 1477, 1619)
async def test_every_group_of_commands_goes_on_in_the_session(whole: WholeMarket) -> None:
    partner = await whole.requester()
    await known(whole, await whole.operator(), partner)
    made = await answers(whole, *_ADA, "--partner", partner.partner_id, "--as", "business")
    link = made["one_time_link"]["secret"]
    for command, stdin in (
        (("users", "redeem"), f"{link}\n{PASSWORD}\n"),
        (("login", "ada", "--partner", partner.partner_id), f"{PASSWORD}\n"),
    ):
        done = await run(whole, *command, stdin=stdin)
        assert done.exit_code == 0, done.output
    own = json.loads(await prints(whole, "partners", "show", partner.partner_id))
    assert own["partner"]["partner_id"] == partner.partner_id
    denied = await refused(whole, "partners", "requests")
    assert "ROLE_NOT_ALLOWED" in denied, "it is not the business operator who asks"
    for command in (("services", "search"), ("contracts", "search"), ("transactions", "list")):
        await prints(whole, *command)
    explained = await prints(whole, "explain-route", f"{EVSE_SEARCH}/SearchEvses")
    assert explained.startswith(f"{partner.partner_id} calls SearchEvses")
    await prints(whole, "logout")


@pytest.mark.usecase(1619)
async def test_a_token_of_the_environment_comes_first_and_one_that_is_over_is_dropped(
    whole: WholeMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known(whole, await whole.requester())
    token_file(whole.market.layout).write_text("token-of-the-file")
    monkeypatch.setenv(TOKEN_VARIABLE, "token-of-the-environment")
    assert "SESSION_NOT_ACCEPTED" in await refused(whole, "whoami")
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert "SESSION_NOT_ACCEPTED" in await refused(whole, "logout")
    assert not token_file(whole.market.layout).exists()
