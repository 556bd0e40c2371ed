"""Login, logout, links and passwords over a real database (use cases 1618, 1619)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.session import FIRST_LOCK, FREE_FAILURES, SESSIONS_MAX
from tests.control_plane import BUSINESS as BUSINESS_CALLER
from tests.control_plane import ControlPlane
from tests.interceptors.support import raises
from tests.session_plane import (
    ADMINISTRATOR,
    BUSINESS,
    LIMITS,
    OTHER_PASSWORD,
    PASSWORD,
    VIEWER,
    SessionPlane,
)

LOGIN_FAILED = raises(ErrorReason.ERROR_REASON_LOGIN_FAILED)
LOCKED = raises(ErrorReason.ERROR_REASON_LOGIN_LOCKED)
NO_SESSION = raises(ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED)
NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
REUSED = raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)
NOT_ACTIVE = raises(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE)


@pytest.fixture
async def people(plane: ControlPlane) -> SessionPlane:
    """Give the service with one active partner, acme."""
    await plane.partner("acme")
    return SessionPlane(plane)


async def fail(people: SessionPlane, count: int, user_name: str = "ada") -> None:
    for _ in range(count):
        with pytest.raises(MarketError, check=LOGIN_FAILED):
            await people.login("acme", user_name, "not the password")


@pytest.mark.usecase(1618)
@pytest.mark.parametrize(
    ("partner_id", "user_name", "password"),
    [
        ("acme", "ada", OTHER_PASSWORD),
        ("acme", "nobody", PASSWORD),
        ("nobody", "ada", PASSWORD),
        ("", "ada", PASSWORD),
        ("acme", "invited", PASSWORD),
        ("acme", "disabled", PASSWORD),
    ],
)
async def test_every_failed_login_says_the_same_and_costs_one_comparison(
    people: SessionPlane, partner_id: str, user_name: str, password: str
) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    await people.created("acme", "invited", VIEWER, token=token)
    await people.user("acme", "disabled", VIEWER, token=token)
    await people.ask("DisableUser", token, user_name="disabled")
    people.hashing.compared = 0
    with pytest.raises(MarketError, check=LOGIN_FAILED) as caught:
        await people.login(partner_id, user_name, password)
    assert people.hashing.compared == 1
    assert caught.value.metadata == {}
    assert caught.value.details == ()


@pytest.mark.usecase(1618)
@pytest.mark.parametrize("user_name", ["ada", "nobody"])
async def test_a_name_is_locked_after_failures_whether_or_not_somebody_has_it(
    people: SessionPlane, user_name: str
) -> None:
    await people.user("acme", "ada", ADMINISTRATOR)
    await fail(people, FREE_FAILURES, user_name)
    people.hashing.compared = 0
    with pytest.raises(MarketError, check=LOCKED) as caught:
        await people.login("acme", user_name)
    assert people.hashing.compared == 0, "what is locked is not even looked at"
    assert caught.value.retry_after_s == FIRST_LOCK.total_seconds()


@pytest.mark.usecase(1618)
async def test_after_the_wait_the_right_password_opens_and_clears_the_count(
    people: SessionPlane,
) -> None:
    await people.user("acme", "ada", ADMINISTRATOR)
    await fail(people, FREE_FAILURES)
    people.later(seconds=FIRST_LOCK.total_seconds())
    assert await people.login("acme", "ada")
    await fail(people, FREE_FAILURES - 1)
    assert await people.login("acme", "ada")


@pytest.mark.usecase(1618)
async def test_logins_at_the_same_time_get_no_more_tries_than_one_by_one(
    people: SessionPlane,
) -> None:
    await people.user("acme", "ada", ADMINISTRATOR)
    outcomes = await asyncio.gather(
        *(people.login("acme", "ada", "not the password") for _ in range(20)),
        return_exceptions=True,
    )
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, MarketError)]
    assert len(reasons) == 20
    assert reasons.count(ErrorReason.ERROR_REASON_LOGIN_FAILED) == FREE_FAILURES


async def test_attempts_of_long_ago_are_cleared_away(people: SessionPlane) -> None:
    await fail(people, 1, "somebody")
    people.later(hours=25)
    await fail(people, 1, "another")
    assert len(await people.rows("SELECT 1 FROM marketplace.login_attempt")) == 1


@pytest.mark.usecase(1618)
async def test_users_of_a_partner_that_is_not_active_have_no_access(
    people: SessionPlane,
) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    method = "PartnerService/InactivatePartner"
    await people.plane.ask(BUSINESS_CALLER, method, partner_id="acme")
    with pytest.raises(MarketError, check=NOT_ACTIVE):
        await people.ask("WhoAmI", token)
    with pytest.raises(MarketError, check=NOT_ACTIVE):
        await people.login("acme", "ada")
    with pytest.raises(MarketError, check=LOGIN_FAILED):
        await people.login("acme", "ada", OTHER_PASSWORD)


@pytest.mark.usecase(1618)
async def test_neither_passwords_nor_tokens_nor_links_are_stored(people: SessionPlane) -> None:
    secret = await people.created("acme", "ada", ADMINISTRATOR)
    await people.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)
    token = await people.login("acme", "ada")
    stored = []
    for table in ("user_account", "user_event", "one_time_link", "session", "command"):
        stored += await people.rows(f"SELECT row_to_json(t)::text FROM marketplace.{table} t")
    dump = "\n".join(row[0] for row in stored)
    assert "ada" in dump
    for kept_secret in (PASSWORD, token, secret):
        assert kept_secret not in dump
        assert kept_secret.encode().hex() not in dump


async def test_a_repeated_login_gives_the_one_session_a_new_token(people: SessionPlane) -> None:
    await people.user("acme", "ada", ADMINISTRATOR)
    first, second = [await people.login("acme", "ada", request_id="again") for _ in range(2)]
    with pytest.raises(MarketError, check=NO_SESSION):
        await people.ask("WhoAmI", first)
    await people.ask("Logout", second)
    with pytest.raises(MarketError, check=REUSED):
        await people.login("acme", "ada", request_id="again")


async def test_a_user_has_so_many_sessions_and_no_more(people: SessionPlane) -> None:
    tokens = [await people.user("acme", "ada", ADMINISTRATOR)]
    for _ in range(SESSIONS_MAX):
        people.later(seconds=1)
        tokens.append(await people.login("acme", "ada"))
    with pytest.raises(MarketError, check=NO_SESSION):
        await people.ask("WhoAmI", tokens[0])
    for token in tokens[1:]:
        await people.ask("WhoAmI", token)


@pytest.mark.usecase(1619)
async def test_a_session_ends_when_it_is_idle_for_too_long(people: SessionPlane) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    for _ in range(3):
        people.later(minutes=29)
        await people.ask("WhoAmI", token)
    people.now += LIMITS.idle
    with pytest.raises(MarketError, check=NO_SESSION):
        await people.ask("WhoAmI", token)


@pytest.mark.usecase(1619)
async def test_a_session_ends_in_the_end_however_much_it_is_used(people: SessionPlane) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    until = people.now + LIMITS.longest
    while people.now + timedelta(minutes=25) < until:
        people.later(minutes=25)
        await people.ask("WhoAmI", token)
    people.now = until
    with pytest.raises(MarketError, check=NO_SESSION):
        await people.ask("WhoAmI", token)


@pytest.mark.usecase(1619)
async def test_logout_ends_this_session_or_all_of_the_user_and_nobody_elses(
    people: SessionPlane,
) -> None:
    first = await people.user("acme", "ada", ADMINISTRATOR)
    second = await people.login("acme", "ada")
    other = await people.user("acme", "bob", VIEWER, token=first)
    assert (await people.ask("Logout", first)).ended_session_count == 1
    await people.ask("WhoAmI", second)
    assert (await people.ask("Logout", second, all_sessions=True)).ended_session_count == 1
    for token in (first, second):
        with pytest.raises(MarketError, check=NO_SESSION):
            await people.ask("WhoAmI", token)
    assert (await people.ask("WhoAmI", other)).user.user_name == "bob"


async def test_refused_sessions_are_named_for_those_whose_calls_are_in_flight(
    people: SessionPlane,
) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    session_id = (await people.ask("WhoAmI", token)).session.session_id
    assert await people.sessions.refused([session_id]) == {}
    await people.ask("Logout", token)
    refused = await people.sessions.refused([session_id, "of-nobody"])
    assert refused.keys() == {session_id, "of-nobody"}


@pytest.mark.parametrize("password", ["short", "password2024!", "my ada.byron pass"])
async def test_a_password_that_breaks_the_policy_leaves_the_link_good(
    people: SessionPlane, password: str
) -> None:
    secret = await people.created("acme", "ada.byron", ADMINISTRATOR)
    with pytest.raises(MarketError, check=INVALID):
        await people.ask("RedeemOneTimeLink", secret=secret, password=password)
    await people.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)


async def test_a_link_is_good_once_and_for_three_days_and_until_the_next(
    people: SessionPlane,
) -> None:
    async def redeem(secret: str) -> Any:
        return await people.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)

    used = await people.created("acme", "ada", ADMINISTRATOR)
    await redeem(used)
    for secret in (used, "no link at all"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await redeem(secret)
    renewals = [
        await people.operate("CreateOneTimeLink", partner_id="acme", user_name="ada")
        for _ in range(2)
    ]
    replaced, last = [renewal.one_time_link.secret for renewal in renewals]
    with pytest.raises(MarketError, check=NOT_FOUND):
        await redeem(replaced)
    people.later(days=3)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await redeem(last)


async def test_of_two_who_use_a_link_at_the_same_time_one_wins(people: SessionPlane) -> None:
    secret = await people.created("acme", "ada", ADMINISTRATOR)
    passwords = [PASSWORD, OTHER_PASSWORD]
    outcomes = await asyncio.gather(
        *(people.ask("RedeemOneTimeLink", secret=secret, password=each) for each in passwords),
        return_exceptions=True,
    )
    assert [isinstance(outcome, MarketError) for outcome in outcomes].count(True) == 1
    won = passwords[[isinstance(outcome, MarketError) for outcome in outcomes].index(False)]
    assert await people.login("acme", "ada", won)


async def test_a_new_password_by_link_ends_the_sessions_of_the_one_before(
    people: SessionPlane,
) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    renewed = await people.operate("CreateOneTimeLink", partner_id="acme", user_name="ada")
    await people.ask("WhoAmI", token)
    secret = renewed.one_time_link.secret
    await people.ask("RedeemOneTimeLink", secret=secret, password=OTHER_PASSWORD)
    with pytest.raises(MarketError, check=NO_SESSION):
        await people.ask("WhoAmI", token)
    await fail(people, 1)
    assert await people.login("acme", "ada", OTHER_PASSWORD)


async def test_a_password_is_changed_by_who_knows_it_and_other_sessions_end(
    people: SessionPlane,
) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    other = await people.login("acme", "ada")
    with pytest.raises(MarketError, check=LOGIN_FAILED):
        await people.ask(
            "ChangePassword", token, current_password="a guess", new_password=OTHER_PASSWORD
        )
    with pytest.raises(MarketError, check=INVALID):
        await people.ask("ChangePassword", token, current_password=PASSWORD, new_password="short")
    changed = await people.ask(
        "ChangePassword", token, current_password=PASSWORD, new_password=OTHER_PASSWORD
    )
    assert changed.ended_session_count == 1
    with pytest.raises(MarketError, check=NO_SESSION):
        await people.ask("WhoAmI", other)
    assert (await people.ask("WhoAmI", token)).user.user_name == "ada"
    await fail(people, 1)
    assert await people.login("acme", "ada", OTHER_PASSWORD)


async def test_guessing_the_current_password_in_a_session_locks_the_name(
    people: SessionPlane,
) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    guess = {"current_password": "a guess", "new_password": OTHER_PASSWORD}
    for _ in range(FREE_FAILURES):
        with pytest.raises(MarketError, check=LOGIN_FAILED):
            await people.ask("ChangePassword", token, **guess)
    with pytest.raises(MarketError, check=LOCKED):
        await people.ask("ChangePassword", token, **guess)


@pytest.mark.usecase(1618)
async def test_who_am_i_tells_partner_user_roles_and_the_end_of_the_session(
    people: SessionPlane,
) -> None:
    token = await people.user("", "olga", BUSINESS)
    known = await people.ask("WhoAmI", token)
    assert (known.subject_id, known.user.partner_id) == ("olga", "")
    lasts = known.session.expire_time.ToDatetime() - known.session.create_time.ToDatetime()
    assert lasts == LIMITS.longest
    by_certificate = await people.operate("WhoAmI")
    assert by_certificate.subject_id == "business"
    assert not by_certificate.HasField("user")
    assert not by_certificate.HasField("session")
