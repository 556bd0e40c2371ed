"""`gemarket login`, `logout` and `whoami`: where the token goes, and who calls with it."""

from __future__ import annotations

import stat

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1 import session_service_pb2 as wire
from gem.marketplace.v1 import user_pb2
from gem.mesh.v1 import error_reason_pb2
from gem.options.v1.options_pb2 import AccessRole
from gemarket.layout import Layout
from tests.gemarket.fake_market import FakeMarket

_REFUSED = MarketError(error_reason_pb2.ERROR_REASON_LOGIN_FAILED, "The login is refused.")
_ME = wire.WhoAmIResponse(
    subject_id="volt",
    user=user_pb2.User(user_name="ada"),
    access_roles=[AccessRole.ACCESS_ROLE_PARTNER],
)


def logged_in(market: FakeMarket) -> None:
    """Open a session with the token `t-1`."""
    session = wire.Session()
    session.expire_time.FromJsonString("2030-01-02T03:04:05Z")
    market.on("Login", wire.LoginResponse(session_token="t-1", session=session))
    said = market.good("login", "ada", "--partner", "volt", stdin="pass word \n")
    assert said == "ada is logged in until 2030-01-02 03:04:05 UTC\n"


def test_a_refused_login_leaves_no_token_and_keeps_the_older_one(market: FakeMarket) -> None:
    file = market.folder / "session.token"
    market.on("Login", _REFUSED)
    result = market.run("login", "ada", stdin="wrong\n")
    assert result.exit_code == 1
    assert "The login is refused." in result.stderr
    assert not file.exists()
    logged_in(market)
    market.on("Login", _REFUSED)
    assert market.run("login", "ada", stdin="wrong\n").exit_code == 1
    assert file.read_text() == "t-1"


def test_the_password_goes_to_the_market_and_nowhere_else(market: FakeMarket) -> None:
    logged_in(market)
    (request,) = market.asked("Login", wire.LoginRequest)
    assert (request.partner_id, request.user_name, request.password) == (
        "volt",
        "ada",
        "pass word ",
    )
    assert request.request_id
    (call,) = market.calls
    assert call.certificate_pem == b"", "people come without a certificate"
    kept = [file for file in market.folder.rglob("*") if file.is_file()]
    assert not [file for file in kept if b"pass word" in file.read_bytes()]


def test_the_token_is_readable_by_its_owner_only_after_each_login(market: FakeMarket) -> None:
    file = market.folder / "session.token"
    file.write_text("older")
    file.chmod(0o666)
    logged_in(market)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(market.folder.glob("session.token*")) == [file], "nothing half written is left"


def test_later_commands_carry_the_token_and_no_certificate(market: FakeMarket) -> None:
    logged_in(market)
    market.on("WhoAmI", _ME)
    assert market.good("whoami") == "volt (ada): partner\n"
    call = market.calls[-1]
    assert (call.metadata["gem-session"], call.certificate_pem) == ("t-1", b"")


def test_a_party_that_is_named_comes_with_its_certificate_and_without_the_token(
    market: FakeMarket,
) -> None:
    logged_in(market)
    market.on("WhoAmI", wire.WhoAmIResponse(subject_id="ampere"))
    assert market.good("whoami", "--as", "ampere") == "ampere (certificate): \n"
    call = market.calls[-1]
    assert "gem-session" not in call.metadata
    certificate = Layout(market.folder).partner("ampere").certificate_file.read_bytes()
    assert certificate.startswith(call.certificate_pem.strip())


def test_the_token_of_the_environment_is_used_in_place_of_the_file(market: FakeMarket) -> None:
    logged_in(market)
    market.on("WhoAmI", _ME)
    result = market.run("whoami", "--json", GEM_SESSION_TOKEN="t-2")
    assert result.exit_code == 0
    assert '"subject_id": "volt"' in result.stdout
    assert market.calls[-1].metadata["gem-session"] == "t-2"


def test_who_is_not_logged_in_cannot_log_out(market: FakeMarket) -> None:
    result = market.run("logout")
    assert result.exit_code == 2
    assert "nobody is logged in here" in result.stderr
    assert market.calls == []


@pytest.mark.parametrize(("options", "everywhere"), [((), False), (("--all",), True)])
def test_a_logout_ends_the_session_and_drops_its_token(
    market: FakeMarket, options: tuple[str, ...], everywhere: bool
) -> None:
    logged_in(market)
    market.on("Logout", wire.LogoutResponse(ended_session_count=3))
    assert market.good("logout", *options) == "3 sessions ended\n"
    (request,) = market.asked("Logout", wire.LogoutRequest)
    assert request.all_sessions is everywhere
    assert market.calls[-1].metadata["gem-session"] == "t-1"
    assert not (market.folder / "session.token").exists()


def test_a_session_that_is_over_already_is_forgotten_too(market: FakeMarket) -> None:
    logged_in(market)
    reason = error_reason_pb2.ERROR_REASON_SESSION_NOT_ACCEPTED
    market.on("Logout", MarketError(reason, "The session is over."))
    result = market.run("logout")
    assert result.exit_code == 1
    assert "reason SESSION_NOT_ACCEPTED" in result.stderr
    assert not (market.folder / "session.token").exists()
