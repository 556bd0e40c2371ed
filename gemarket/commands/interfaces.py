"""`gemarket interfaces`: the catalogue of standard interfaces (use cases 1475, 1476, 1487)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_pb2
from gemarket.administration import new_request_id
from gemarket.commands import interface_proposals
from gemarket.commands.calling import (
    Json,
    Limit,
    bytes_progress,
    enum_value,
    instant,
    pages,
    run,
    show,
    show_all,
    told,
    when,
)
from gemarket.core_client import CoreClient
from gemarket.interface_files import write_download
from gemarket.options import As, DataDir

application = typer.Typer(help="Standard interfaces.", no_args_is_help=True)
interface_proposals.add_to(application)
_SERVICE = "InterfaceCatalogService"

Interface = Annotated[str, typer.Argument(metavar="INTERFACE", help="Full name.")]
Version = Annotated[int, typer.Option(min=0, help="Which version; 0 is the newest.")]


@application.command("list")
def list_interfaces(
    *,
    text: Annotated[str, typer.Option(help="Part of the name or title.")] = "",
    category: Annotated[str, typer.Option(help="Category.")] = "",
    limit: Limit = 100,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Search for interfaces; the newest version of each by name."""

    async def work(market: CoreClient) -> None:
        request = catalog.ListInterfacesRequest(text=text, category=category)
        method, response = f"{_SERVICE}/ListInterfaces", catalog.ListInterfacesResponse
        found = await pages(market, method, request, response, "interfaces", limit)
        columns = ("interface", "version", "title", "category", "labels")
        show_all(found, "Interfaces", columns, _row, json=json)

    run(work, caller, data_dir)


@application.command("show")
def show_interface(
    interface: Interface,
    *,
    version: Version = 0,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show what an interface says of itself, or with --json its methods and routes."""

    async def work(market: CoreClient) -> None:
        if json:
            request = catalog.GetInterfaceRequest(interface_name=interface, version=version)
            response = catalog.GetInterfaceResponse
            show((await market.ask(f"{_SERVICE}/GetInterface", request, response)).interface)
            return
        described = catalog.DescribeInterfaceRequest(interface_name=interface, version=version)
        method = f"{_SERVICE}/DescribeInterface"
        told((await market.ask(method, described, catalog.DescribeInterfaceResponse)).text)

    run(work, caller, data_dir)


@application.command("download")
def download(
    interface: Interface,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A folder, or a file that ends in .binpb.")
    ],
    *,
    version: Version = 0,
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Download a tree of sources ready for buf, or a descriptor set into a .binpb file."""

    async def work(market: CoreClient) -> None:
        whole = target.suffix == ".binpb"
        form = catalog.DOWNLOAD_FORM_DESCRIPTOR_SET if whole else catalog.DOWNLOAD_FORM_SOURCES
        request = catalog.DownloadInterfaceRequest(
            interface_name=interface, version=version, form=form
        )
        method, response = f"{_SERVICE}/DownloadInterface", catalog.DownloadInterfaceResponse
        with bytes_progress() as bar:
            task = bar.add_task(interface, total=None)
            pieces = market.stream(method, request, response)
            size = await write_download(
                pieces, target, lambda done: bar.update(task, completed=done)
            )
            bar.update(task, total=size)
        told(f"{size} bytes in {target}")

    run(work, caller, data_dir)


@application.command("label")
def label(
    interface: Interface,
    version: Annotated[int, typer.Argument(min=1)],
    name: Annotated[str, typer.Argument(metavar="LABEL", help="current, deprecated or none.")],
    *,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="From when on it is deprecated.")
    ] = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Say which version is routed, that one is to be left, or that it is not after all."""

    async def work(market: CoreClient) -> None:
        fields: dict[str, Any] = {
            "request_id": new_request_id(),
            "interface_name": interface,
            "version": version,
        }
        answer: Any
        if name == "none":
            unlabel, response = catalog.UnlabelInterfaceRequest, catalog.UnlabelInterfaceResponse
            answer = await market.ask(f"{_SERVICE}/UnlabelInterface", unlabel(**fields), response)
        else:
            request = catalog.LabelInterfaceRequest(effective_time=instant(start), **fields)
            request.label = enum_value(interface_pb2.InterfaceLabel, "INTERFACE_LABEL", name)
            method = f"{_SERVICE}/LabelInterface"
            answer = await market.ask(method, request, catalog.LabelInterfaceResponse)
        if json:
            show(answer.interface)
        else:
            told("  ".join(_row(answer.interface)))

    run(work, caller, data_dir)


def _row(interface: Any) -> tuple[str, ...]:
    labels = ["current"] if interface.current else []
    if interface.HasField("deprecate_time"):
        labels.append(f"deprecated from {when(interface.deprecate_time)}")
    name, version = interface.interface_name, str(interface.version)
    return name, version, interface.title, interface.category, ", ".join(labels)
