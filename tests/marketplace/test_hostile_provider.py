"""The router against providers that misbehave, over real mutual TLS.

The table says what becomes of each mode. The other provider's results stay; the call ends in time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.certificates import (
    CertificateAuthority,
    partner_uri,
    provider_dns_name,
    utc_now,
)
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.endpoint_policy import EndpointCheck, EndpointPolicy
from marketplace.provider_channels import ChannelLimits, MarketplaceCertificate, ProviderChannels
from marketplace.router.ask import INVALID_ANSWER, OK, REFUSED, TIMED_OUT, UNREACHABLE
from marketplace.router.transport import ProviderTransport
from tests.hostile_provider import HostileProvider, Mode, server_tls
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity, identity_of
from tests.relay_market import Market, items, method_of, query

_BUDGET_S = 0.5
#: Room for a busy machine beyond the budget; the promise is 50 ms on an idle one.
_SLACK_S = 0.4

_REASONS = {
    UNREACHABLE: ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
    TIMED_OUT: ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT,
    INVALID_ANSWER: ErrorReason.ERROR_REASON_ANSWER_INVALID,
    REFUSED: ErrorReason.ERROR_REASON_PROVIDER_REFUSED,
    OK: 0,
}
_TOO_LARGE = {Mode.OVERSIZE, Mode.OVERSIZE_LENGTH, Mode.HUGE_TRAILERS}
_OUTCOMES = {
    Mode.HONEST: OK,
    Mode.REFUSES: REFUSED,
    Mode.FORGES_TRANSPORT_STATUS: REFUSED,
    Mode.HANGS: TIMED_OUT,
    Mode.SLOW_DRIP: TIMED_OUT,
    Mode.RST_AFTER_HEADER: UNREACHABLE,
    Mode.RST_IN_DATA: UNREACHABLE,
    Mode.RST_REFUSED: UNREACHABLE,
    Mode.CLOSES_IN_DATA: UNREACHABLE,
    Mode.CLOSES_AT_ONCE: UNREACHABLE,
    Mode.CLOSES_TLS_ONLY: TIMED_OUT,
    Mode.GOAWAY: UNREACHABLE,
    Mode.GARBAGE_FRAMES: INVALID_ANSWER,
    Mode.GARBAGE_MESSAGE: INVALID_ANSWER,
    Mode.WRONG_TYPE: INVALID_ANSWER,
    # grpc reads one message and waits for the end, which the second one hides.
    Mode.TWO_MESSAGES: TIMED_OUT,
    Mode.NO_MESSAGE: INVALID_ANSWER,
    Mode.OVERSIZE: INVALID_ANSWER,
    Mode.OVERSIZE_LENGTH: INVALID_ANSWER,
    Mode.GZIP_BOMB: INVALID_ANSWER,
    Mode.NO_TRAILERS: INVALID_ANSWER,
    Mode.HTTP_ERROR: INVALID_ANSWER,
    Mode.HUGE_TRAILERS: INVALID_ANSWER,
}

#: Makes a transport towards providers; a second one is held to the same table.
MakeTransport = Callable[[Identity], ProviderTransport]


def grpc_aio(identity: Identity) -> ProviderTransport:
    certificate = MarketplaceCertificate(identity.root_pem, identity.key_pem, identity.chain_pem)
    loopback = EndpointCheck(EndpointPolicy(["127.0.0.0/8"]))
    return ProviderChannels(certificate, TRUST_DOMAIN, ChannelLimits(), endpoints=loopback)


@pytest.fixture(params=[grpc_aio])
async def transport(
    request: pytest.FixtureRequest, marketplace_identity: Identity
) -> AsyncIterator[ProviderTransport]:
    made: ProviderTransport = request.param(marketplace_identity)
    yield made
    await made.close()


@asynccontextmanager
async def provider(
    identity: Identity, folder: Path, mode: Mode, answer: bytes
) -> AsyncIterator[tuple[HostileProvider, str]]:
    """Run a provider; gives it and its endpoint."""
    running = HostileProvider(server_tls(identity, folder), mode, answer)
    endpoint = await running.start()
    try:
        yield running, endpoint
    finally:
        await running.stop()


@asynccontextmanager
async def beside_an_honest_one(
    identity: Identity,
    mode: Mode,
    transport: ProviderTransport,
    make_identity: MakeIdentity,
    folder: Path,
    method: str = "Search",
) -> AsyncIterator[tuple[Market, HostileProvider]]:
    """Run `evil` with this identity and mode beside the honest `good`."""
    async with AsyncExitStack() as stack:
        evil, evil_at = await stack.enter_async_context(
            provider(identity, folder, mode, items(method, "e"))
        )
        _, good_at = await stack.enter_async_context(
            provider(make_identity("good"), folder, Mode.HONEST, items(method, "g"))
        )
        endpoints = {"evil": evil_at, "good": good_at}
        yield Market("evil", "good", endpoints=endpoints, transport=transport), evil


async def search(market: Market) -> tuple[Any, float]:
    """Search with the budget; gives the answer and how long it took in seconds."""
    started_s = time.monotonic()
    metadata = {"gem-budget-ms": str(int(_BUDGET_S * 1000))}
    (raw,) = await market.serve("Search", query("Search", "x"), metadata=metadata)
    return method_of("Search").response_class.FromString(raw), time.monotonic() - started_s


@pytest.mark.fault
@pytest.mark.usecase(1241)
@pytest.mark.parametrize("mode", Mode)
async def test_a_hostile_provider_costs_the_caller_only_its_own_results(
    mode: Mode, transport: ProviderTransport, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    identity = make_identity("evil")
    async with beside_an_honest_one(identity, mode, transport, make_identity, tmp_path) as (
        market,
        evil,
    ):
        answer, took_s = await search(market)
    entry, other = answer.provider_answers
    reason = _REASONS[_OUTCOMES[mode]]
    if mode in _TOO_LARGE:
        reason = ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE
    assert (entry.status, entry.reason) == (_OUTCOMES[mode], reason)
    assert other.status == OK
    assert [item.name for item in answer.items if item.provider_id == "good"] == ["g"]
    assert [item.name for item in answer.items if item.provider_id == "evil"] == (
        ["e"] if mode is Mode.HONEST else []
    )
    assert took_s < _BUDGET_S + _SLACK_S
    assert len(market.log.entries) == 2
    assert evil.requests
    assert evil.metadata[0]["gem-requester"] == "evsp-one"
    assert evil.metadata[0]["gem-contract"] == "contract-evil"


@pytest.mark.fault
@pytest.mark.parametrize(
    ("mode", "status"),
    [
        (Mode.HONEST, OK),
        (Mode.REFUSES, REFUSED),
        (Mode.RST_IN_DATA, UNREACHABLE),
        (Mode.CLOSES_AT_ONCE, UNREACHABLE),
        (Mode.GARBAGE_MESSAGE, INVALID_ANSWER),
        (Mode.TWO_MESSAGES, OK),
        (Mode.SLOW_DRIP, TIMED_OUT),
        (Mode.OVERSIZE_LENGTH, INVALID_ANSWER),
    ],
)
async def test_a_hostile_stream_costs_the_caller_only_its_own_results(
    mode: Mode,
    status: int,
    transport: ProviderTransport,
    make_identity: MakeIdentity,
    tmp_path: Path,
) -> None:
    identity = make_identity("evil")
    async with beside_an_honest_one(
        identity, mode, transport, make_identity, tmp_path, "Watch"
    ) as (market, _):
        metadata = {"gem-budget-ms": str(int(_BUDGET_S * 1000))}
        *messages, last = await market.serve("Watch", b"", metadata=metadata)
    parse: Any = method_of("Watch").response_class.FromString
    entries = parse(last).provider_answers
    assert [entry.status for entry in entries] == [status, OK]
    names = [item.name for raw in messages for item in parse(raw).items]
    assert names.count("g") == 1


@pytest.mark.fault
@pytest.mark.usecase(1241)
@pytest.mark.parametrize("flaw", ["another partner", "expired", "another authority"])
async def test_an_endpoint_that_is_not_the_partner_s_never_sees_a_request(
    flaw: str,
    transport: ProviderTransport,
    make_identity: MakeIdentity,
    authority: CertificateAuthority,
    tmp_path: Path,
) -> None:
    names = (provider_dns_name(TRUST_DOMAIN, "evil"),)
    uri = partner_uri(TRUST_DOMAIN, "evil")
    if flaw == "another partner":
        identity = make_identity("somebody-else")
    elif flaw == "expired":
        past = dataclasses.replace(authority, clock=lambda: utc_now() - timedelta(days=40))
        identity = identity_of(past, uri, names)
    else:
        other = CertificateAuthority.create(tmp_path / "other", TRUST_DOMAIN)
        identity = identity_of(other, uri, names)
        identity = dataclasses.replace(identity, root_pem=authority.root_pem)
    async with beside_an_honest_one(identity, Mode.HONEST, transport, make_identity, tmp_path) as (
        market,
        evil,
    ):
        answer, _ = await search(market)
    entry, other_entry = answer.provider_answers
    assert (entry.status, entry.reason) == (
        UNREACHABLE,
        ErrorReason.ERROR_REASON_PROVIDER_NOT_GENUINE,
    )
    assert other_entry.status == OK
    assert evil.requests == []
    assert evil.metadata == []
