"""Conformance runs against real endpoints over mutual TLS: every outcome in the report (1501)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckResponse

from foundation.certificates import (
    CertificateAuthority,
    new_key_and_csr,
    partner_uri,
    provider_dns_name,
)
from gem.marketplace.v1 import certification_pb2 as wire
from tests import relay_interface
from tests.conforming_provider import ConformingProvider
from tests.control_plane import EVSE_OPERATOR, TECHNICAL, ControlPlane
from tests.hostile_provider import HostileProvider, Mode, server_tls
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity

PASSED = wire.CONFORMANCE_OUTCOME_PASSED
FAILED = wire.CONFORMANCE_OUTCOME_FAILED
SKIPPED = wire.CONFORMANCE_OUTCOME_SKIPPED
NOT_APPLICABLE = wire.CONFORMANCE_OUTCOME_NOT_APPLICABLE
CERTIFICATE = wire.CONFORMANCE_CHECK_KIND_CERTIFICATE
HEALTH = wire.CONFORMANCE_CHECK_KIND_HEALTH
VALID = wire.CONFORMANCE_CHECK_KIND_VALID_REQUEST
INVALID = wire.CONFORMANCE_CHECK_KIND_INVALID_REQUEST
COMMANDS = {"OrderAll", "Order", "OrderFirst", "Upload"}

#: Runs the checks against an endpoint and gives the report.
Examine = Callable[..., Awaitable[Any]]
Serve = Callable[..., Awaitable[tuple[ConformingProvider, str]]]


@pytest.fixture
async def examine(plane: ControlPlane) -> Examine:
    """Register a service at an endpoint, have it checked by its provider, and wait for the end."""
    publish = "InterfaceCatalogService/PublishInterface"
    await plane.ask(TECHNICAL, publish, descriptor_set=relay_interface.descriptor_set())
    await plane.partner("volt", EVSE_OPERATOR)

    async def run(endpoint: str, **fields: Any) -> Any:
        service = await plane.register_service(
            "volt", interface_name=relay_interface.NAME, endpoint=endpoint
        )
        method = "ServiceRegistryService/RunConformance"
        begun = await plane.ask("volt", method, service_id=service.service_id, **fields)
        assert begun.report.state == wire.CONFORMANCE_STATE_RUNNING
        await plane.runner.wait(begun.report.run_id)
        method = "ServiceRegistryService/GetConformanceReport"
        return (await plane.ask("volt", method, run_id=begun.report.run_id)).report

    return run


@pytest.fixture
async def serve(make_identity: MakeIdentity) -> AsyncIterator[Serve]:
    """Start providers that keep to the relay interface, but for what a test says."""
    async with AsyncExitStack() as stack:

        async def start(
            identity: Identity | None = None, **mischief: Any
        ) -> tuple[ConformingProvider, str]:
            provider = ConformingProvider(relay_interface.compiled(), **mischief)
            endpoint = await provider.start(identity or make_identity("volt"))
            stack.push_async_callback(provider.stop)
            return provider, endpoint

        yield start


def outcomes(report: Any, kind: int) -> dict[str, int]:
    """Give the outcome by method of the checks of a kind."""
    return {
        check.method.rpartition("/")[2]: check.outcome
        for check in report.checks
        if check.kind == kind
    }


def detail(report: Any, kind: int, method: str = "") -> str:
    """Give the words about one check."""
    (found,) = (
        check.detail
        for check in report.checks
        if check.kind == kind and check.method.rpartition("/")[2] == method
    )
    return str(found)


async def test_a_service_that_keeps_to_its_interface_passes_and_commands_wait_for_consent(
    examine: Examine, serve: Serve
) -> None:
    provider, endpoint = await serve()
    report = await examine(endpoint)
    assert report.state == wire.CONFORMANCE_STATE_PASSED
    assert outcomes(report, CERTIFICATE) == {"": PASSED}
    assert outcomes(report, HEALTH) == {"": PASSED}
    valid = outcomes(report, VALID)
    assert {name for name, outcome in valid.items() if outcome == SKIPPED} == COMMANDS
    assert set(valid.values()) == {PASSED, SKIPPED}
    assert set(outcomes(report, INVALID).values()) == {PASSED}
    assert len(report.checks) == 2 + 2 * len(relay_interface.compiled().methods)
    assert all(check.duration_us > 0 for check in report.checks if check.outcome == PASSED)
    assert {call["gem-conformance"] for _, call in provider.calls} == {"true"}
    assert {call["requester"] for _, call in provider.calls} == {"gem.conformance"}
    # The invalid requests of commands only: nothing valid was sent to them.
    assert sorted(name for name, _ in provider.calls if name in COMMANDS) == sorted(COMMANDS)


async def test_a_provider_that_agrees_has_its_commands_checked(
    examine: Examine, serve: Serve
) -> None:
    _, endpoint = await serve()
    report = await examine(endpoint, include_side_effects=True)
    assert report.state == wire.CONFORMANCE_STATE_PASSED
    assert set(outcomes(report, VALID).values()) == {PASSED}
    assert report.include_side_effects


async def test_what_a_made_up_request_may_be_refused_with_is_no_failure(
    examine: Examine, serve: Serve
) -> None:
    refuses = {"GetByKey": StatusCode.NOT_FOUND}
    report = await examine((await serve(refuses=refuses))[1])
    assert outcomes(report, VALID)["GetByKey"] == PASSED
    assert "NOT_FOUND" in detail(report, VALID, "GetByKey")
    assert outcomes(report, INVALID)["GetByKey"] == FAILED
    assert report.state == wire.CONFORMANCE_STATE_FAILED


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.INVALID_ARGUMENT,
        StatusCode.INTERNAL,
        StatusCode.UNIMPLEMENTED,
        StatusCode.ABORTED,
    ],
)
async def test_a_valid_request_that_is_refused_fails_in_our_words(
    examine: Examine, serve: Serve, code: StatusCode
) -> None:
    report = await examine((await serve(refuses={"Get": code}))[1])
    assert report.state == wire.CONFORMANCE_STATE_FAILED
    assert outcomes(report, VALID)["Get"] == FAILED
    assert detail(report, VALID, "Get") == f"refused with {code.name}"
    assert "no report repeats" not in str(report)
    assert outcomes(report, VALID)["Search"] == PASSED


async def test_invalid_requests_that_are_answered_fail(examine: Examine, serve: Serve) -> None:
    report = await examine((await serve(careless={"Get", "Upload"}))[1])
    wrong = {name for name, outcome in outcomes(report, INVALID).items() if outcome == FAILED}
    assert wrong == {"Get", "Upload"}
    assert detail(report, INVALID, "Get") == "an invalid request was answered"


@pytest.mark.parametrize("name", ["Get", "Watch", "Chat"])
async def test_answers_that_break_the_interface_fail(
    examine: Examine, serve: Serve, name: str
) -> None:
    report = await examine((await serve(says={name: b"\xff" * 40}))[1])
    assert outcomes(report, VALID)[name] == FAILED
    assert "breaks a rule" in detail(report, VALID, name)


async def test_a_stream_may_stay_open(examine: Examine, serve: Serve) -> None:
    report = await examine((await serve(lasting={"Watch"}))[1])
    assert outcomes(report, VALID)["Watch"] == PASSED
    assert "stayed open" in detail(report, VALID, "Watch")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "has no service grpc.health.v1.Health"),
        (HealthCheckResponse.NOT_SERVING, "does not say SERVING"),
    ],
)
async def test_a_service_without_health_fails_and_its_methods_are_checked(
    examine: Examine, serve: Serve, status: Any, words: str
) -> None:
    report = await examine((await serve(health=status))[1])
    assert report.state == wire.CONFORMANCE_STATE_FAILED
    assert outcomes(report, HEALTH) == {"": FAILED}
    assert words in detail(report, HEALTH)
    assert FAILED not in outcomes(report, VALID).values()


def issued(
    authority: CertificateAuthority, partner_id: str, lifetime: timedelta = timedelta(days=30)
) -> Identity:
    """Have a provider's certificate issued, by whichever authority and for however long."""
    key, csr = new_key_and_csr(partner_id)
    uri, name = partner_uri(TRUST_DOMAIN, partner_id), provider_dns_name(TRUST_DOMAIN, partner_id)
    certificate = authority.issue_from_csr(csr, uri, (name,), lifetime, server=True)
    return Identity(key, certificate, authority.root_pem)


