"""`gemarket login`, `logout` and `whoami`: sessions of people (use cases 1618, 1619)."""

from __future__ import annotations

from typing import Annotated

import typer

from gem.marketplace.v1 import session_service_pb2 as wire
from gem.options.v1.options_pb2 import AccessRole
from gemarket.administration import new_request_id
from gemarket.commands.calling import Json, enum_name, run_async, secret, show, told, when
from gemarket.core_client import (
    CoreClient,
    connected,
    forget_token,
    keep_token,
    people_channel,
    read_token,
)
from gemarket.endpoints import read_endpoints
from gemarket.options import As, DataDir, layout_of

_SERVICE = "SessionService"


def login(
    user: Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")],
    *,
    partner: Annotated[str, typer.Option(help="Partner; without one an operator.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Open a session for later commands; the password comes from a prompt or standard input."""
    layout = layout_of(data_dir)

    async def work() -> None:
        endpoints = read_endpoints(layout.endpoints)
        request = wire.LoginRequest(
            request_id=new_request_id(),
            partner_id=partner,
            user_name=user,
            password=secret("Password"),
        )
        async with people_channel(endpoints) as channel:
            market = CoreClient(channel)
            answer = await market.ask(f"{_SERVICE}/Login", request, wire.LoginResponse)
        keep_token(layout, answer.session_token)
        told(f"{user} is logged in until {when(answer.session.expire_time)} UTC")

    run_async(work())


def logout(
    *,
    everywhere: Annotated[bool, typer.Option("--all", help="All sessions of the user.")] = False,
    data_dir: DataDir = None,
) -> None:
    """End the session of the last login."""
    layout = layout_of(data_dir)

    async def work() -> None:
        token = read_token(layout)
        if not token:
            raise ValueError("nobody is logged in here")
        request = wire.LogoutRequest(request_id=new_request_id(), all_sessions=everywhere)
        try:
            async with people_channel(read_endpoints(layout.endpoints)) as channel:
                market = CoreClient(channel, token)
                answer = await market.ask(f"{_SERVICE}/Logout", request, wire.LogoutResponse)
        finally:
            # A session that is over already is no reason to keep its token.
            forget_token(layout)
        told(f"{answer.ended_session_count} sessions ended")

    run_async(work())


def who_am_i(*, caller: As = "", json: Json = False, data_dir: DataDir = None) -> None:
    """Say as whom commands call: the user of the session, or the party of a certificate."""

    async def work() -> None:
        async with connected(layout_of(data_dir), caller) as market:
            method, response = f"{_SERVICE}/WhoAmI", wire.WhoAmIResponse
            answer = await market.ask(method, wire.WhoAmIRequest(), response)
        if json:
            show(answer)
            return
        roles = (enum_name(AccessRole, "ACCESS_ROLE", role) for role in answer.access_roles)
        who = answer.user.user_name if answer.HasField("user") else "certificate"
        told(f"{answer.subject_id} ({who}): {', '.join(roles)}")

    run_async(work())
