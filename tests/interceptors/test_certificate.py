"""Who is let in by certificate, and how fast a refusal takes effect on live connections."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from foundation.certificates import CertificateAuthority, operator_uri, partner_uri
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from interceptors.certificate import CertificateCheck
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity, MakeOperator, identity_of
from tests.interceptors.support import (
    CHAT,
    ECHO,
    OPEN,
    TECHNICAL,
    MemoryRegistry,
    ProbeMarket,
    Text,
    channel,
    eventually,
    make_call,
    raises,
    refusal,
)

MISSING = ErrorReason.ERROR_REASON_CERTIFICATE_MISSING
NOT_ACCEPTED = ErrorReason.ERROR_REASON_CERTIFICATE_NOT_ACCEPTED
EXPIRED = ErrorReason.ERROR_REASON_CERTIFICATE_EXPIRED
REVOKED = ErrorReason.ERROR_REASON_CERTIFICATE_REVOKED
NOT_ACTIVE = ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def acme(make_identity: MakeIdentity) -> Identity:
    return make_identity("acme")


async def identified(registry: MemoryRegistry, pem: bytes | None, **options: Any) -> Call:
    check = CertificateCheck(registry, TRUST_DOMAIN, lambda method: method == OPEN, **options)
    call = make_call(peer_certificate=pem, method=ECHO)

    async def handler(_call: Call) -> None:
        return

    await check(call, handler)
    return call


class TestRefusals:
    """Nobody passes but by a registered certificate in good order."""

    async def refused(self, registry: MemoryRegistry, pem: bytes | None, reason: int) -> None:
        with pytest.raises(MarketError, check=raises(reason)):
            await identified(registry, pem)

    async def test_no_certificate(self) -> None:
        await self.refused(MemoryRegistry(), None, MISSING)

    async def test_what_is_no_certificate(self) -> None:
        await self.refused(MemoryRegistry(), b"-----BEGIN NOTHING-----", NOT_ACCEPTED)

    async def test_a_certificate_of_our_authority_that_was_never_registered(
        self, acme: Identity
    ) -> None:
        await self.refused(MemoryRegistry(), acme.certificate.certificate_pem, NOT_ACCEPTED)

    async def test_a_second_certificate_for_a_registered_partner(
        self, acme: Identity, make_identity: MakeIdentity
    ) -> None:
        """An intermediate can mint anybody's name: only the very certificate counts."""
        registry = MemoryRegistry()
        registry.register(acme, "acme")
        pem = make_identity("acme").certificate.certificate_pem
        await self.refused(registry, pem, NOT_ACCEPTED)

    @pytest.mark.parametrize(
        ("state", "reason"),
        [
            ({"revoked": True}, REVOKED),
            ({"active": False}, NOT_ACTIVE),
            ({"not_after_s": time.time() - 1.0}, EXPIRED),
            ({"revoked": True, "active": False}, REVOKED),
            ({"kind": "operator"}, NOT_ACCEPTED),
        ],
    )
    async def test_a_registered_certificate_in_a_bad_state(
        self, acme: Identity, state: dict[str, Any], reason: int
    ) -> None:
        registry = MemoryRegistry()
        registry.register(acme, "acme", **state)
        await self.refused(registry, acme.certificate.certificate_pem, reason)

    async def test_a_certificate_registered_for_somebody_else(self, acme: Identity) -> None:
        registry = MemoryRegistry()
        registry.register(acme, "other")
        await self.refused(registry, acme.certificate.certificate_pem, NOT_ACCEPTED)

    async def test_a_certificate_of_another_market(self, authority: CertificateAuthority) -> None:
        foreign = identity_of(authority, partner_uri("other.example", "acme"))
        registry = MemoryRegistry()
        registry.register(foreign, "acme")
        await self.refused(registry, foreign.certificate.certificate_pem, NOT_ACCEPTED)

    async def test_the_marketplaces_own_certificate(self, marketplace_identity: Identity) -> None:
        registry = MemoryRegistry()
        registry.register(marketplace_identity, "marketplace")
        pem = marketplace_identity.certificate.certificate_pem
        await self.refused(registry, pem, NOT_ACCEPTED)

    async def test_a_certificate_that_is_not_valid_yet(self, tmp_path: Path) -> None:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        later = CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN, lambda: tomorrow)
        early = identity_of(later, partner_uri(TRUST_DOMAIN, "acme"))
        registry = MemoryRegistry()
        registry.register(early, "acme")
        await self.refused(registry, early.certificate.certificate_pem, EXPIRED)


