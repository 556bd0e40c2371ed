"""`gemarket import`: charging points from files into the reference provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.markup import escape
from rich.progress import Progress

from gem.charging.v1 import tariff_pb2
from gemarket.commands.ocpi_imports import add_ocpi_imports
from gemarket.console import errors, output
from gemarket.defects import AllDefects, kept_and_skipped, show_defects
from gemarket.endpoints import NotRunningError, read_endpoints
from gemarket.options import DataDir, layout_of
from mobility.import_evses import Stored, known_operator_ids, store
from mobility.import_ocpi import read_ocpi_locations, read_ocpi_tariffs
from mobility.import_osm import read_osm
from mobility.import_report import ImportReport
from mobility.operator_name import OperatorIds
from mobility.storage import DATABASE_ERRORS, EvseStorage, open_pool

application = typer.Typer(
    help="Bring charging points into the reference provider, and objects of OCPI to others.",
    no_args_is_help=True,
)
add_ocpi_imports(application)

Files = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, metavar="FILE…")]
Read = Callable[[Path, ImportReport, OperatorIds], None]


@application.command("ocpi-locations")
def ocpi_locations(
    files: Files,
    *,
    tariffs: Annotated[
        list[Path] | None, typer.Option(exists=True, help="File of OCPI tariffs; may repeat.")
    ] = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Import OCPI 2.3.0 locations; every defect is reported, the good EVSEs are kept."""
    known: dict[tuple[str, str, str], tariff_pb2.Tariff] = {}

    def read(path: Path, report: ImportReport, _ids: OperatorIds) -> None:
        if not known:
            for tariff_file in tariffs or ():
                raw = tariff_file.read_bytes()
                known.update(read_ocpi_tariffs(raw, tariff_file.name, report))
        read_ocpi_locations(path.read_bytes(), path.name, report, known)

    _import(files, read, all_defects, data_dir)


@application.command("osm")
def osm(
    files: Files,
    *,
    country: Annotated[str, typer.Option(help="Country of stations that state none.")] = "DE",
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Import charging stations of OpenStreetMap (GeoJSON or Overpass JSON)."""

    def read(path: Path, report: ImportReport, ids: OperatorIds) -> None:
        read_osm(path.read_bytes(), path.name, report, ids, country)

    _import(files, read, all_defects, data_dir)


def _import(files: Sequence[Path], read: Read, all_defects: bool, data_dir: Path | None) -> None:
    try:
        url = read_endpoints(layout_of(data_dir).endpoints).database_url
        report, stored = uvloop.run(_read_and_store(files, read, url))
    except (NotRunningError, OSError, *DATABASE_ERRORS) as error:
        text = str(error) if isinstance(error, NotRunningError) else type(error).__name__
        errors.print(f"[red]gemarket import:[/] {escape(text)}", highlight=False)
        raise typer.Exit(1) from None
    _show(report, stored, all_defects)


async def _read_and_store(
    files: Sequence[Path], read: Read, url: str
) -> tuple[ImportReport, Stored]:
    report = ImportReport()
    with Progress(console=errors) as progress:
        reading = progress.add_task("reading files", total=len(files))
        async with open_pool(url) as pool:
            storage = EvseStorage(pool)
            ids = await known_operator_ids(storage)
            for path in files:
                read(path, report, ids)
                progress.advance(reading)
            storing = progress.add_task("storing EVSEs", total=len(report.evses))

            def show(done: int, total: int) -> None:
                progress.update(storing, completed=done, total=total)

            stored = await store(storage, report, show)
    return report, stored


def _show(report: ImportReport, stored: Stored, all_defects: bool) -> None:
    show_defects(report, all_defects)
    output.print(
        f"{report.objects} objects read; {stored.added} EVSEs added, {stored.updated} updated, "
        f"of {stored.operators} operators; {kept_and_skipped(report)}",
        highlight=False,
    )
