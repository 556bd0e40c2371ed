"""`gemarket contracts`: the framework, offerings, contracts, and what parties ask of each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop
from google.protobuf.message import Message

from gem.marketplace.v1 import contract_amendment_pb2 as amendments
from gem.marketplace.v1 import contract_framework_pb2 as frameworks
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1 import contract_service_pb2 as wire
from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceStub
from gemarket import contracts
from gemarket.client import to_json
from gemarket.commands.ending import ending
from gemarket.console import output, table
from gemarket.contracts import name_of
from gemarket.core_client import open_as
from gemarket.options import As, DataDir, layout_of

if TYPE_CHECKING:
    from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceAsyncStub

application = typer.Typer(help="What partners agreed on with each other.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
ContractId = Annotated[str, typer.Argument(metavar="CONTRACT", help="Contract id.")]
RequestId = Annotated[str, typer.Argument(metavar="REQUEST", help="Id of the request.")]
Reason = Annotated[str, typer.Option(help="Why, for the other party.")]
Note = Annotated[str, typer.Option(help="Words for the other party.")]
At = Annotated[str, typer.Option("--at", metavar="TIME", help="From when on, ISO 8601, else now.")]
Sections = Annotated[list[str] | None, typer.Option("--section", help="Chosen section; repeat it.")]
Work = Callable[["ContractServiceAsyncStub"], Awaitable[None]]


@application.command("framework")
def framework(
    *,
    version: Annotated[int, typer.Option(min=0, help="Version; 0 is the newest.")] = 0,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show the sections of which offerings and contracts are made."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        request = frameworks.GetContractFrameworkRequest(version=version)
        found = (await stub.GetContractFramework(request, timeout=20)).framework
        _show(found, _framework_table(found), json=json)

    _run(work, caller, data_dir)


@application.command("offerings")
def offerings(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Service id.")],
    *,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List the offerings of a service with the sections to choose."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        found = [each async for each in contracts.offerings(stub, service)]
        _show_all(found, _offerings_table, "The service is not on offer.", json=json)

    _run(work, caller, data_dir)


@application.command("search")
def search(
    *,
    caller: As = "",
    role: Annotated[str, typer.Option(help="requester or provider.")] = "",
    party: Annotated[str, typer.Option(help="Whose contracts; else of who asks.")] = "",
    partner: Annotated[str, typer.Option(help="Partner on the other side.")] = "",
    service: Annotated[str, typer.Option(help="Service id.")] = "",
    interface: Annotated[str, typer.Option(help="Name of an interface.")] = "",
    state: Annotated[str, typer.Option(help="For instance active,suspended.")] = "",
    valid_at: Annotated[str, typer.Option(metavar="TIME", help="Valid at this instant.")] = "",
    ends_within: Annotated[int, typer.Option(min=0, help="Days: due for prolongation.")] = 0,
    pending: Annotated[bool, typer.Option(help="With a request that waits.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most contracts shown.")] = 50,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Find contracts."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        criteria = contracts.criteria_of(
            role=role, party=party, partner=partner, service=service, interface=interface,
            state=state, valid_at=valid_at, ends_within=ends_within, pending=pending,
        )  # fmt: skip
        found = [each async for each in contracts.search(stub, criteria, limit)]
        _show_all(found, _contracts_table, "No contracts match.", json=json)

    _run(work, caller, data_dir)


@application.command("show")
def show(
    contract: ContractId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Show one contract: terms, period, what is open, and what happened."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        request = wire.GetContractRequest(contract_id=contract)
        found = await stub.GetContract(request, timeout=20)
        if json:
            output.print_json(to_json(found))
            return
        output.print(_contracts_table([found.contract]))
        output.print(_sections_table(found.contract.terms))
        if found.HasField("open_amendment"):
            output.print(_request_table(found.open_amendment))
        output.print(_events_table(found))

    _run(work, caller, data_dir)


@application.command("accept")
def accept(
    offering: Annotated[str, typer.Argument(metavar="OFFERING", help="Offering id.")],
    *,
    section: Sections = None,
    required_of: Annotated[
        str, typer.Option(metavar="SERVICE", help="Also all required sections, as it offers them.")
    ] = "",
    start: Annotated[str, typer.Option(metavar="TIME", help="When it starts, else now.")] = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Make a contract by accepting an offering."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        chosen = section or []
        if required_of:
            chosen += await contracts.required_sections(stub, required_of, offering)
        made = await contracts.accept(stub, offering, list(dict.fromkeys(chosen)), start)
        _show(made, _contracts_table([made]), json=json)

    _run(work, caller, data_dir)


@application.command("suspend")
def suspend(
    contract: ContractId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Take a contract out of use for a time."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        made = await contracts.suspend(stub, contract)
        _show(made, _contracts_table([made]), json=json)

    _run(work, caller, data_dir)


@application.command("resume")
def resume(
    contract: ContractId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Use a suspended contract again."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        made = await contracts.resume(stub, contract)
        _show(made, _contracts_table([made]), json=json)

    _run(work, caller, data_dir)


@application.command("change")
def change(
    contract: ContractId,
    *,
    reason: Reason,
    terms: Annotated[Path | None, typer.Option(help="ProposedTerms as JSON.")] = None,
    until: Annotated[str, typer.Option(metavar="TIME", help="A later end instead.")] = "",
    offering: Annotated[str, typer.Option(help="Offering of a further service instead.")] = "",
    section: Sections = None,
    at: At = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Ask the other party for other terms, a later end, or a further service."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        if terms is not None and not (until or offering):
            made = await contracts.ask_for_change(stub, contract, reason, terms, at)
        elif until and not (terms or offering):
            made = await contracts.ask_for_longer(stub, contract, reason, until)
        elif offering and not (terms or until):
            chosen = section or ()
            made = await contracts.ask_for_service(stub, contract, reason, offering, chosen)
        else:
            raise ValueError("give one of --terms, --until and --offering")
        _show(made, _request_table(made), json=json)

    _run(work, caller, data_dir)


@application.command("terminate")
def terminate(
    contract: ContractId,
    *,
    reason: Annotated[str, typer.Option(help="Ask the other party, with this reason.")] = "",
    at: At = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Give notice; or, with a reason, ask the other party for an end without notice period."""

    async def work(stub: ContractServiceAsyncStub) -> None:
        if reason:
            asked = await contracts.ask_for_end(stub, contract, reason, at)
            _show(asked, _request_table(asked), json=json)
            return
        made = await contracts.terminate(stub, contract)
        _show(made, _contracts_table([made]), json=json)

    _run(work, caller, data_dir)


