"""`gemarket services`: find services, and take one's own from registration to deletion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import uvloop

from gem.marketplace.v1 import service_lifecycle_pb2 as lifecycle
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1 import service_search_pb2 as wire
from gem.marketplace.v1 import service_version_pb2 as versions
from gem.marketplace.v1.service_registry_service_pb2_grpc import ServiceRegistryServiceStub
from gemarket.administration import new_request_id
from gemarket.client import to_json
from gemarket.commands.ending import ending
from gemarket.console import output, shown, table
from gemarket.core_client import open_as
from gemarket.options import As, DataDir, layout_of
from gemarket.services import (
    TIMEOUT_S,
    criteria_of,
    offering_of,
    registration,
    search,
    state_name,
)

if TYPE_CHECKING:
    from gem.marketplace.v1.service_registry_service_pb2_grpc import (
        ServiceRegistryServiceAsyncStub,
    )

application = typer.Typer(help="Services: find, register, publish, end.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
ServiceId = Annotated[str, typer.Argument(metavar="SERVICE", help="Service id.")]
Offering = Annotated[Path | None, typer.Option(help="Offering as a JSON file, not a price alone.")]
PriceMicros = Annotated[int, typer.Option(min=0, help="Price of a call in millionths; 0: free.")]
Currency = Annotated[str, typer.Option(help="Currency of the price.")]
Work = Callable[["ServiceRegistryServiceAsyncStub"], Awaitable[None]]


@application.command("search")
def find(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words; none means any.")] = "",
    *,
    category: Annotated[str, typer.Option(help="Categories, with commas between.")] = "",
    interface: Annotated[str, typer.Option(help="Name of the interface.")] = "",
    provider: Annotated[str, typer.Option(help="Partner that provides.")] = "",
    state: Annotated[str, typer.Option(help="For instance published,stopped.")] = "",
    relation: Annotated[str, typer.Option(help="offered, contracted or available.")] = "",
    country: Annotated[str, typer.Option(help="Country of the hosting, for instance DE.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most services shown.")] = 50,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Find services by words and conditions, the best first."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        which = criteria_of(
            text=text, category=category, interface=interface, provider=provider,
            state=state, relation=relation, country=country,
        )  # fmt: skip
        found = [each async for each in search(stub, which, limit)]
        if json:
            for each in found:
                output.print_json(to_json(each.service))
        elif found:
            output.print(_services_table(found))
        else:
            output.print("No service meets the criteria.")

    _run(work, caller, data_dir)


@application.command("show")
def show(
    service_id: ServiceId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Show a service with its interface, its offerings and one's own contracts for it."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = registry.GetServiceRequest(service_id=service_id)
        answer = await stub.GetService(request, timeout=TIMEOUT_S)
        if json:
            output.print_json(to_json(answer))
        else:
            _show(answer)

    _run(work, caller, data_dir)


@application.command("contract")
def registration_contract(
    *,
    version: Annotated[int, typer.Option(min=0, help="0 means the one in force.")] = 0,
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Show the service registration contract that a registration has to accept."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = lifecycle.GetRegistrationContractRequest(version=version)
        answer = await stub.GetRegistrationContract(request, timeout=TIMEOUT_S)
        contract = answer.registration_contract
        output.print(f"[bold]{shown(contract.title)}[/], version {contract.version}")
        output.print(shown(contract.text), highlight=False)
        output.print(f"in force: version {answer.current_version}")

    _run(work, caller, data_dir)


@application.command("register")
def register(
    title: Annotated[str, typer.Argument(metavar="TITLE")],
    interface: Annotated[str, typer.Argument(metavar="INTERFACE", help="NAME or NAME@VERSION.")],
    endpoint: Annotated[str, typer.Argument(metavar="HOST:PORT")],
    *,
    description: Annotated[str, typer.Option(help="What it does.")],
    accept_contract: Annotated[
        int, typer.Option(help="Version of the registration contract that is accepted.")
    ],
    service_version: Annotated[str, typer.Option(help="As the provider counts.")] = "1.0.0",
    keyword: Annotated[list[str] | None, typer.Option(help="Word to be found by.")] = None,
    hosting: Annotated[str, typer.Option(help="COUNTRY/REGION/OPERATOR[/CONTACT].")] = "",
    image: Annotated[str, typer.Option(help="Id of an image of the catalogue.")] = "",
    offering: Offering = None,
    price_micros: PriceMicros = 0,
    currency: Currency = "EUR",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Register a service; it is disabled until it is published."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = registration(
            title=title, description=description, interface=interface, endpoint=endpoint,
            service_version=service_version, keywords=keyword or (), hosting=hosting,
            image_id=image, offering=offering_of(offering, price_micros, currency),
            accepted=accept_contract,
        )  # fmt: skip
        answer = await stub.RegisterService(request, timeout=TIMEOUT_S)
        _show_step(answer.service, json)

    _run(work, caller, data_dir)


@application.command("version")
def prepare_version(
    service_id: ServiceId,
    service_version: Annotated[str, typer.Argument(metavar="VERSION", help="For instance 2.0.0.")],
    *,
    interface_version: Annotated[int, typer.Option(min=0, help="0 means the newest.")] = 0,
    endpoint: Annotated[str, typer.Option(help="HOST:PORT, where it changes.")] = "",
    offering: Offering = None,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Prepare a new version of a service; `publish --version` publishes it."""

    async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
        request = versions.PrepareServiceVersionRequest(
            request_id=new_request_id(),
            service_id=service_id,
            service_version=service_version,
            interface_version=interface_version,
            endpoint=endpoint,
            offering=offering_of(offering, 0, "EUR") if offering is not None else None,
        )
        made = (await stub.PrepareServiceVersion(request, timeout=TIMEOUT_S)).version
        if json:
            output.print_json(to_json(made))
            return
        fits = "compatible" if made.compatible else "not compatible"
        output.print(
            f"version {made.service_version} is prepared, interface version"
            f" {made.interface_version} is {fits}; contracts that have to change first:"
            f" {made.unchanged_contract_count}",
            highlight=False,
            soft_wrap=True,
        )

    _run(work, caller, data_dir)


