"""The health service as a probe sees it."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from interceptors.health import SERVICE, HealthServicer
from tests.identities import Identity, MakeIdentity
from tests.interceptors.support import PUBLIC, ProbeMarket, channel, refusal

SEARCH = "gem.charging.v1.EvseSearchService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Healthy:
    """A market with a health service whose state the test sets."""

    def __init__(self) -> None:
        self.services = {SEARCH}
        self.ready = True
        self.health = HealthServicer(lambda: self.services, lambda: self.ready)
        self.market = ProbeMarket()
        self.market.core.add(SERVICE, self.health, access=[PUBLIC])


@pytest.fixture
async def healthy() -> Healthy:
    return Healthy()


@pytest.fixture
def probe(make_identity: MakeIdentity) -> Identity:
    """A certificate of our authority that is registered nowhere."""
    return make_identity("probe")


def request(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def test_a_service_that_is_not_served_is_not_found(
    healthy: Healthy, probe: Identity, marketplace_identity: Identity
) -> None:
    async with healthy.market.listening(marketplace_identity) as at, channel(at.port, probe) as to:
        stub = health_pb2_grpc.HealthStub(to)
        for name in ("gem.none.v1.None", "x" * 10_000):
            assert await refusal(stub.Check(request(name))) == (
                grpc.StatusCode.NOT_FOUND,
                "NOT_FOUND",
            )


async def test_states_follow_readiness_and_the_services_that_come_and_go(
    healthy: Healthy, probe: Identity, marketplace_identity: Identity
) -> None:
    async with healthy.market.listening(marketplace_identity) as at, channel(at.port, probe) as to:
        stub = health_pb2_grpc.HealthStub(to)
        assert (await stub.Check(request())).status == SERVING
        assert (await stub.Check(request(SEARCH))).status == SERVING
        listed = await stub.List(health_pb2.HealthListRequest())
        assert {name: each.status for name, each in listed.statuses.items()} == {
            "": SERVING,
            SEARCH: SERVING,
        }
        healthy.ready = False
        assert (await stub.Check(request())).status == NOT_SERVING
        assert (await stub.Check(request(SEARCH))).status == NOT_SERVING


async def test_who_watches_hears_of_every_change_and_of_the_drain(
    healthy: Healthy, probe: Identity, marketplace_identity: Identity
) -> None:
    async with healthy.market.listening(marketplace_identity) as at, channel(at.port, probe) as to:
        at.server.before_drain(healthy.health.enter_drain)
        stub = health_pb2_grpc.HealthStub(to)
        watch = stub.Watch(request(SEARCH))
        assert (await watch.read()).status == SERVING
        healthy.services.clear()
        healthy.health.notify()
        assert (await watch.read()).status == UNKNOWN
        healthy.services.add(SEARCH)  # without a word: it is seen all the same
        assert (await watch.read()).status == SERVING
        drained = asyncio.create_task(at.server.drain(5.0))
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        async with asyncio.timeout(2.0):  # a watcher does not hold up the drain
            await drained
