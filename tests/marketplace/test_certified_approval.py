"""Markets that ask for certification and for the operator's approval, and endpoints that move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from foundation.certificates import CertificateAuthority
from foundation.errors import MarketError
from gem.marketplace.v1 import certification_pb2 as wire
from gem.marketplace.v1.service_pb2 import ServiceState
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gemarket.options import LOOPBACK_NETWORKS
from marketplace.conformance_runner import ConformanceRunner
from marketplace.endpoint_policy import EndpointCheck, EndpointPolicy
from marketplace.service_registry import RegistryParts, ServiceRegistry
from marketplace.storage_command import Commands
from tests.conformance_market import conformance_market
from tests.conforming_provider import ConformingProvider
from tests.control_plane import EVSE_OPERATOR, INTERFACE_BODY, TECHNICAL, ControlPlane
from tests.identities import MakeIdentity
from tests.interceptors.support import raises
from tests.interfaces import interface

NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
NAME = "charger.volt.example"


class Names:
    """A name service whose answers a test changes."""

    def __init__(self) -> None:
        self.addresses = ["127.0.0.1"]
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[str]:
        """Give the addresses of a host."""
        self.asked.append(host)
        return self.addresses


@dataclass(frozen=True)
class Listening:
    """A provider that keeps to the interface, and its endpoint by name."""

    provider: ConformingProvider
    endpoint: str


@pytest.fixture
def names() -> Names:
    """Give a name service that leads to this machine."""
    return Names()


@pytest.fixture
async def plane(
    plane: ControlPlane, authority: CertificateAuthority, names: Names
) -> AsyncIterator[ControlPlane]:
    """Give a market that asks for both, with a provider; all names are looked up in `names`."""
    await plane.market()
    await plane.partner("volt", EVSE_OPERATOR)
    check = EndpointCheck(EndpointPolicy(LOOPBACK_NETWORKS), resolve=names.resolve)
    async with conformance_market(authority, check) as market:
        runner = ConformanceRunner(plane.engine, market)
        parts = RegistryParts(
            runner,
            endpoints=check,
            publication_needs_operator=True,
            publication_needs_certification=True,
        )
        plane.serve("ServiceRegistryService", ServiceRegistry(Commands(plane.engine), parts))
        plane.runner = runner
        yield plane
        await runner.close()


@pytest.fixture
async def provider(make_identity: MakeIdentity) -> AsyncIterator[Listening]:
    """Start a provider that keeps to the interface."""
    made = ConformingProvider(interface(INTERFACE_BODY))
    port = (await made.start(make_identity("volt"))).rpartition(":")[2]
    yield Listening(made, f"{NAME}:{port}")
    await made.stop()


async def ask(plane: ControlPlane, who: str, method: str, **fields: Any) -> Any:
    """Call a method of the registry."""
    return await plane.ask(who, f"ServiceRegistryService/{method}", **fields)


async def checked(plane: ControlPlane, service: Any) -> Any:
    """Have a service checked; gives the report."""
    begun = await ask(plane, "volt", "RunConformance", service_id=service.service_id)
    await plane.runner.wait(begun.report.run_id)
    return (await ask(plane, "volt", "GetConformanceReport", run_id=begun.report.run_id)).report


async def at_name(plane: ControlPlane, provider: Listening) -> Any:
    """Register a service whose endpoint is a name."""
    return await plane.register_service("volt", endpoint=provider.endpoint)


@pytest.mark.usecase(1494)
async def test_certification_is_asked_for_first_and_looked_at_again_when_the_operator_approves(
    plane: ControlPlane, provider: Listening
) -> None:
    service = await at_name(plane, provider)
    wanted = {"service_id": service.service_id}
    for who in ("volt", TECHNICAL):
        with pytest.raises(MarketError, match="certif", check=NOT_NOW):
            await ask(plane, who, "PublishService", **wanted)
    shown = (await ask(plane, "volt", "GetService", **wanted)).service
    assert shown.state == ServiceState.SERVICE_STATE_REGISTERED, "nothing was asked for"

    report = await checked(plane, service)
    await ask(plane, TECHNICAL, "CertifyService", run_id=report.run_id)
    asked = (await ask(plane, "volt", "PublishService", **wanted)).service
    assert asked.state == ServiceState.SERVICE_STATE_PUBLICATION_REQUESTED
    revoke = {"reason": "Its health check lies.", **wanted}
    await ask(plane, TECHNICAL, "RevokeCertification", **revoke)
    with pytest.raises(MarketError, match="certif", check=NOT_NOW):
        await ask(plane, TECHNICAL, "PublishService", **wanted)

    again = await checked(plane, service)
    await ask(plane, TECHNICAL, "CertifyService", run_id=again.run_id)
    done = (await ask(plane, TECHNICAL, "PublishService", **wanted)).service
    assert done.state == ServiceState.SERVICE_STATE_PUBLISHED


@pytest.mark.usecase(1494)
async def test_an_endpoint_that_moves_while_the_operator_thinks_is_certified_anew(
    plane: ControlPlane, provider: Listening
) -> None:
    service = await at_name(plane, provider)
    wanted = {"service_id": service.service_id}
    report = await checked(plane, service)
    await ask(plane, TECHNICAL, "CertifyService", run_id=report.run_id)
    await ask(plane, "volt", "PublishService", **wanted)
    await ask(plane, "volt", "ChangeServiceEndpoint", endpoint="127.0.0.1:9", **wanted)
    with pytest.raises(MarketError, match="certif", check=NOT_NOW):
        await ask(plane, TECHNICAL, "PublishService", **wanted)
    shown = (await ask(plane, TECHNICAL, "GetService", **wanted)).service
    assert shown.state == ServiceState.SERVICE_STATE_PUBLICATION_REQUESTED


@pytest.mark.parametrize("inside", [["10.0.0.7"], ["169.254.169.254"], ["127.0.0.1", "10.0.0.7"]])
async def test_a_name_that_leads_inside_by_the_time_of_the_run_is_not_called(
    plane: ControlPlane, provider: Listening, names: Names, inside: list[str]
) -> None:
    service = await at_name(plane, provider)
    names.addresses, names.asked = inside, []
    report = await checked(plane, service)
    assert report.state == wire.CONFORMANCE_STATE_FAILED
    assert names.asked == [NAME]
    certificate, nothing = report.checks
    assert certificate.kind == wire.CONFORMANCE_CHECK_KIND_CERTIFICATE
    assert certificate.detail == "the endpoint is at an address that this market does not call"
    assert nothing.outcome == wire.CONFORMANCE_OUTCOME_SKIPPED
    assert provider.provider.calls == []
    with pytest.raises(MarketError, check=NOT_NOW):
        await ask(plane, TECHNICAL, "CertifyService", run_id=report.run_id)


async def test_a_name_without_an_address_by_the_time_of_the_run_is_told_apart(
    plane: ControlPlane, provider: Listening, names: Names
) -> None:
    service = await at_name(plane, provider)
    names.addresses = []
    report = await checked(plane, service)
    assert report.state == wire.CONFORMANCE_STATE_FAILED
    assert report.checks[0].detail == "the endpoint's name has no address"