@application.command("publish")
def publish(
    service_id: ServiceId,
    *,
    version: Annotated[bool, typer.Option("--version", help="Its prepared version.")] = False,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Publish a registered service, or its prepared version."""
    if version:
        _step("PublishServiceVersion", versions.PublishServiceVersionRequest)(
            service_id, caller=caller, json=json, data_dir=data_dir
        )
    else:
        _step("PublishService", registry.PublishServiceRequest)(
            service_id, caller=caller, json=json, data_dir=data_dir
        )


def _step(method: str, kind: Any) -> Callable[..., None]:
    """Make a command that takes a service one step on."""

    def command(
        service_id: ServiceId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
    ) -> None:
        async def work(stub: ServiceRegistryServiceAsyncStub) -> None:
            request = kind(request_id=new_request_id(), service_id=service_id)
            answer = await getattr(stub, method)(request, timeout=TIMEOUT_S)
            _show_step(answer.service, json)

        _run(work, caller, data_dir)

    return command


for _name, _method, _kind, _help in (
    ("stop", "StopService", registry.StopServiceRequest, "Stop a service for a time."),
    ("start", "StartService", registry.StartServiceRequest, "Start a stopped service."),
    ("disable", "DisableService", lifecycle.DisableServiceRequest, "Disable a stopped service."),
    ("enable", "EnableService", lifecycle.EnableServiceRequest, "Enable a disabled service."),
    ("delete", "DeleteService", lifecycle.DeleteServiceRequest, "Delete a disabled service."),
):
    application.command(_name, help=_help)(_step(_method, _kind))


def _run(work: Work, caller: str, data_dir: Path | None) -> None:
    """Do the work as one of the market's parties; ends with the reason where it fails."""

    async def connected() -> None:
        async with open_as(layout_of(data_dir), caller) as channel:
            await work(ServiceRegistryServiceStub(channel))

    with ending("gemarket services"):
        uvloop.run(connected())


def _services_table(found: list[wire.FoundService]) -> object:
    rows = (
        (
            each.service.title,
            each.service.provider_id,
            each.service.category,
            f"{each.service.interface_name}@{each.service.interface_version}",
            state_name(each.service.state),
            each.service.service_id,
        )
        for each in found
    )
    return table("Services", ("title", "provider", "category", "interface", "state", "id"), rows)


def _show_step(service: Any, json: bool) -> None:
    if json:
        output.print_json(to_json(service))
    else:
        output.print(f"{shown(service.service_id)} is {state_name(service.state)}", highlight=False)


def _show(answer: registry.GetServiceResponse) -> None:
    service = answer.service
    place = service.hosting
    rows = [
        ("title", service.title),
        ("provider", service.provider_id),
        ("state", state_name(service.state)),
        ("version", service.service_version),
        ("interface", f"{service.interface_name}@{service.interface_version}"),
        ("category", service.category),
        ("keywords", ", ".join(service.keywords)),
        ("hosted", " ".join((place.country_code, place.region, place.operator_name))),
        ("image", service.image.reference),
        ("endpoint", service.endpoint),
        ("description", service.description),
    ]
    rows += [("offering", offering.offering_id) for offering in service.offerings]
    rows += [("contract", contract.contract_id) for contract in answer.contracts]
    rows += [("related", f"{each.title} ({each.service_id})") for each in answer.related_services]
    filled = (row for row in rows if row[1].strip())
    output.print(table(service.service_id, ("what", "is"), filled))
