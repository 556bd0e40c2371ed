"""Who may call what: refused unless a role allows it."""

from __future__ import annotations

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1 import options_pb2
from interceptors.access import AccessCheck
from interceptors.call import Call, Caller
from tests.interceptors.support import (
    ECHO,
    OPEN,
    OPERATE,
    PARTNER,
    PUBLIC,
    TECHNICAL,
    caller,
    make_call,
    raises,
)

ROUTED = "/gem.test.v1.Routed/Ask"
BUSINESS = options_pb2.ACCESS_ROLE_BUSINESS_OPERATOR
ROLE = ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED
UNKNOWN = ErrorReason.ERROR_REASON_METHOD_UNKNOWN
NOT_ACCEPTED = ErrorReason.ERROR_REASON_CERTIFICATE_NOT_ACCEPTED

check = AccessCheck(
    {ECHO: frozenset({PARTNER}), OPERATE: frozenset({TECHNICAL}), OPEN: frozenset({PUBLIC})},
    {ROUTED}.__contains__,
)


async def reached(method: str, who: Caller | None) -> bool:
    seen: list[Call] = []

    async def handler(call: Call) -> None:
        seen.append(call)

    await check(make_call(method=method, caller=who), handler)
    return bool(seen)


@pytest.mark.parametrize(
    ("method", "who", "reason"),
    [
        (ECHO, None, NOT_ACCEPTED),
        (ROUTED, None, NOT_ACCEPTED),
        (ECHO, caller("op", TECHNICAL), ROLE),
        (ECHO, caller("op", BUSINESS), ROLE),
        (ECHO, caller("op", PUBLIC), ROLE),
        (OPERATE, caller("acme", PARTNER), ROLE),
        (OPERATE, caller("op", BUSINESS), ROLE),
        (ROUTED, caller("op", TECHNICAL, BUSINESS), ROLE),
        (ECHO, Caller("nobody", frozenset(), b""), ROLE),
        ("/gem.test.v1.ProbeService/Missing", caller(), UNKNOWN),
        (ECHO + "/", caller(), UNKNOWN),
        (ECHO.lower(), caller(), UNKNOWN),
        (ECHO.lstrip("/"), caller(), UNKNOWN),
        ("", caller(), UNKNOWN),
    ],
)
async def test_a_call_that_no_role_allows_is_refused(
    method: str, who: Caller | None, reason: int
) -> None:
    with pytest.raises(MarketError, check=raises(reason)) as caught:
        await reached(method, who)
    assert method == "" or method not in caught.value.message


@pytest.mark.parametrize(
    ("method", "who"),
    [
        (ECHO, caller("acme", PARTNER)),
        (ECHO, caller("both", TECHNICAL, PARTNER)),
        (OPERATE, caller("op", TECHNICAL)),
        (OPEN, None),
        (OPEN, caller("acme", PARTNER)),
        (ROUTED, caller("acme", PARTNER)),
    ],
)
async def test_a_call_that_a_role_allows_goes_on(method: str, who: Caller | None) -> None:
    assert await reached(method, who)