@application.command("confirm")
def confirm(
    request: RequestId,
    *,
    note: Note = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Accept what the other party asks for."""
    _decide("confirm", request, note, caller, data_dir, json=json)


@application.command("reject")
def reject(
    request: RequestId,
    *,
    note: Note = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Reject what the other party asks for."""
    _decide("reject", request, note, caller, data_dir, json=json)


@application.command("revoke")
def revoke(
    request: RequestId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Take an own request back."""
    _decide("revoke", request, "", caller, data_dir, json=json)


def _decide(
    step: str, request: str, note: str, caller: str, data_dir: Path | None, *, json: bool
) -> None:
    async def work(stub: ContractServiceAsyncStub) -> None:
        made = await contracts.decide(stub, step, request, note)
        _show(made, _request_table(made), json=json)

    _run(work, caller, data_dir)


def _run(work: Work, caller: str, data_dir: Path | None) -> None:
    """Do the work as one of the market's parties; ends with the reason where it fails."""

    async def connected() -> None:
        async with open_as(layout_of(data_dir), caller) as channel:
            await work(ContractServiceStub(channel))

    with ending("gemarket contracts"):
        uvloop.run(connected())


def _show(message: Message, shown: object, *, json: bool) -> None:
    if json:
        output.print_json(to_json(message))
    else:
        output.print(shown)


def _show_all(
    found: list[contract_pb2.Contract] | list[contract_pb2.Offering],
    make: Callable[..., object],
    nothing: str,
    *,
    json: bool,
) -> None:
    if json:
        for message in found:
            output.print_json(to_json(message))
    else:
        output.print(make(found) if found else nothing)


def _framework_table(found: frameworks.ContractFramework) -> object:
    rows = (
        (
            module.title,
            section.section_id,
            "required" if section.required else "optional",
            name_of(frameworks.SectionKind, section.kind, "SECTION_KIND"),
            section.title,
        )
        for module in found.modules
        for section in module.sections
    )
    title = f"{found.title}, version {found.version}"
    return table(title, ("module", "section", "", "holds", "title"), rows)


def _offerings_table(found: list[contract_pb2.Offering]) -> object:
    rows = (
        (
            offering.offering_id,
            contracts.price_text(offering.terms.price),
            str(offering.revision),
            section.section_id,
            "required" if section.required else "optional",
            section.framework_section_id,
            section.title,
        )
        for offering in found
        for section in offering.terms.sections
    )
    columns = ("offering", "price", "revision", "section", "", "fills", "title")
    return table("Offerings", columns, rows)


def _contracts_table(found: list[contract_pb2.Contract]) -> object:
    rows = (
        (
            contract.contract_id,
            name_of(contract_pb2.ContractState, contract.state, "CONTRACT_STATE"),
            contract.requester_id,
            contract.provider_id,
            contract.service_id,
            contract.start_time.ToJsonString(),
            contract.end_time.ToJsonString() if contract.HasField("end_time") else "",
            name_of(contract_pb2.ContractEnding, contract.ending, "CONTRACT_ENDING"),
            str(contract.revision),
        )
        for contract in found
    )
    columns = ("id", "state", "requester", "provider", "service", "start", "end", "then", "terms")
    return table("Contracts", columns, rows)


def _sections_table(terms: contract_pb2.ContractTerms) -> object:
    rows = ((section.section_id, section.title, section.text) for section in terms.sections)
    return table("Terms", ("section", "title", "text"), rows)


def _request_table(request: amendments.ContractAmendment) -> object:
    effective = request.effective_time.ToJsonString() if request.HasField("effective_time") else ""
    row = (
        request.amendment_id,
        name_of(amendments.AmendmentKind, request.kind, "AMENDMENT_KIND"),
        name_of(amendments.AmendmentState, request.state, "AMENDMENT_STATE"),
        request.requested_by,
        effective,
        request.reason,
    )
    return table("Request", ("id", "asks for", "state", "by", "from", "reason"), [row])


def _events_table(found: wire.GetContractResponse) -> object:
    rows = (
        (
            event.event_time.ToJsonString(),
            name_of(contract_pb2.ContractEventKind, event.kind, "CONTRACT_EVENT_KIND"),
            event.actor or "by itself",
        )
        for event in found.latest_events
    )
    return table("History, the latest first", ("when", "what", "who"), rows)