async def test_a_certificate_that_proves_nothing_fails_and_nothing_is_sent(
    examine: Examine,
    serve: Serve,
    authority: CertificateAuthority,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stranger = CertificateAuthority.create(tmp_path_factory.mktemp("stranger") / "ca", TRUST_DOMAIN)
    for identity, words in (
        (issued(authority, "ampere"), "not the provider's"),
        (issued(stranger, "volt"), "does not lead to the market's authority"),
        (issued(authority, "volt", timedelta(hours=2)), "less than 24 hours"),
    ):
        provider, endpoint = await serve(identity)
        report = await examine(endpoint)
        assert report.state == wire.CONFORMANCE_STATE_FAILED
        assert words in detail(report, CERTIFICATE)
        assert outcomes(report, HEALTH) == {"": SKIPPED}
        assert len(report.checks) == 2
        assert provider.calls == []


async def test_nobody_at_the_endpoint_fails(examine: Examine) -> None:
    report = await examine("127.0.0.1:1")
    assert detail(report, CERTIFICATE) in (
        "the endpoint is out of reach",
        "the endpoint broke the TLS handshake off",
    )
    assert report.state == wire.CONFORMANCE_STATE_FAILED


@pytest.mark.fault
@pytest.mark.parametrize(
    "mode",
    [
        Mode.HANGS,
        Mode.SLOW_DRIP,
        Mode.GARBAGE_FRAMES,
        Mode.GARBAGE_MESSAGE,
        Mode.RST_IN_DATA,
        Mode.GOAWAY,
        Mode.OVERSIZE,
        Mode.GZIP_BOMB,
        Mode.NO_TRAILERS,
        Mode.HTTP_ERROR,
        Mode.CLOSES_AT_ONCE,
    ],
)
async def test_a_hostile_endpoint_fails_and_the_run_ends(
    examine: Examine, make_identity: MakeIdentity, tmp_path: Path, mode: Mode
) -> None:
    hostile = HostileProvider(server_tls(make_identity("volt"), tmp_path), mode)
    endpoint = await hostile.start()
    try:
        report = await examine(endpoint)
    finally:
        await hostile.stop()
    assert report.state == wire.CONFORMANCE_STATE_FAILED
    assert outcomes(report, CERTIFICATE) == {"": PASSED}
    assert outcomes(report, HEALTH) == {"": FAILED}
    assert PASSED not in outcomes(report, VALID).values()
    assert all(check.detail for check in report.checks)
