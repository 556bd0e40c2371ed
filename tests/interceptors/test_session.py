"""The session interceptor: people without a certificate, and nobody else, come by token."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1 import options_pb2
from interceptors.call import Call, Caller
from interceptors.session import SESSION_KEY
from tests.identities import MakeIdentity
from tests.interceptors.support import (
    COUNT,
    ECHO,
    OPEN,
    OPERATE,
    TECHNICAL,
    ProbeMarket,
    Text,
    make_call,
    raises,
)

ADMINISTRATOR = options_pb2.ACCESS_ROLE_ADMINISTRATOR
VIEWER = options_pb2.ACCESS_ROLE_VIEWER
MISSING = raises(ErrorReason.ERROR_REASON_SESSION_MISSING)
NOT_ACCEPTED = raises(ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
NO_CERTIFICATE = raises(ErrorReason.ERROR_REASON_CERTIFICATE_NOT_ACCEPTED)
ROUTED = "/gem.test.v1.Routed/Ask"


def person(*roles: int) -> Caller:
    return Caller("acme", frozenset(roles), b"", session_id="s-1", user_name="ada")


def market_with(*roles: int) -> ProbeMarket:
    """Give a market in which the token `good` is a person's with these roles."""
    market = ProbeMarket()
    market.sessions.callers["good"] = person(*roles)
    return market


def call_of(method: str, token: str | bytes | None = "good", **fields: Any) -> Call:
    metadata = {} if token is None else {SESSION_KEY: token}
    return make_call(Text().SerializeToString(), method=method, metadata=metadata, **fields)


@pytest.mark.usecase(1618)
@pytest.mark.parametrize(
    ("token", "refusal"),
    [(None, MISSING), ("", MISSING), (b"good", MISSING), ("bad", NOT_ACCEPTED)],
)
@pytest.mark.parametrize("method", [ECHO, COUNT, OPERATE, ROUTED, "/no.such.Service/Method"])
async def test_without_a_good_token_there_is_no_caller(
    token: str | bytes | None, refusal: Any, method: str
) -> None:
    market = market_with(ADMINISTRATOR)
    with pytest.raises(MarketError, check=refusal):
        await market.handle(call_of(method, token))
    assert market.servicer.calls == []


@pytest.mark.parametrize("token", [None, "bad", "good"])
async def test_a_public_method_needs_no_token_and_knows_who_has_one(token: str | None) -> None:
    market = market_with(VIEWER)
    await market.handle(call_of(OPEN, token))
    (call,) = market.servicer.calls
    assert (call.caller is not None) == (token == "good")


@pytest.mark.usecase(1618)
@pytest.mark.parametrize(
    "roles",
    [
        (ADMINISTRATOR,),
        (VIEWER,),
        (options_pb2.ACCESS_ROLE_BUYER, options_pb2.ACCESS_ROLE_SELLER),
        (options_pb2.ACCESS_ROLE_BUSINESS_OPERATOR, TECHNICAL),
    ],
)
async def test_no_session_makes_a_routed_call(roles: tuple[int, ...]) -> None:
    market = market_with(*roles)
    call = call_of(ROUTED)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await market.handle(call)
    assert [(failed.requester_id, failed.reason) for failed in market.log.failed] == [
        ("acme", ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
    ]


@pytest.mark.usecase(1618)
async def test_what_a_partner_may_do_its_administrator_may_do_and_a_viewer_may_not() -> None:
    # The probe's methods say nothing about side effects, so they count as having some.
    market = market_with(ADMINISTRATOR)
    await market.handle(call_of(ECHO))
    (call,) = market.servicer.calls
    assert call.caller == person(ADMINISTRATOR)
    market = market_with(VIEWER)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await market.handle(call_of(ECHO))


async def test_an_administrator_is_no_operator() -> None:
    market = market_with(ADMINISTRATOR)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await market.handle(call_of(OPERATE))
    market = market_with(TECHNICAL)
    await market.handle(call_of(OPERATE))


async def test_beside_a_certificate_a_token_is_not_read(make_identity: MakeIdentity) -> None:
    market = market_with(TECHNICAL)
    acme, stranger = make_identity("acme"), make_identity("stranger")
    market.registry.register(acme, "acme")
    call = call_of(OPERATE, peer_certificate=acme.certificate.certificate_pem)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await market.handle(call)
    call = call_of(OPERATE, peer_certificate=stranger.certificate.certificate_pem)
    with pytest.raises(MarketError, check=NO_CERTIFICATE):
        await market.handle(call)


async def test_while_the_storage_is_away_nobody_comes_by_token() -> None:
    market = market_with(ADMINISTRATOR)
    reason = ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
    market.sessions.trouble = MarketError(reason, "away")
    with pytest.raises(MarketError, check=raises(reason)):
        await market.handle(call_of(ECHO))
    await market.handle(call_of(OPEN))


@pytest.mark.usecase(1619)
async def test_calls_of_an_ended_session_are_cut_and_no_others(
    make_identity: MakeIdentity,
) -> None:
    market = market_with(ADMINISTRATOR)
    acme = make_identity("acme")
    market.registry.register(acme, "acme")
    by_token = call_of(COUNT, caller=person(ADMINISTRATOR))
    by_certificate = make_call(caller=Caller("acme", frozenset(), acme.fingerprint))
    for call in (by_token, by_certificate, make_call()):
        market.live.add(call)
    assert market.certificate.cut_refused(market.live) == 0
    assert await market.session.cut_refused(market.live) == 0
    market.sessions.callers.clear()
    assert await market.session.cut_refused(market.live) == 1
    assert by_token.cut_by is not None
    assert by_token.cut_by.reason == ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED
    assert by_certificate.cut_by is None


async def test_the_watch_goes_on_after_the_storage_was_away() -> None:
    market = market_with(ADMINISTRATOR)
    call = call_of(COUNT, caller=person(ADMINISTRATOR))
    market.live.add(call)
    reason = ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
    market.sessions.trouble = MarketError(reason, "away")
    watching = asyncio.create_task(market.session.watch(market.live, period_s=0.005))
    await asyncio.sleep(0.05)
    assert call.cut_by is None
    market.sessions.trouble = None
    market.sessions.callers.clear()
    async with asyncio.timeout(5):
        while call.cut_by is None:  # noqa: ASYNC110  # what is under test has no event
            await asyncio.sleep(0.005)
    watching.cancel()
