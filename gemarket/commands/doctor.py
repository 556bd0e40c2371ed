"""`gemarket doctor`: names the reason when something does not connect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
import uvloop
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from foundation.settings import Settings
from gemarket import diagnosis
from gemarket.client import open_channel
from gemarket.console import output, rich_status, shown
from gemarket.diagnosis import Finding
from gemarket.endpoints import Endpoints, NotRunningError, Party, read_endpoints
from gemarket.layout import Layout
from gemarket.options import DataDir, layout_of

As = Annotated[str, typer.Option("--as", metavar="PARTNER", help="Whose connection to examine.")]


def doctor(*, caller: As = "", data_dir: DataDir = None) -> None:
    """Check settings, certificates, clock, ports, TLS, database and providers, one by one."""
    findings = []
    for finding in _examine(layout_of(data_dir), caller):
        findings.append(finding)
        mark = "[green]✓[/]" if finding.well else "[red]✗[/]"
        output.print(f"{mark} {shown(finding.check)}: {shown(finding.text)}", highlight=False)
        if finding.remedy:
            output.print(f"    → {shown(finding.remedy)}", highlight=False)
    ill = sum(not finding.well for finding in findings)
    words = "all is well" if not ill else f"{ill} of {len(findings)} checks failed"
    output.print(words)
    if ill:
        raise typer.Exit(1)


def _examine(layout: Layout, caller: str) -> Iterator[Finding]:
    yield _check_settings()
    try:
        endpoints = read_endpoints(layout.endpoints)
    except NotRunningError as error:
        yield Finding("endpoints", False, str(error), "start it with `gemarket up`")
        return
    yield Finding("endpoints", True, f"read {layout.endpoints.name}")
    yield from diagnosis.check_processes(endpoints.processes)
    yield from diagnosis.check_parties(endpoints)
    yield uvloop.run(diagnosis.check_database(endpoints.database_url))
    name = caller or next(iter(endpoints.partners), "business")
    try:
        party = endpoints.party(name)
    except KeyError as error:
        yield Finding("caller", False, str(error.args[0]), "name one of them")
        return
    yield from _check_listener(endpoints, name, party)
    yield from diagnosis.check_providers(endpoints, party)


def _check_settings() -> Finding:
    try:
        Settings()
    except (ValidationError, ValueError) as error:
        return Finding("settings", False, str(error), "correct the environment or gemarket.toml")
    return Finding("settings", True, "read")


def _check_listener(endpoints: Endpoints, name: str, party: Party) -> Iterator[Finding]:
    port = diagnosis.check_port("marketplace", endpoints.marketplace)
    yield port
    if not port.well:
        return
    host, _ = diagnosis.split_address(endpoints.marketplace)
    yield diagnosis.check_handshake("TLS of the marketplace", endpoints.marketplace, party, host)
    yield uvloop.run(_check_health(endpoints, name, party))


async def _check_health(endpoints: Endpoints, name: str, party: Party) -> Finding:
    check = f"health, asked as {name}"
    try:
        async with open_channel(endpoints.marketplace, party) as channel:
            request = health_pb2.HealthCheckRequest()
            response = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
    except aio.AioRpcError as error:
        text = f"{error.code().name}: {rich_status(error).message}"
        return Finding(check, False, text, "see the checks above; the first failure is the cause")
    except OSError as error:
        return Finding(check, False, f"files of {name}: {error.strerror}", "restore them")
    serving = response.status == health_pb2.HealthCheckResponse.SERVING
    text = "serving" if serving else "not serving: draining or starting"
    return Finding(check, serving, text, "" if serving else "wait, or see the workers' logs")
