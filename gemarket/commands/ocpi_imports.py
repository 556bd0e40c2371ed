"""`gemarket import ocpi-…`: tokens, tariffs, sessions and records for a clearing house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from grpc import aio
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from clearinghouse.local_clock import zone_of
from clearinghouse.ocpi_exchange import (
    RECORDS,
    SESSIONS,
    TARIFFS,
    TOKENS,
    OcpiKind,
    OcpiObject,
    read_objects,
)
from clearinghouse.ocpi_token import as_contracts
from foundation.import_report import DefectReport, Place
from foundation.ocpi_version import V2_2_1, V2_3_0, VERSIONS
from gemarket.client import open_channel
from gemarket.commands.ending import ending
from gemarket.console import errors, output, table
from gemarket.defects import AllDefects, kept_and_skipped, show_defects
from gemarket.endpoints import read_endpoints
from gemarket.kept_aside import keep_aside
from gemarket.ocpi_submission import Outcome, Submission
from gemarket.options import DataDir, layout_of

_MOST_REFUSALS = 50

Files = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, metavar="FILE…")]
As = Annotated[str, typer.Option("--as", metavar="PARTNER", help="Partner id that hands in.")]
Provider = Annotated[str, typer.Option(help="Partner id of the clearing house, if not the only.")]
Aside = Annotated[
    Path | None, typer.Option(help="File for what the market has no field for; see export.")
]


class VersionName(StrEnum):
    """The versions that can be named."""

    V2_2_1 = V2_2_1.name
    V2_3_0 = V2_3_0.name


Version = Annotated[VersionName, typer.Option("--ocpi", help="Version of OCPI.")]
Objects = list[OcpiObject[Any]]
Send = Callable[[Submission, Objects, DefectReport], Awaitable[Outcome]]


def add_ocpi_imports(application: typer.Typer) -> None:
    """Add the commands to those of `gemarket import`."""
    application.command("ocpi-tokens")(ocpi_tokens)
    application.command("ocpi-tariffs")(ocpi_tariffs)
    application.command("ocpi-sessions")(ocpi_sessions)
    application.command("ocpi-cdrs")(ocpi_cdrs)


def ocpi_tokens(
    files: Files,
    *,
    caller: As,
    full: Annotated[bool, typer.Option("--full", help="Disable what no file names.")] = False,
    atomic: Annotated[bool, typer.Option("--atomic", help="All or nothing.")] = False,
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Load tokens of an EVSP's customers, as contracts."""

    async def send(submission: Submission, objects: Objects, report: DefectReport) -> Outcome:
        placed = [(each.at, each.message) for each in objects]
        loaded = list(as_contracts(placed, report))
        return await submission.contracts(loaded, Place("load"), full=full, atomic=atomic)

    _run(TOKENS, files, send, caller, provider, version, aside, all_defects, data_dir)


def ocpi_tariffs(
    files: Files,
    *,
    caller: As,
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Publish an operator's tariffs."""

    async def send(submission: Submission, objects: Objects, _report: DefectReport) -> Outcome:
        return await submission.tariffs([(each.at, each.message) for each in objects])

    _run(TARIFFS, files, send, caller, provider, version, aside, all_defects, data_dir)


def ocpi_sessions(
    files: Files,
    *,
    caller: As,
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Send notices about an operator's sessions; those without an authorization get one."""

    async def send(submission: Submission, objects: Objects, _report: DefectReport) -> Outcome:
        return await submission.sessions([(each.at, each.message) for each in objects])

    _run(SESSIONS, files, send, caller, provider, version, aside, all_defects, data_dir)


def ocpi_cdrs(
    files: Files,
    *,
    caller: As,
    time_zone: Annotated[
        str, typer.Option(help="Zone of the places, which OCPI's records do not tell.")
    ] = "",
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Hand in an operator's charge detail records."""
    if time_zone:
        try:
            zone_of(time_zone)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--time-zone") from None

    async def send(submission: Submission, objects: Objects, _report: DefectReport) -> Outcome:
        for each in objects:
            each.message.location.time_zone = time_zone
        return await submission.records([(each.at, each.message) for each in objects])

    _run(RECORDS, files, send, caller, provider, version, aside, all_defects, data_dir)


def _run(
    kind: OcpiKind[Any],
    files: list[Path],
    send: Send,
    caller: str,
    provider: str,
    version: VersionName,
    aside: Path | None,
    all_defects: bool,
    data_dir: Path | None,
) -> None:
    """Read all files, hand in what is good, and tell what became of everything."""
    report = DefectReport()
    with ending("gemarket import"):
        endpoints = read_endpoints(layout_of(data_dir).endpoints)
        party = endpoints.party(caller)
        objects = [
            each
            for path in files
            for each in read_objects(kind, path.read_bytes(), path.name, VERSIONS[version], report)
        ]
        if aside is not None:
            keep_aside(aside, kind.name, ((each.key, each.rest) for each in objects))

        async def submit() -> Outcome:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            with Progress(*columns, console=errors) as progress:
                task = progress.add_task(f"handing in {kind.name}s", total=len(objects))
                async with open_channel(endpoints.marketplace, party) as channel:
                    metadata = (("gem-provider", provider),) if provider else ()
                    advance = lambda count: progress.advance(task, count)  # noqa: E731  # a callback
                    submission = Submission(channel, metadata, advance)
                    return await send(submission, objects, report) if objects else Outcome()

        try:
            outcome = uvloop.run(submit())
        except aio.AioRpcError:
            show_defects(report, all_defects)
            raise
    _show(report, outcome, all_defects)


def _show(report: DefectReport, outcome: Outcome, all_defects: bool) -> None:
    show_defects(report, all_defects)
    if outcome.refusals:
        rows = (
            (escape(at.file), escape(at.path), escape(reason))
            for at, reason in outcome.refusals[:_MOST_REFUSALS]
        )
        output.print(table("Refused by the clearing house", ("file", "place", "why"), rows))
    counted = ", ".join(f"{count} {word}" for word, count in sorted(outcome.counts.items()))
    output.print(
        f"{report.objects} objects read; {kept_and_skipped(report)}; {counted or 'none handed in'}",
        highlight=False,
    )
    if outcome.refusals:
        raise typer.Exit(1)
