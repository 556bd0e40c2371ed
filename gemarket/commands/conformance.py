"""`gemarket conformance`: have services checked, read reports, certify and revoke."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gem.marketplace.v1 import certification_pb2 as wire
from gemarket.administration import new_request_id
from gemarket.client import to_json
from gemarket.commands.registry import Json, run
from gemarket.console import errors, output, shown, table
from gemarket.options import As, DataDir

if TYPE_CHECKING:
    from gem.marketplace.v1.service_registry_service_pb2_grpc import (
        ServiceRegistryServiceAsyncStub,
    )

application = typer.Typer(help="Conformance runs and certification.", no_args_is_help=True)

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Service id.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a conformance run.")]
_GROUP = "conformance"
_TIMEOUT_S = 20.0
_POLL_S = 0.5
#: A run that waits for its turn and takes all its time.
_WAIT_S = 900.0


@application.command("run")
def run_checks(
    service: Service,
    *,
    include_side_effects: Annotated[
        bool, typer.Option(help="Also valid requests to methods that change something.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the end and show the report.")] = True,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Have a service checked; a run that did not pass ends with status 1."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = wire.RunConformanceRequest(
            request_id=new_request_id(),
            service_id=service,
            include_side_effects=include_side_effects,
        )
        report = (await stub.RunConformance(request, timeout=_TIMEOUT_S)).report
        if wait:
            with errors.status(f"checking {shown(report.endpoint)}"):
                report = await _ended(stub, report.run_id)
        _show_report(report, json=json)
        if wait and report.state != wire.CONFORMANCE_STATE_PASSED:
            raise typer.Exit(1)

    run(work, caller, data_dir, _GROUP)


@application.command("show")
def show(run_id: RunId, *, caller: As = "", json: Json = False, data_dir: DataDir = None) -> None:
    """Show a run with its checks."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = wire.GetConformanceReportRequest(run_id=run_id)
        answer = await stub.GetConformanceReport(request, timeout=_TIMEOUT_S)
        _show_report(answer.report, json=json)

    run(work, caller, data_dir, _GROUP)


@application.command("list")
def list_runs(
    service: Service, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """List the latest runs of a service."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = wire.ListConformanceReportsRequest(service_id=service)
        reports = (await stub.ListConformanceReports(request, timeout=_TIMEOUT_S)).reports
        if json:
            for report in reports:
                output.print_json(to_json(report))
        elif reports:
            rows = (
                (each.start_time.ToJsonString(), _word(wire.ConformanceState, each.state),
                 each.endpoint, each.requested_by, each.run_id)
                for each in reports
            )  # fmt: skip
            columns = ("started", "state", "endpoint", "asked by", "run")
            output.print(table("Conformance runs", columns, rows))
        else:
            output.print("The service was never checked.")

    run(work, caller, data_dir, _GROUP)


@application.command("certify")
def certify(
    run_id: RunId, *, caller: As = "technical", json: Json = False, data_dir: DataDir = None
) -> None:
    """Certify a service on a run that passed."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = wire.CertifyServiceRequest(request_id=new_request_id(), run_id=run_id)
        answer = await stub.CertifyService(request, timeout=_TIMEOUT_S)
        _show_certification(answer.certification, json=json)

    run(work, caller, data_dir, _GROUP)


@application.command("revoke")
def revoke(
    service: Service,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the provider.")],
    caller: As = "technical",
    data_dir: DataDir = None,
) -> None:
    """Revoke the certification of a service."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = wire.RevokeCertificationRequest(
            request_id=new_request_id(), service_id=service, reason=reason
        )
        await stub.RevokeCertification(request, timeout=_TIMEOUT_S)
        output.print("The certification is revoked.")

    run(work, caller, data_dir, _GROUP)


@application.command("status")
def status(
    service: Service, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Say since when a service is certified."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = wire.GetCertificationRequest(service_id=service)
        answer = await stub.GetCertification(request, timeout=_TIMEOUT_S)
        if json or answer.HasField("certification"):
            _show_certification(answer.certification, json=json)
        else:
            output.print("The service is not certified.")

    run(work, caller, data_dir, _GROUP)


async def _ended(stub: ServiceRegistryServiceAsyncStub, run_id: str) -> wire.ConformanceReport:
    """Wait for the end of a run; ValueError where it takes too long."""
    request = wire.GetConformanceReportRequest(run_id=run_id)
    try:
        async with asyncio.timeout(_WAIT_S):
            while True:
                report = (await stub.GetConformanceReport(request, timeout=_TIMEOUT_S)).report
                if report.state != wire.CONFORMANCE_STATE_RUNNING:
                    return report
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise ValueError(f"run {run_id} goes on: look at it later with `show`") from None


def _show_report(report: wire.ConformanceReport, *, json: bool) -> None:
    if json:
        output.print_json(to_json(report))
        return
    rows = (
        (
            _word(wire.ConformanceCheckKind, check.kind),
            check.method.rpartition("/")[2],
            _word(wire.ConformanceOutcome, check.outcome),
            f"{check.duration_us / 1000:.1f}",
            check.detail,
        )
        for check in report.checks
    )
    state = _word(wire.ConformanceState, report.state)
    columns = ("check", "method", "outcome", "ms", "what was seen")
    output.print(table(f"Run {report.run_id}: {state}", columns, rows))


def _show_certification(certification: wire.Certification, *, json: bool) -> None:
    if json:
        output.print_json(to_json(certification))
        return
    since = certification.certify_time.ToJsonString()
    name, version = certification.interface_name, certification.interface_version
    text = f"Certified since {since} for version {version} of {name}."
    output.print(shown(text), highlight=False, soft_wrap=True)


def _word(enum: Any, number: int) -> str:
    """Give a value in lower case words, without the name of its enum."""
    names = list(enum.keys())
    prefix = names[0].removesuffix("UNSPECIFIED")
    return str(enum.Name(number)).removeprefix(prefix).lower().replace("_", " ")