async def test_a_public_method_goes_on_without_a_caller() -> None:
    check = CertificateCheck(MemoryRegistry(), TRUST_DOMAIN, lambda method: method == OPEN)
    call = make_call(method=OPEN)
    seen: list[Call] = []

    async def handler(call: Call) -> None:
        seen.append(call)

    await check(call, handler)
    assert seen[0].caller is None


async def test_a_registered_partner_and_a_registered_operator_are_known_by_their_roles(
    acme: Identity, make_operator: MakeOperator
) -> None:
    registry = MemoryRegistry()
    operator = make_operator("technical", "ada")
    registry.register(acme, "acme")
    registry.register(operator, "ada", [TECHNICAL], "operator")
    call = await identified(registry, operator.certificate.certificate_pem)
    assert call.caller is not None
    assert call.caller.subject_id == "ada"
    assert call.caller.roles == frozenset({TECHNICAL})
    call = await identified(registry, acme.certificate.certificate_pem)
    assert call.caller is not None
    assert (call.caller.subject_id, call.caller.fingerprint) == ("acme", acme.fingerprint)
    assert operator_uri(TRUST_DOMAIN, "technical", "ada").endswith("/ada")


STATES = pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"revoked": True}, (UNAUTHENTICATED, "CERTIFICATE_REVOKED")),
        ({"active": False}, (grpc.StatusCode.PERMISSION_DENIED, "PARTNER_NOT_ACTIVE")),
        ({"not_after_s": 0.0}, (UNAUTHENTICATED, "CERTIFICATE_EXPIRED")),
    ],
    ids=["revoked", "inactive", "expired"],
)


@pytest.mark.fault
@STATES
async def test_a_live_connection_is_refused_at_its_next_call(
    state: dict[str, Any],
    expected: tuple[grpc.StatusCode, str],
    acme: Identity,
    marketplace_identity: Identity,
) -> None:
    market = ProbeMarket()
    market.registry.register(acme, "acme")
    async with market.listening(marketplace_identity) as at, channel(at.port, acme) as to:
        await to.unary_unary(ECHO)(b"")
        market.registry.register(acme, "acme", **state)
        assert await refusal(to.unary_unary(ECHO)(b"")) == expected
        assert await to.unary_unary(OPEN)(b"") == b""
        market.registry.register(acme, "acme")
        await to.unary_unary(ECHO)(b"")


@pytest.mark.fault
@pytest.mark.parametrize("notified", [True, False], ids=["notified", "notification missed"])
@STATES
async def test_live_streams_are_cut_within_a_second_and_others_go_on(
    notified: bool,
    state: dict[str, Any],
    expected: tuple[grpc.StatusCode, str],
    acme: Identity,
    make_identity: MakeIdentity,
    marketplace_identity: Identity,
) -> None:
    market = ProbeMarket()
    other = make_identity("other")
    market.registry.register(acme, "acme")
    market.registry.register(other, "other")
    watch = asyncio.create_task(market.certificate.watch(market.live, 0.2))
    message = Text(text="a").SerializeToString()
    async with (
        market.listening(marketplace_identity) as at,
        channel(at.port, acme) as to,
        channel(at.port, other) as to_other,
    ):
        streams = [to.stream_stream(CHAT)(), to.stream_stream(CHAT)()]
        kept = to_other.stream_stream(CHAT)()
        for stream in (*streams, kept):
            await stream.write(message)
            assert await stream.read() == message
        market.registry.register(acme, "acme", **state)
        changed_s = time.monotonic()
        if notified:
            assert market.certificate.cut_refused(market.live) == 2
        for stream in streams:
            assert await refusal(stream.read()) == expected
        assert time.monotonic() - changed_s < 1.0
        await kept.write(message)
        assert await kept.read() == message
        await kept.done_writing()
    watch.cancel()
    assert len(market.servicer.ends) == 3


async def test_calls_of_one_subject_or_one_certificate_can_be_cut(
    acme: Identity, marketplace_identity: Identity
) -> None:
    market = ProbeMarket()
    market.registry.register(acme, "acme")
    error = MarketError(REVOKED, "revoked")
    async with market.listening(marketplace_identity) as at, channel(at.port, acme) as to:
        live = market.live
        for cut in (
            partial(live.cut_subject, "acme", error),
            partial(live.cut_fingerprint, acme.fingerprint, error),
        ):
            stream = to.stream_stream(CHAT)()
            await stream.write(b"")
            await stream.read()
            assert market.live.cut_subject("other", error) == 0
            assert market.live.cut_fingerprint(b"other", error) == 0
            assert cut() == 1
            assert cut() == 0  # the first cut counts
            assert (await refusal(stream.read()))[1] == "CERTIFICATE_REVOKED"
            await eventually(lambda: len(market.live) == 0)
