"""`gemarket service-files`: files and specifications of services, up and down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from gem.marketplace.v1 import service_content_pb2 as wire
from gemarket.administration import new_request_id
from gemarket.client import to_json
from gemarket.commands.registry import Json, run
from gemarket.console import errors, output, table
from gemarket.options import As, DataDir
from gemarket.service_files import (
    TIMEOUT_S,
    download,
    download_documents,
    file_named,
    files_of,
    kind_of,
    media_type_of,
    upload,
    upload_specification,
)

if TYPE_CHECKING:
    from gem.marketplace.v1.service_registry_service_pb2_grpc import (
        ServiceRegistryServiceAsyncStub,
    )

application = typer.Typer(help="Files and specifications of services.", no_args_is_help=True)

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="Service id.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a stored file.")]
_GROUP = "service-files"


@application.command("upload")
def upload_file(
    service: Service,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    *,
    kind: Annotated[str, typer.Option(help="manual, description, specification, other.")] = "other",
    media_type: Annotated[str, typer.Option(help="Else by the ending of the name.")] = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Upload a file of an own service; once more after a break, it goes on."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        chosen, wanted = media_type or media_type_of(file), kind_of(kind)
        with _progress() as bar:
            task = bar.add_task(file.name, total=None)
            stored = await upload(
                stub,
                service,
                file,
                wanted,
                chosen,
                lambda done, of: bar.update(task, completed=done, total=of),
            )
        _show([stored], json=json)

    run(work, caller, data_dir, _GROUP)


@application.command("download")
def download_file(
    service: Service,
    name: Name,
    *,
    to: Annotated[Path | None, typer.Option(help="File to write; else NAME here.")] = None,
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Download a file; once more after a break, it goes on."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        file = await file_named(stub, service, name)
        target = to or Path(file.name)
        with _progress() as bar:
            task = bar.add_task(file.name, total=file.size_bytes)
            await download(
                stub, file, target, lambda done, of: bar.update(task, completed=done, total=of)
            )
        output.print(f"{file.size_bytes} bytes in {target}", highlight=False, soft_wrap=True)

    run(work, caller, data_dir, _GROUP)


@application.command("list")
def list_files(
    service: Service, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """List the files of a service."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        _show(await files_of(stub, service), json=json)

    run(work, caller, data_dir, _GROUP)


@application.command("delete")
def delete_file(service: Service, name: Name, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Delete a file."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        file = await file_named(stub, service, name)
        request = wire.DeleteServiceFileRequest(request_id=new_request_id(), file_id=file.file_id)
        await stub.DeleteServiceFile(request, timeout=TIMEOUT_S)
        output.print(f"{name} is deleted.", highlight=False)

    run(work, caller, data_dir, _GROUP)


@application.command("upload-specification")
def upload_sources(
    service: Service,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False)],
    *,
    description: Annotated[str, typer.Option(help="What the service does.")],
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Upload the `.proto` files of a folder and a description; findings end with status 1."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        answer = await upload_specification(stub, service, folder, description)
        if json:
            output.print_json(to_json(answer))
        elif not answer.findings:
            output.print(f"Version {answer.specification.version} is stored.", highlight=False)
        else:
            rows = (
                (each.file, str(each.line_number or ""), each.rule, each.description)
                for each in answer.findings
            )
            columns = ("file", "line", "rule", "finding")
            output.print(table("Not stored", columns, rows))
        if answer.findings:
            raise typer.Exit(1)

    run(work, caller, data_dir, _GROUP)


@application.command("download-documents")
def download_all(
    service: Service,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")],
    *,
    everything: Annotated[bool, typer.Option("--all", help="Manuals and other files too.")] = False,
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Download the interface's sources and the files that specify a service."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        written = await download_documents(stub, service, folder, all_files=everything)
        output.print(f"{written} files in {folder}", highlight=False, soft_wrap=True)

    run(work, caller, data_dir, _GROUP)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    return Progress(*columns, TimeRemainingColumn(), console=errors)


def _show(files: list[wire.ServiceFile], *, json: bool) -> None:
    if json:
        for file in files:
            output.print_json(to_json(file))
        return
    if not files:
        output.print("The service has no files.")
        return
    rows = (
        (
            file.name,
            wire.ServiceFileKind.Name(file.kind).removeprefix("SERVICE_FILE_KIND_").lower(),
            file.media_type,
            str(file.size_bytes),
            file.digest.hex()[:16],
        )
        for file in files
    )
    output.print(table("Files", ("name", "kind", "media type", "bytes", "SHA-256"), rows))
