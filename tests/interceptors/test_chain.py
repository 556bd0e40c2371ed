"""The order of the interceptors is one fact, and these are its reasons."""

from __future__ import annotations

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Handler, Interceptor
from interceptors.chain import ChainParts, build_chain, dispatch
from tests.identities import MakeIdentity
from tests.interceptors.support import ECHO, OPERATE, ProbeMarket, make_call, raises


def note(name: str, seen: list[str]) -> Interceptor:
    async def interceptor(call: Call, proceed: Handler) -> None:
        seen.append(name)
        await proceed(call)

    return interceptor


async def test_the_order_is_telemetry_status_admission_session_certificate_log_access() -> None:
    seen: list[str] = []
    order = ["telemetry", "status", "admission", "session", "certificate", "transaction_log"]
    order.append("access")
    parts = ChainParts(**{name: note(name, seen) for name in reversed(order)})

    async def handler(_call: Call) -> None:
        seen.append("handler")

    await build_chain(parts, handler)(make_call())
    assert seen == [*order, "handler"]


async def test_a_refusal_by_access_is_recorded_and_one_of_a_stranger_is_not(
    make_identity: MakeIdentity,
) -> None:
    market = ProbeMarket()
    acme, stranger = make_identity("acme"), make_identity("stranger")
    market.registry.register(acme, "acme")
    for identity in (stranger, acme):
        call = make_call(b"", method=OPERATE, peer_certificate=identity.certificate.certificate_pem)
        with pytest.raises(MarketError):
            await market.handle(call)
    assert [(failed.requester_id, failed.reason) for failed in market.log.failed] == [
        ("acme", ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
    ]
    assert market.servicer.calls == []


async def test_a_flood_is_turned_away_before_anything_is_recorded(
    make_identity: MakeIdentity,
) -> None:
    market = ProbeMarket()
    acme = make_identity("acme")
    market.registry.register(acme, "acme")
    market.admission.close()
    call = make_call(b"", peer_certificate=acme.certificate.certificate_pem)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_DRAINING)):
        await market.handle(call)
    assert market.log.failed == []


async def test_a_core_method_goes_to_its_service_and_any_other_to_the_router() -> None:
    seen: list[str] = []

    async def core(_call: Call) -> None:
        seen.append("core")

    async def routed(_call: Call) -> None:
        seen.append("routed")

    methods: dict[str, Handler] = {}
    serve = dispatch(methods, routed)
    await serve(make_call())
    methods[ECHO] = core  # added after the chain was built
    await serve(make_call())
    assert seen == ["routed", "core"]
