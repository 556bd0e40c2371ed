"""Who may have a service checked, what certifies it, and what takes that away (feature 1501)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.marketplace.v1 import certification_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.conformance import (
    ENDS,
    RUNS_A_DAY_MAX,
    Check,
    CheckKind,
    ConformanceState,
    Outcome,
    verdict,
)
from marketplace.service_registry import RegistryParts, ServiceRegistry
from marketplace.storage_certification import CertificationStorage, is_certified
from marketplace.storage_command import Commands
from tests.conforming_provider import ConformingProvider
from tests.control_plane import (
    BUSINESS,
    EVSE_OPERATOR,
    INTERFACE_BODY,
    TECHNICAL,
    ControlPlane,
)
from tests.hostile_provider import HostileProvider, Mode, server_tls
from tests.identities import MakeIdentity
from tests.interceptors.support import raises
from tests.interfaces import interface

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
_REGISTRY = "ServiceRegistryService"


@pytest.fixture
async def endpoint(make_identity: MakeIdentity) -> AsyncIterator[str]:
    """Give the endpoint of a provider that keeps to the interface."""
    provider = ConformingProvider(interface(INTERFACE_BODY))
    yield await provider.start(make_identity("volt"))
    await provider.stop()


@pytest.fixture
async def plane(plane: ControlPlane) -> ControlPlane:
    """Give a market with an interface, a provider, another one and a requester."""
    await plane.market()
    await plane.partner("volt", EVSE_OPERATOR)
    await plane.partner("ampere", EVSE_OPERATOR)
    return plane


async def begun(plane: ControlPlane, service: Any, who: str = "volt", **fields: Any) -> Any:
    """Begin a run; gives the report as it is then."""
    method = f"{_REGISTRY}/RunConformance"
    return (await plane.ask(who, method, service_id=service.service_id, **fields)).report


async def report_of(plane: ControlPlane, run_id: str, who: str = "volt") -> Any:
    """Give a report."""
    return (await plane.ask(who, f"{_REGISTRY}/GetConformanceReport", run_id=run_id)).report


async def passed(plane: ControlPlane, service: Any, who: str = "volt") -> Any:
    """Have a service checked; gives the report of a run that passed."""
    run = await begun(plane, service, who)
    await plane.runner.wait(run.run_id)
    report = await report_of(plane, run.run_id)
    assert report.state == wire.CONFORMANCE_STATE_PASSED
    return report


async def certify(plane: ControlPlane, report: Any) -> Any:
    """Certify a service on a run."""
    method = f"{_REGISTRY}/CertifyService"
    return (await plane.ask(TECHNICAL, method, run_id=report.run_id)).certification


async def certification(plane: ControlPlane, service: Any, who: str = "volt") -> Any:
    """Ask whether a service is certified."""
    method = f"{_REGISTRY}/GetCertification"
    return await plane.ask(who, method, service_id=service.service_id)


async def history(plane: ControlPlane, service: Any) -> list[str]:
    """Give the kinds of what happened."""
    method = f"{_REGISTRY}/ListCertificationEvents"
    events = (await plane.ask("volt", method, service_id=service.service_id)).events
    names = [wire.CertificationEventKind.Name(event.kind) for event in events]
    return [name.removeprefix("CERTIFICATION_EVENT_KIND_") for name in names]


async def notices(plane: ControlPlane) -> list[tuple[str, str]]:
    """Give title and text of what the provider was told."""
    listed = await plane.ask("volt", "NotificationService/ListNotifications")
    return [
        (each.title, each.text)
        for each in reversed(listed.notifications)
        if each.title.startswith(("Conformance", "Service cert", "Certification"))
    ]


async def test_strangers_and_business_operators_have_nothing_checked(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    for who in ("ampere", "evsp"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await begun(plane, service, who)
    with pytest.raises(MarketError, check=FORBIDDEN):
        await begun(plane, service, BUSINESS)
    published = await plane.service("volt")
    with pytest.raises(MarketError, check=NOT_FOUND):
        await begun(plane, published, "ampere")


async def test_only_the_provider_agrees_to_side_effects(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    with pytest.raises(MarketError, check=FORBIDDEN):
        await begun(plane, service, TECHNICAL, include_side_effects=True)
    assert await history(plane, service) == []


async def test_reports_are_for_the_provider_and_the_operators(
    plane: ControlPlane, endpoint: str
) -> None:
    service = await plane.service("volt", endpoint=endpoint)
    report = await passed(plane, service, TECHNICAL)
    assert report.requested_by == "operator/technical"
    for who in ("volt", TECHNICAL, BUSINESS):
        assert await report_of(plane, report.run_id, who) == report
        method = f"{_REGISTRY}/ListConformanceReports"
        (listed,) = (await plane.ask(who, method, service_id=service.service_id)).reports
        assert (listed.run_id, len(listed.checks)) == (report.run_id, 0)
    for who in ("ampere", "evsp"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await report_of(plane, report.run_id, who)
        for method in ("ListConformanceReports", "ListCertificationEvents"):
            with pytest.raises(MarketError, check=NOT_FOUND):
                await plane.ask(who, f"{_REGISTRY}/{method}", service_id=service.service_id)


async def test_a_repetition_gives_the_first_run_and_begins_no_other(
    plane: ControlPlane, endpoint: str
) -> None:
    service = await plane.register_service("volt", endpoint=endpoint)
    first = await begun(plane, service, request_id="again")
    await plane.runner.wait(first.run_id)
    assert await begun(plane, service, request_id="again") == first
    assert await history(plane, service) == ["RUN_STARTED", "RUN_PASSED"]


async def test_a_service_is_checked_once_at_a_time(
    plane: ControlPlane, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    hostile = HostileProvider(server_tls(make_identity("volt"), tmp_path), Mode.HANGS)
    service = await plane.register_service("volt", endpoint=await hostile.start())
    asked = await asyncio.gather(*(begun(plane, service) for _ in range(3)), return_exceptions=True)
    (run,) = (each for each in asked if not isinstance(each, BaseException))
    refused = [each for each in asked if isinstance(each, MarketError)]
    assert [each.reason for each in refused] == [ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED] * 2
    # A worker that stops abandons what it has begun.
    await plane.runner.close()
    await hostile.stop()
    report = await report_of(plane, run.run_id)
    assert report.state == wire.CONFORMANCE_STATE_ABANDONED
    assert list(report.checks) == []
    assert await history(plane, service) == ["RUN_STARTED", "RUN_ABANDONED"]


async def test_the_runs_of_a_day_are_counted(plane: ControlPlane, endpoint: str) -> None:
    service = await plane.register_service("volt", endpoint=endpoint)
    report = await passed(plane, service)
    async with plane.engine.begin() as connection:
        storage = CertificationStorage(connection)
        run = await storage.get(report.run_id)
        for number in range(RUNS_A_DAY_MAX - 1):
            begins = {"run_id": f"run-{number}", "state": ConformanceState.PASSED}
            values = {name: getattr(run, name) for name in run.__slots__} | begins
            await storage.start(type(run)(**values), utc_now())
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_TOO_MANY_CALLS)):
        await begun(plane, service)
    plane.now = utc_now() + timedelta(days=1, minutes=1)
    await passed(plane, service)


@pytest.mark.fault
async def test_a_run_whose_worker_died_is_abandoned_and_the_service_can_be_checked_again(
    plane: ControlPlane, endpoint: str
) -> None:
    service = await plane.register_service("volt", endpoint=endpoint)
    run = await passed(plane, service)
    async with plane.engine.begin() as connection:
        storage = CertificationStorage(connection)
        before = await storage.get(run.run_id)
        lost = {"run_id": "lost", "state": ConformanceState.RUNNING, "ended_at": None}
        values = {name: getattr(before, name) for name in before.__slots__} | lost
        await storage.start(type(before)(**values), utc_now() + timedelta(seconds=30))
    assert await plane.runner.sweep() == 0
    plane.now = utc_now() + timedelta(seconds=31)
    assert sum(await asyncio.gather(plane.runner.sweep(), plane.runner.sweep())) >= 1
    assert (await report_of(plane, "lost")).state == wire.CONFORMANCE_STATE_ABANDONED
    assert (await history(plane, service)).count("RUN_ABANDONED") == 1
    titles = [title for title, _ in await notices(plane)]
    assert titles == ["Conformance run passed", "Conformance run was not brought to its end"]
    await passed(plane, service)


async def test_a_service_is_certified_on_a_run_that_passed_and_everybody_sees_since_when(
    plane: ControlPlane, endpoint: str
) -> None:
    service = await plane.service("volt", endpoint=endpoint)
    assert not (await certification(plane, service, "evsp")).HasField("certification")
    report = await passed(plane, service)
    made = await certify(plane, report)
    assert (made.service_id, made.run_id) == (service.service_id, report.run_id)
    seen = (await certification(plane, service, "evsp")).certification
    assert seen.certify_time == made.certify_time
    assert (seen.interface_name, seen.interface_version) == (service.interface_name, 1)
    assert seen.run_id == ""
    assert (await certification(plane, service)).certification == made
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await certify(plane, report)
    assert await history(plane, service) == ["RUN_STARTED", "RUN_PASSED", "CERTIFIED"]
    told = [title for title, _ in await notices(plane)]
    assert told == ["Conformance run passed", "Service certified"]


async def test_hidden_services_hide_their_certification(plane: ControlPlane, endpoint: str) -> None:
    service = await plane.register_service("volt", endpoint=endpoint)
    await certify(plane, await passed(plane, service))
    with pytest.raises(MarketError, check=NOT_FOUND):
        await certification(plane, service, "evsp")


async def test_runs_that_failed_or_are_old_or_of_another_endpoint_certify_nothing(
    plane: ControlPlane, endpoint: str
) -> None:
    service = await plane.register_service("volt", endpoint="127.0.0.1:1")
    failed = await begun(plane, service)
    await plane.runner.wait(failed.run_id)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await certify(plane, failed)
    move = f"{_REGISTRY}/ChangeServiceEndpoint"
    await plane.ask("volt", move, service_id=service.service_id, endpoint=endpoint)
    report = await passed(plane, service)
    plane.now = utc_now() + timedelta(days=31)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await certify(plane, report)
    plane.now = None
    elsewhere = endpoint.replace("127.0.0.1", "localhost")
    await plane.ask("volt", move, service_id=service.service_id, endpoint=elsewhere)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await certify(plane, report)
    assert "CERTIFIED" not in await history(plane, service)


async def test_a_certification_falls_with_the_endpoint_and_does_not_come_back_with_it(
    plane: ControlPlane, endpoint: str
) -> None:
    service = await plane.service("volt", endpoint=endpoint)
    await certify(plane, await passed(plane, service))
    move = f"{_REGISTRY}/ChangeServiceEndpoint"
    await plane.ask("volt", move, service_id=service.service_id, endpoint=endpoint)
    assert (await certification(plane, service)).HasField("certification")
    for place in ("127.0.0.1:1", endpoint):
        await plane.ask("volt", move, service_id=service.service_id, endpoint=place)
        assert not (await certification(plane, service)).HasField("certification")
    assert (await history(plane, service))[2:] == ["CERTIFIED", "FELL"]
    async with plane.engine.connect() as connection:
        assert not await is_certified(connection, service.service_id)
    # The endpoint is the one that was checked, and the run is recent.
    method = f"{_REGISTRY}/ListConformanceReports"
    (report,) = (await plane.ask("volt", method, service_id=service.service_id)).reports
    assert (await certify(plane, report)).run_id == report.run_id


async def test_the_operator_revokes_with_a_reason_that_the_provider_hears(
    plane: ControlPlane, endpoint: str
) -> None:
    service = await plane.service("volt", endpoint=endpoint)
    revoke = f"{_REGISTRY}/RevokeCertification"
    fields = {"service_id": service.service_id, "reason": "It answers too late."}
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await plane.ask(TECHNICAL, revoke, **fields)
    await certify(plane, await passed(plane, service))
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await plane.ask(TECHNICAL, revoke, service_id=service.service_id, reason="")
    with pytest.raises(MarketError, check=FORBIDDEN):
        await plane.ask("volt", revoke, **fields)
    await plane.ask(TECHNICAL, revoke, **fields)
    assert not (await certification(plane, service)).HasField("certification")
    title, text = (await notices(plane))[-1]
    assert title == "Certification revoked"
    assert text.endswith("was revoked: It answers too late.")
    assert (await history(plane, service))[-1] == "REVOKED"


async def test_of_two_who_certify_one_wins(plane: ControlPlane, endpoint: str) -> None:
    service = await plane.service("volt", endpoint=endpoint)
    report = await passed(plane, service)
    results = await asyncio.gather(
        *(certify(plane, report) for _ in range(2)), return_exceptions=True
    )
    (lost,) = (each for each in results if isinstance(each, BaseException))
    assert isinstance(lost, MarketError)
    assert lost.reason == ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED
    assert (await history(plane, service)).count("CERTIFIED") == 1


async def test_where_publication_needs_certification_it_comes_first(
    plane: ControlPlane, endpoint: str
) -> None:
    parts = RegistryParts(
        plane.runner, endpoints=plane.endpoints, publication_needs_certification=True
    )
    plane.serve("ServiceRegistryService", ServiceRegistry(Commands(plane.engine), parts))
    service = await plane.register_service("volt", endpoint=endpoint)
    publish = f"{_REGISTRY}/PublishService"
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await plane.ask(TECHNICAL, publish, service_id=service.service_id)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.ask(TECHNICAL, publish, service_id="nobody")
    await certify(plane, await passed(plane, service))
    answer = await plane.ask(TECHNICAL, publish, service_id=service.service_id)
    assert answer.service.service_id == service.service_id


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([], ConformanceState.FAILED),
        ([Outcome.SKIPPED, Outcome.NOT_APPLICABLE], ConformanceState.FAILED),
        ([Outcome.PASSED, Outcome.FAILED], ConformanceState.FAILED),
        ([Outcome.PASSED, Outcome.SKIPPED, Outcome.NOT_APPLICABLE], ConformanceState.PASSED),
    ],
)
def test_one_failed_check_fails_a_run_and_nothing_passes_by_silence(
    outcomes: list[Outcome], state: ConformanceState
) -> None:
    checks = [Check(CheckKind.HEALTH, "", outcome, "words") for outcome in outcomes]
    assert verdict(checks) is state


def test_a_run_ends_once() -> None:
    assert set(ENDS) == set(ConformanceState)
    for state, ends in ENDS.items():
        assert bool(ends) == (state is ConformanceState.RUNNING)
        assert ConformanceState.RUNNING not in ends
