"""The rows of SessionService in the authorization matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from gem.marketplace.v1 import session_service_pb2 as sessions
from gem.marketplace.v1 import user_pb2
from gemarket.administration import new_request_id
from tests.end_to_end.callers import FORBIDDEN, HIDDEN, INVALID, OK, Row, public, row
from tests.end_to_end.whole_market import new_id

_NO_SESSION = "SESSION_NOT_ACCEPTED"


def _nobody(kind: Callable[..., Message], **fields: Any) -> Row:
    """Make a row of a command on a user that does not exist."""
    return row(
        lambda _: kind(request_id=new_request_id(), user_name="nobody", **fields),
        FORBIDDEN,
        administrator=HIDDEN,
        business=HIDDEN,
        technical=FORBIDDEN,
    )


SESSION_ROWS: Mapping[str, Row] = {
    "Login": public(
        lambda _: sessions.LoginRequest(
            request_id=new_request_id(), user_name=new_id("nobody"), password="no password"
        ),
        "LOGIN_FAILED",
    ),
    "RedeemOneTimeLink": public(
        lambda _: sessions.RedeemOneTimeLinkRequest(
            request_id=new_request_id(), secret="none", password="no password"
        ),
        HIDDEN,
    ),
    "WhoAmI": row(lambda _: sessions.WhoAmIRequest(), OK, business=OK, technical=OK, users=OK),
    "CreateUser": row(
        lambda t: sessions.CreateUserRequest(
            request_id=new_request_id(),
            partner_id=t.contracted_id,
            user_name="nobody",
            full_name="Nobody",
            roles=[user_pb2.USER_ROLE_TECHNICAL_OPERATOR],
        ),
        FORBIDDEN,
        administrator=INVALID,
        business=INVALID,
        technical=FORBIDDEN,
    ),
    "CreateOneTimeLink": _nobody(sessions.CreateOneTimeLinkRequest),
    "SetUserRoles": _nobody(sessions.SetUserRolesRequest, roles=[user_pb2.USER_ROLE_VIEWER]),
    "DisableUser": _nobody(sessions.DisableUserRequest),
    "EnableUser": _nobody(sessions.EnableUserRequest),
    "ListUsers": row(
        lambda t: sessions.ListUsersRequest(partner_id=t.contracted_id),
        FORBIDDEN,
        administrator=OK,
        business=OK,
        technical=FORBIDDEN,
    ),
    "ChangePassword": row(
        lambda _: sessions.ChangePasswordRequest(
            request_id=new_request_id(), current_password="no password", new_password="short"
        ),
        FORBIDDEN,
        administrator=INVALID,
        users=INVALID,
        business=_NO_SESSION,
        technical=_NO_SESSION,
        operator_in_session=INVALID,
    ),
    "Logout": row(
        lambda _: sessions.LogoutRequest(request_id=new_request_id()),
        FORBIDDEN,
        administrator=OK,
        users=OK,
        business=_NO_SESSION,
        technical=_NO_SESSION,
        operator_in_session=OK,
    ),
}
