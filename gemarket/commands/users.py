"""`gemarket users`: the people of a partner, and operators (use case 1618)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gem.marketplace.v1 import session_service_pb2 as wire
from gem.marketplace.v1 import user_pb2
from gemarket.administration import new_request_id
from gemarket.commands.calling import (
    Json,
    Limit,
    enum_name,
    enum_value,
    pages,
    run,
    run_async,
    secret,
    show,
    show_all,
    told,
    when,
)
from gemarket.core_client import CoreClient, people_channel
from gemarket.endpoints import read_endpoints
from gemarket.options import As, DataDir, layout_of

application = typer.Typer(help="People and what they may do.", no_args_is_help=True)
_SERVICE = "SessionService"
_ROLE = (user_pb2.UserRole, "USER_ROLE")

User = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]
Partner = Annotated[
    str, typer.Option(help="Whose user; else the caller's, or for operators an operator.")
]
Roles = Annotated[
    str,
    typer.Option(help="administrator, buyer, seller, viewer; business-operator and so on."),
]


@application.command("list")
def list_users(
    *,
    partner: Partner = "",
    limit: Limit = 100,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List users by name."""

    async def work(market: CoreClient) -> None:
        request = wire.ListUsersRequest(partner_id=partner)
        method, response = f"{_SERVICE}/ListUsers", wire.ListUsersResponse
        found = await pages(market, method, request, response, "users", limit)
        show_all(found, "Users", ("user", "name", "roles", "state"), _row, json=json)

    run(work, caller, data_dir)


@application.command("create")
def create(
    user: User,
    *,
    name: Annotated[str, typer.Option(help="Name as the person writes it.")],
    roles: Roles,
    partner: Partner = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Create a user; prints the one-time link with which it sets its first password."""
    request_class, response = wire.CreateUserRequest, wire.CreateUserResponse
    fields = {"full_name": name, "roles": roles}
    _step("CreateUser", request_class, response, (partner, user), caller, json, data_dir, fields)


@application.command("link")
def link(
    user: User,
    *,
    partner: Partner = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Make a new one-time link for a user."""
    request_class, response = wire.CreateOneTimeLinkRequest, wire.CreateOneTimeLinkResponse
    name = (partner, user)
    _step("CreateOneTimeLink", request_class, response, name, caller, json, data_dir, {})


@application.command("roles")
def set_roles(
    user: User,
    roles: Annotated[str, typer.Argument(help="All roles, with commas between them.")],
    *,
    partner: Partner = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Replace a user's roles."""
    request_class, response = wire.SetUserRolesRequest, wire.SetUserRolesResponse
    name = (partner, user)
    _step("SetUserRoles", request_class, response, name, caller, json, data_dir, {"roles": roles})


@application.command("disable")
def disable(
    user: User,
    *,
    partner: Partner = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """End that a user may log in, and its sessions."""
    request_class, response = wire.DisableUserRequest, wire.DisableUserResponse
    _step("DisableUser", request_class, response, (partner, user), caller, json, data_dir, {})


@application.command("enable")
def enable(
    user: User,
    *,
    partner: Partner = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Let a disabled user in again, by a new link."""
    request_class, response = wire.EnableUserRequest, wire.EnableUserResponse
    _step("EnableUser", request_class, response, (partner, user), caller, json, data_dir, {})


@application.command("redeem")
def redeem(*, data_dir: DataDir = None) -> None:
    """Set a password with a one-time link; both come from prompts or lines of standard input."""
    layout = layout_of(data_dir)

    async def work() -> None:
        endpoints = read_endpoints(layout.endpoints)
        request = wire.RedeemOneTimeLinkRequest(
            request_id=new_request_id(), secret=secret("Link"), password=secret("New password")
        )
        async with people_channel(endpoints) as channel:
            method, response = f"{_SERVICE}/RedeemOneTimeLink", wire.RedeemOneTimeLinkResponse
            answer = await CoreClient(channel).ask(method, request, response)
        told(f"{answer.user.user_name} has a password now")

    run_async(work())


@application.command("password")
def change_password(*, data_dir: DataDir = None) -> None:
    """Replace the password of who has logged in; its other sessions end."""

    async def work(market: CoreClient) -> None:
        request = wire.ChangePasswordRequest(
            request_id=new_request_id(),
            current_password=secret("Current password"),
            new_password=secret("New password"),
        )
        method = f"{_SERVICE}/ChangePassword"
        answer = await market.ask(method, request, wire.ChangePasswordResponse)
        told(f"changed; {answer.ended_session_count} other sessions ended")

    run(work, "", data_dir)


def _named(request_class: Any, name: tuple[str, str], fields: dict[str, str]) -> Any:
    partner, user = name
    request = request_class(request_id=new_request_id(), partner_id=partner, user_name=user)
    if "full_name" in fields:
        request.full_name = fields["full_name"]
    if "roles" in fields:
        request.roles.extend(enum_value(*_ROLE, role) for role in fields["roles"].split(","))
    return request


def _step(
    method: str,
    request_class: Any,
    response: Any,
    name: tuple[str, str],
    caller: str,
    json: bool,
    data_dir: Any,
    fields: dict[str, str],
) -> None:
    """Call a command on a user; show the user as it is then, or the one-time link it has now."""

    async def work(market: CoreClient) -> None:
        request = _named(request_class, name, fields)
        answer = await market.ask(f"{_SERVICE}/{method}", request, response)
        has_link = "one_time_link" in answer.DESCRIPTOR.fields_by_name
        if json:
            show(answer if has_link else answer.user)
        elif has_link:
            link = answer.one_time_link
            told(f"{answer.user.user_name} sets a password with: {link.secret}")
            told(f"until {when(link.expire_time)} UTC, by `gemarket users redeem`")
        else:
            told("  ".join(_row(answer.user)))

    run(work, caller, data_dir)


def _row(user: Any) -> tuple[str, ...]:
    roles = ", ".join(enum_name(*_ROLE, role) for role in user.roles)
    state = enum_name(user_pb2.UserState, "USER_STATE", user.state)
    return user.user_name, user.full_name, roles, state
