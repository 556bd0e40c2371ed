"""The part of ServiceRegistryService that checks and certifies services (feature 1501)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from gem.marketplace.v1 import certification_pb2 as wire
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.certification import (
    CertificationEvent,
    certification_notice,
    check_may_certify,
    not_certified,
)
from marketplace.certification_rendering import (
    render_certification,
    render_event,
    render_run,
)
from marketplace.conformance import ConformanceState, Run, check_consent, check_may_run
from marketplace.conformance_runner import ConformanceRunner
from marketplace.notice import NoticeKind
from marketplace.service import Service
from marketplace.service_registry_servicer import check_visible
from marketplace.storage_certification import CertificationStorage
from marketplace.storage_command import Commands, Work
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_number
from marketplace.storage_service import ServiceStorage


class CertificationServicer:
    """Runs conformance checks, shows their reports, certifies and revokes."""

    def __init__(
        self,
        commands: Commands,
        runner: ConformanceRunner,
        make_id: Callable[[], str],
        run_age_max: timedelta,
    ) -> None:
        self._commands = commands
        self._runner = runner
        self._make_id = make_id
        self._run_age_max = run_age_max

    async def RunConformance(  # noqa: N802  # the rpc's name
        self, request: wire.RunConformanceRequest, call: Call
    ) -> wire.RunConformanceResponse:
        """Begin a run; it is made in this worker's background."""
        begun: list[Run] = []

        async def work(w: Work) -> wire.RunConformanceResponse:
            service = await ServiceStorage(w.connection).locked(request.service_id)
            _check_own(w, service)
            check_consent(w.actor, include_side_effects=request.include_side_effects)
            storage = CertificationStorage(w.connection)
            is_running, today = await storage.recent(service.service_id, w.now)
            check_may_run(is_running=is_running, runs_today=today)
            self._runner.check_room()
            run = Run(
                run_id=self._make_id(),
                service_id=service.service_id,
                endpoint=service.endpoint,
                interface_name=service.interface_name,
                interface_version=service.interface_version,
                include_side_effects=request.include_side_effects,
                state=ConformanceState.RUNNING,
                requested_by=w.actor.name,
                started_at=w.now,
            )
            await storage.start(run, self._runner.overdue_at())
            begun.append(run)
            return wire.RunConformanceResponse(report=render_run(run, ()))

        response = wire.RunConformanceResponse
        answer = await self._commands.run(request, call, response, work)
        # A repetition has begun nothing.
        for run in begun:
            self._runner.start(run)
        return answer

    async def GetConformanceReport(  # noqa: N802  # the rpc's name
        self, request: wire.GetConformanceReportRequest, call: Call
    ) -> wire.GetConformanceReportResponse:
        """Give a run with its checks."""
        async with self._commands.read(call) as w:
            storage = CertificationStorage(w.connection)
            run = await storage.get(request.run_id)
            service = await ServiceStorage(w.connection).get(run.service_id)
            if not w.actor.may_see(service.provider_id):
                raise not_found("conformance report")
            checks = await storage.checks(run.run_id)
        return wire.GetConformanceReportResponse(report=render_run(run, checks))

    async def ListConformanceReports(  # noqa: N802  # the rpc's name
        self, request: wire.ListConformanceReportsRequest, call: Call
    ) -> wire.ListConformanceReportsResponse:
        """List the runs of a service, the latest first."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            _check_own(w, await ServiceStorage(w.connection).get(request.service_id))
            runs, info = await CertificationStorage(w.connection).page(page, request.service_id)
        rendered = (render_run(run, ()) for run in runs)
        return wire.ListConformanceReportsResponse(reports=rendered, page=info)

    async def CertifyService(  # noqa: N802  # the rpc's name
        self, request: wire.CertifyServiceRequest, call: Call
    ) -> wire.CertifyServiceResponse:
        """Certify a service on a run that passed."""

        async def work(w: Work) -> wire.CertifyServiceResponse:
            storage = CertificationStorage(w.connection)
            run = await storage.get(request.run_id)
            service = await ServiceStorage(w.connection).locked(run.service_id)
            known = await storage.in_force(service.service_id)
            check_may_certify(
                service, run, w.now, self._run_age_max, is_certified=known is not None
            )
            await storage.certify(run, w.now)
            event = CertificationEvent.CERTIFIED
            await storage.remember(service.service_id, event, w.actor.name, w.now, run.run_id)
            kind = NoticeKind.SERVICE_CERTIFIED
            await tell(w.connection, [certification_notice(service, kind, "", w.now)])
            row = await storage.in_force(service.service_id)
            return wire.CertifyServiceResponse(certification=render_certification(row, whole=True))

        response = wire.CertifyServiceResponse
        return await self._commands.run(request, call, response, work)

    async def RevokeCertification(  # noqa: N802  # the rpc's name
        self, request: wire.RevokeCertificationRequest, call: Call
    ) -> wire.RevokeCertificationResponse:
        """Revoke the certification in force."""

        async def work(w: Work) -> wire.RevokeCertificationResponse:
            service = await ServiceStorage(w.connection).locked(request.service_id)
            storage = CertificationStorage(w.connection)
            run_id = await storage.revoke(service.service_id, w.now)
            if run_id is None:
                raise not_certified()
            await storage.remember(
                service.service_id,
                CertificationEvent.REVOKED,
                w.actor.name,
                w.now,
                run_id,
                request.reason,
            )
            kind = NoticeKind.CERTIFICATION_REVOKED
            await tell(w.connection, [certification_notice(service, kind, request.reason, w.now)])
            return wire.RevokeCertificationResponse()

        response = wire.RevokeCertificationResponse
        return await self._commands.run(request, call, response, work)

    async def GetCertification(  # noqa: N802  # the rpc's name
        self, request: wire.GetCertificationRequest, call: Call
    ) -> wire.GetCertificationResponse:
        """Say since when a service is certified, where it is."""
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            check_visible(service, w.actor)
            row = await CertificationStorage(w.connection).in_force(service.service_id)
            whole = w.actor.may_see(service.provider_id)
        if row is None:
            return wire.GetCertificationResponse()
        return wire.GetCertificationResponse(certification=render_certification(row, whole=whole))

    async def ListCertificationEvents(  # noqa: N802  # the rpc's name
        self, request: wire.ListCertificationEventsRequest, call: Call
    ) -> wire.ListCertificationEventsResponse:
        """List the history of a service's runs and certification."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            _check_own(w, await ServiceStorage(w.connection).get(request.service_id))
            rows, info = await CertificationStorage(w.connection).events(page, request.service_id)
        return wire.ListCertificationEventsResponse(events=map(render_event, rows), page=info)


def _check_own(w: Work, service: Service) -> None:
    if not w.actor.may_see(service.provider_id):
        raise not_found("service")
