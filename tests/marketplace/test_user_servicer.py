"""Who administers whose users, over a real database (use case 1618: roles and access rights)."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1.user_pb2 import UserState
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import ControlPlane
from tests.interceptors.support import raises
from tests.session_plane import (
    ADMINISTRATOR,
    BUSINESS,
    BUYER,
    PASSWORD,
    SELLER,
    TECHNICAL,
    VIEWER,
    SessionPlane,
)

FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
TAKEN = raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)
NO_SESSION = raises(ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED)
LOGIN_FAILED = raises(ErrorReason.ERROR_REASON_LOGIN_FAILED)


@pytest.fixture
async def people(plane: ControlPlane) -> SessionPlane:
    """Give the service with two active partners, acme and volt."""
    await plane.partner("acme")
    await plane.partner("volt")
    return SessionPlane(plane)


@pytest.mark.parametrize("role", [BUYER, SELLER, VIEWER])
async def test_only_an_administrator_administers(people: SessionPlane, role: int) -> None:
    administrator = await people.user("acme", "ada", ADMINISTRATOR)
    token = await people.user("acme", "bob", role, token=administrator)
    commands: dict[str, dict[str, Any]] = {
        "CreateUser": {"user_name": "eve", "full_name": "Eve", "roles": [VIEWER]},
        "CreateOneTimeLink": {"user_name": "ada"},
        "SetUserRoles": {"user_name": "bob", "roles": [ADMINISTRATOR]},
        "DisableUser": {"user_name": "ada"},
        "EnableUser": {"user_name": "ada"},
        "ListUsers": {},
    }
    for method, fields in commands.items():
        with pytest.raises(MarketError, check=FORBIDDEN):
            await people.ask(method, token, **fields)


async def test_an_administrator_neither_sees_nor_changes_users_of_another_partner(
    people: SessionPlane,
) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    await people.user("volt", "victor", ADMINISTRATOR)
    of_volt = {"partner_id": "volt", "user_name": "victor"}
    commands: dict[str, dict[str, Any]] = {
        "CreateUser": {**of_volt, "full_name": "Eve", "roles": [VIEWER]},
        "CreateOneTimeLink": of_volt,
        "SetUserRoles": {**of_volt, "roles": [VIEWER]},
        "DisableUser": of_volt,
        "EnableUser": of_volt,
        "ListUsers": {"partner_id": "volt"},
    }
    for method, fields in commands.items():
        with pytest.raises(MarketError, check=NOT_FOUND):
            await people.ask(method, token, **fields)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await people.ask("DisableUser", token, user_name="victor")
    listed = await people.ask("ListUsers", token)
    assert [user.user_name for user in listed.users] == ["ada"]


async def test_the_operator_creates_a_partners_first_administrator_and_no_other_user(
    people: SessionPlane,
) -> None:
    with pytest.raises(MarketError, check=FORBIDDEN):
        await people.created("acme", "bob", BUYER)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await people.created("nobody", "ada", ADMINISTRATOR)
    token = await people.user("acme", "ada", ADMINISTRATOR)
    with pytest.raises(MarketError, check=NOT_NOW):
        await people.created("acme", "eve", ADMINISTRATOR)
    await people.user("acme", "bob", BUYER, token=token)
    of_bob: dict[str, Any] = {"partner_id": "acme", "user_name": "bob"}
    for method, fields in {
        "CreateOneTimeLink": of_bob,
        "SetUserRoles": {**of_bob, "roles": [VIEWER]},
        "DisableUser": of_bob,
    }.items():
        with pytest.raises(MarketError, check=FORBIDDEN):
            await people.operate(method, **fields)


@pytest.mark.parametrize(
    ("partner_id", "role"),
    [("acme", BUSINESS), ("acme", TECHNICAL), ("", ADMINISTRATOR), ("", VIEWER)],
)
async def test_operators_have_their_roles_and_partners_users_theirs(
    people: SessionPlane, partner_id: str, role: int
) -> None:
    with pytest.raises(MarketError, check=INVALID):
        await people.created(partner_id, "ada", role)
    assert await people.rows("SELECT 1 FROM marketplace.user_account") == []


async def test_a_partners_administrator_cannot_make_an_operator(people: SessionPlane) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    with pytest.raises(MarketError, check=INVALID):
        await people.created("", "eve", BUSINESS, token=token)
    with pytest.raises(MarketError, check=INVALID):
        await people.ask("SetUserRoles", token, user_name="ada", roles=[ADMINISTRATOR, TECHNICAL])


@pytest.mark.parametrize("user_name", ["", "Ada", "a b", "a:b", "-ada", "a" * 65])
async def test_a_name_of_another_form_is_refused(people: SessionPlane, user_name: str) -> None:
    with pytest.raises(MarketError, check=INVALID):
        await people.created("acme", user_name, ADMINISTRATOR)


async def test_a_name_is_one_users_within_a_partner(people: SessionPlane) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    with pytest.raises(MarketError, check=TAKEN):
        await people.created("acme", "ada", VIEWER, token=token)
    other = await people.user("volt", "ada", ADMINISTRATOR)
    assert (await people.ask("WhoAmI", other)).subject_id == "volt"


async def test_a_repeated_creation_gives_the_same_user_and_no_second_secret(
    people: SessionPlane,
) -> None:
    fields = {"partner_id": "acme", "user_name": "ada", "full_name": "Ada", "request_id": "one"}
    first, again = [
        await people.operate("CreateUser", roles=[ADMINISTRATOR], **fields) for _ in range(2)
    ]
    assert first.one_time_link.secret
    assert again.one_time_link.secret == ""
    assert again.user == first.user
    await people.ask("RedeemOneTimeLink", secret=first.one_time_link.secret, password=PASSWORD)


async def test_roles_count_from_the_next_call_on(people: SessionPlane) -> None:
    administrator = await people.user("acme", "ada", ADMINISTRATOR)
    token = await people.user("acme", "bob", VIEWER, token=administrator)
    changed = {"user_name": "bob", "roles": [ADMINISTRATOR]}
    await people.ask("SetUserRoles", administrator, **changed)
    assert len((await people.ask("ListUsers", token)).users) == 2
    await people.ask("SetUserRoles", token, user_name="ada", roles=[VIEWER])
    with pytest.raises(MarketError, check=FORBIDDEN):
        await people.ask("ListUsers", administrator)


async def test_the_last_administrator_stays(people: SessionPlane) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    await people.user("acme", "bob", BUYER, token=token)
    with pytest.raises(MarketError, check=NOT_NOW):
        await people.ask("DisableUser", token, user_name="ada")
    with pytest.raises(MarketError, check=NOT_NOW):
        await people.ask("SetUserRoles", token, user_name="ada", roles=[BUYER])


async def test_a_disabled_user_is_out_at_once_and_comes_back_with_a_new_password(
    people: SessionPlane,
) -> None:
    administrator = await people.user("acme", "ada", ADMINISTRATOR)
    token = await people.user("acme", "bob", VIEWER, token=administrator)
    disabled = await people.ask("DisableUser", administrator, user_name="bob")
    assert disabled.user.state == UserState.USER_STATE_DISABLED
    with pytest.raises(MarketError, check=NO_SESSION):
        await people.ask("WhoAmI", token)
    for method in ("DisableUser", "CreateOneTimeLink"):
        with pytest.raises(MarketError, check=NOT_NOW):
            await people.ask(method, administrator, user_name="bob")
    enabled = await people.ask("EnableUser", administrator, user_name="bob")
    assert enabled.user.state == UserState.USER_STATE_INVITED
    with pytest.raises(MarketError, check=LOGIN_FAILED):
        await people.login("acme", "bob")
    link = await people.ask("CreateOneTimeLink", administrator, user_name="bob")
    secret = link.one_time_link.secret
    await people.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)
    assert await people.login("acme", "bob")


async def test_a_link_of_a_user_who_was_disabled_is_not_good(people: SessionPlane) -> None:
    administrator = await people.user("acme", "ada", ADMINISTRATOR)
    secret = await people.created("acme", "bob", VIEWER, token=administrator)
    await people.ask("DisableUser", administrator, user_name="bob")
    await people.ask("EnableUser", administrator, user_name="bob")
    with pytest.raises(MarketError, check=NOT_FOUND):
        await people.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)


async def test_the_history_says_who_did_what(people: SessionPlane) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    await people.user("acme", "bob", VIEWER, token=token)
    await people.ask("DisableUser", token, user_name="bob")
    rows = await people.rows(
        "SELECT user_name, kind, e.state, actor FROM marketplace.user_event e"
        " JOIN marketplace.user_account USING (user_id) ORDER BY position"
    )
    assert [tuple(row) for row in rows] == [
        ("ada", "CREATED", "INVITED", "operator/business"),
        ("ada", "PASSWORD_SET", "ACTIVE", "acme:ada"),
        ("bob", "CREATED", "INVITED", "acme:ada"),
        ("bob", "PASSWORD_SET", "ACTIVE", "acme:bob"),
        ("bob", "DISABLED", "DISABLED", "acme:ada"),
    ]


async def test_users_are_listed_by_name_and_page(people: SessionPlane) -> None:
    token = await people.user("acme", "ada", ADMINISTRATOR)
    for name in ("dora", "bob", "carl"):
        await people.created("acme", name, VIEWER, token=token)
    first = await people.ask("ListUsers", token, page={"page_size": 3})
    assert [user.user_name for user in first.users] == ["ada", "bob", "carl"]
    rest = {"page_size": 3, "page_token": first.page.next_page_token}
    second = await people.operate("ListUsers", partner_id="acme", page=rest)
    assert [user.user_name for user in second.users] == ["dora"]
