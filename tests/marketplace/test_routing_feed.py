"""The routing feed follows every change of the control plane (real PostgreSQL, LISTEN/NOTIFY)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from foundation.certificates import new_key_and_csr, utc_now
from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1.partner_pb2 import RevocationReason
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import AccessRole, RouteKey
from marketplace.router.interface import compile_interface
from marketplace.router.target import Price
from marketplace.routing_feed import FeedChange, FeedTiming, RoutingFeed
from marketplace.storage_certificate import register_operator_certificate
from tests.control_plane import BUSINESS, INTERFACE, INTERFACE_BODY, TECHNICAL, ControlPlane
from tests.identities import MakeOperator
from tests.interceptors.support import raises
from tests.interfaces import rpc, service

#: No heartbeat comes to the help of what should have been notified.
NOTIFIED_ONLY = FeedTiming(heartbeat_s=60.0)
WAIT_S = 5.0
METHOD = f"/{INTERFACE}/Search"


@pytest.fixture
async def feed(control_plane_url: str) -> AsyncIterator[RoutingFeed]:
    """Give a started feed that hears of changes by notifications only."""
    opened = RoutingFeed(control_plane_url, NOTIFIED_ONLY)
    await opened.start()
    yield opened
    await opened.stop()


async def _committed(plane: ControlPlane) -> int:
    async with plane.engine.connect() as connection:
        query = text("SELECT version FROM marketplace.routing_version")
        return int(await connection.scalar(query) or 0)


async def _follow(plane: ControlPlane, feed: RoutingFeed) -> Any:
    """Wait until the feed has what is committed, and give its snapshot."""
    await feed.wait_for(await _committed(plane), WAIT_S)
    return feed.current()


def _providers(feed: RoutingFeed, requester: str = "evsp") -> list[str]:
    return [target.provider_id for target in feed.current().targets(requester, INTERFACE)]


async def test_without_a_database_a_feed_does_not_start() -> None:
    feed = RoutingFeed("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE)):
        await feed.start(timeout_s=0.3)
    assert feed.current().version == 0
    assert feed.age_s() == float("inf")


async def test_waiting_for_a_version_that_does_not_come_ends_in_time(feed: RoutingFeed) -> None:
    with pytest.raises(TimeoutError):
        await feed.wait_for(feed.current().version + 1, 0.05)


async def test_contracts_are_the_routes_in_contract_order(
    plane: ControlPlane, feed: RoutingFeed
) -> None:
    services = await plane.market("c-last", "a-first", "b-middle")
    contracts = [await plane.contract("evsp", service) for service in services]
    await _follow(plane, feed)
    assert _providers(feed) == ["c-last", "a-first", "b-middle"]
    target = feed.current().targets("evsp", INTERFACE)[0]
    assert target.contract_id == contracts[0].contract_id
    assert target.endpoint == "c-last.example:8443"
    assert target.service_version == "1.0"
    assert target.price == Price(20_000, "EUR")
    assert _providers(feed, "c-last") == []
    suspended = {"contract_id": contracts[0].contract_id}
    await plane.ask("evsp", "ContractService/SuspendContract", **suspended)
    await _follow(plane, feed)
    assert _providers(feed) == ["a-first", "b-middle"]
    # A contract that is resumed has its old place again.
    await plane.ask("evsp", "ContractService/ResumeContract", **suspended)
    await _follow(plane, feed)
    assert _providers(feed) == ["c-last", "a-first", "b-middle"]
    for contract in contracts:
        await plane.ask(
            BUSINESS, "ContractService/TerminateContract", contract_id=contract.contract_id
        )
    await _follow(plane, feed)
    assert _providers(feed) == []


@pytest.mark.usecase(1255)
async def test_a_stopped_service_is_no_route_for_any_of_its_requesters(
    plane: ControlPlane, feed: RoutingFeed
) -> None:
    stopped, other = await plane.market("volt", "watt")
    await plane.partner("second")
    for requester in ("evsp", "second"):
        await plane.contract(requester, stopped)
        await plane.contract(requester, other)
    wanted = {"service_id": stopped.service_id}
    await plane.ask(TECHNICAL, "ServiceRegistryService/StopService", **wanted)
    await _follow(plane, feed)
    assert _providers(feed) == _providers(feed, "second") == ["watt"]
    await plane.ask(TECHNICAL, "ServiceRegistryService/StartService", **wanted)
    await _follow(plane, feed)
    assert _providers(feed) == _providers(feed, "second") == ["volt", "watt"]
    change = "ServiceRegistryService/ChangeServiceEndpoint"
    await plane.ask("volt", change, endpoint="[2a00:1450::1]:9", **wanted)
    snapshot = await _follow(plane, feed)
    for requester in ("evsp", "second"):
        assert snapshot.targets(requester, INTERFACE)[0].endpoint == "[2a00:1450::1]:9"


async def test_a_published_interface_can_be_called_at_once(
    plane: ControlPlane, feed: RoutingFeed
) -> None:
    assert feed.current().method(METHOD) is None
    heard: list[FeedChange] = []
    feed.on_change.append(heard.append)
    await plane.publish_interface()
    snapshot = await _follow(plane, feed)
    assert snapshot.method(METHOD) is not None
    assert [change.interfaces for change in heard] == [True]
    two = service(rpc(), rpc("Find")).replace('category: "c"', 'category: "d"')
    await plane.publish_interface(INTERFACE_BODY.partition("service")[0] + two)
    snapshot = await _follow(plane, feed)
    assert snapshot.method(f"/{INTERFACE}/Find") is not None


async def test_identifiers_lead_to_their_owner(plane: ControlPlane, feed: RoutingFeed) -> None:
    evse = int(RouteKey.ROUTE_KEY_EVSE_ID)
    identifier = {"kind": IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, "value": "DE*ABC"}
    await plane.register("volt", identifiers=[identifier])
    await plane.register("watt")
    snapshot = await _follow(plane, feed)
    assert snapshot.owner(evse, "DE*ABC*E1") == "volt"
    assert snapshot.owner(int(RouteKey.ROUTE_KEY_CONTRACT_ID), "DE-ABC-C12345678") is None
    remove = "PartnerService/RemovePartnerIdentifier"
    await plane.ask(BUSINESS, remove, partner_id="volt", identifier=identifier)
    snapshot = await _follow(plane, feed)
    assert snapshot.owner(evse, "DE*ABC*E1") is None
    add = "PartnerService/AddPartnerIdentifier"
    await plane.ask(BUSINESS, add, partner_id="watt", identifier=identifier)
    snapshot = await _follow(plane, feed)
    assert snapshot.owner(evse, "deabce1") == "watt"


async def test_certificates_follow_their_partner_and_their_revocation(
    plane: ControlPlane, feed: RoutingFeed
) -> None:
    await plane.register("volt")
    issue = "PartnerService/IssueCertificate"
    csr_pem = new_key_and_csr("x")[1]
    issued = await plane.ask(
        BUSINESS, issue, partner_id="volt", certificate_signing_request_pem=csr_pem
    )
    fingerprint = issued.certificate.fingerprint
    record = (await _follow(plane, feed)).by_fingerprint(fingerprint)
    assert (record.subject_id, record.kind) == ("volt", "partner")
    assert (record.active, record.revoked) == (False, False)
    assert record.roles == {AccessRole.ACCESS_ROLE_PARTNER}
    assert record.not_after_s == issued.certificate.not_after_time.ToSeconds()
    heard: list[FeedChange] = []
    feed.on_change.append(heard.append)
    for method, active in (("ActivatePartner", True), ("InactivatePartner", False)):
        await plane.ask(BUSINESS, f"PartnerService/{method}", partner_id="volt")
        record = (await _follow(plane, feed)).by_fingerprint(fingerprint)
        assert record.active is active
    reason = RevocationReason.REVOCATION_REASON_KEY_COMPROMISED
    revoke = "PartnerService/RevokeCertificate"
    await plane.ask(BUSINESS, revoke, fingerprint=fingerprint, reason=reason)
    record = (await _follow(plane, feed)).by_fingerprint(fingerprint)
    assert record.revoked
    assert [(change.certificates, change.interfaces) for change in heard] == [(True, False)] * 3


@pytest.mark.parametrize(
    ("role", "access"),
    [
        ("business", AccessRole.ACCESS_ROLE_BUSINESS_OPERATOR),
        ("technical", AccessRole.ACCESS_ROLE_TECHNICAL_OPERATOR),
    ],
)
async def test_an_operators_certificate_has_the_operators_role(
    plane: ControlPlane, feed: RoutingFeed, make_operator: MakeOperator, role: str, access: int
) -> None:
    identity = make_operator(role, "alice")
    async with plane.engine.begin() as connection:
        pem = identity.certificate.certificate_pem
        assert await register_operator_certificate(connection, pem, utc_now()) == (
            identity.fingerprint
        )
    record = (await _follow(plane, feed)).by_fingerprint(identity.fingerprint)
    assert (record.subject_id, record.kind, record.roles) == ("alice", "operator", {access})
    assert record.active


async def test_a_fresh_load_equals_what_was_followed(
    plane: ControlPlane, feed: RoutingFeed, control_plane_url: str
) -> None:
    services = await plane.market("volt", "watt", "amp")
    contracts = [await plane.contract("evsp", service) for service in services]
    suspend = "ContractService/SuspendContract"
    await plane.ask("evsp", suspend, contract_id=contracts[0].contract_id)
    stop = "ServiceRegistryService/StopService"
    await plane.ask(TECHNICAL, stop, service_id=services[2].service_id)
    followed = await _follow(plane, feed)
    fresh = RoutingFeed(control_plane_url)
    await fresh.start()
    await fresh.stop()
    loaded = fresh.current()
    assert loaded.version == followed.version
    assert loaded.targets("evsp", INTERFACE) == followed.targets("evsp", INTERFACE)
    assert _providers(fresh) == ["watt"]
    assert loaded.methods().keys() == followed.methods().keys() == {METHOD}
    assert dict(loaded.certificates()) == dict(followed.certificates())


async def test_an_interface_is_compiled_once_for_all_loads(
    plane: ControlPlane, control_plane_url: str
) -> None:
    await plane.publish_interface()
    compiled: list[bytes] = []

    def compile_set(raw: bytes) -> Any:
        compiled.append(raw)
        return compile_interface(raw)

    feed = RoutingFeed(control_plane_url, NOTIFIED_ONLY, compile_set)
    await feed.start()
    try:
        async with plane.engine.begin() as connection:
            await connection.execute(text("NOTIFY gem_routing, 'nonsense'"))
            bump = "UPDATE marketplace.routing_version SET version = version + 1"
            await connection.execute(text(bump))
        await _follow(plane, feed)
        assert len(compiled) == 1
        assert feed.current().method(METHOD) is not None
    finally:
        await feed.stop()


async def test_an_interface_that_no_longer_compiles_is_left_out_alone(
    plane: ControlPlane, control_plane_url: str
) -> None:
    (service,) = await plane.market("volt")
    await plane.contract("evsp", service)

    def compile_set(_: bytes) -> Any:
        raise MarketError(ErrorReason.ERROR_REASON_INTERFACE_INVALID, "stricter than before")

    feed = RoutingFeed(control_plane_url, NOTIFIED_ONLY, compile_set)
    await feed.start()
    await feed.stop()
    assert feed.current().method(METHOD) is None
    assert _providers(feed) == ["volt"]


async def test_a_follower_that_fails_keeps_nobody_else_from_hearing(
    plane: ControlPlane, feed: RoutingFeed
) -> None:
    heard: list[FeedChange] = []

    def fail(_: FeedChange) -> None:
        raise RuntimeError

    feed.on_change += [fail, heard.append]
    await plane.publish_interface()
    snapshot = await _follow(plane, feed)
    assert [change.version for change in heard] == [snapshot.version]
