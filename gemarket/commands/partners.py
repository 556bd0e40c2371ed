"""`gemarket partners`: accounts as operators keep them, and what partners see of each other.

Registration requests and change requests are in `partner_requests` and `partner_changes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gem.marketplace.v1 import partner_contract_pb2 as contracts
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_search_pb2 as found
from gem.marketplace.v1 import partner_service_pb2 as wire
from gem.options.v1.options_pb2 import PartnerRole
from gemarket.administration import new_request_id
from gemarket.client import to_json
from gemarket.commands import partner_changes, partner_requests
from gemarket.commands.partner_console import As, Json, Limit, run, show_list
from gemarket.console import errors, output
from gemarket.options import DataDir
from gemarket.partners import TIMEOUT_S, criteria_of, pages, words

if TYPE_CHECKING:
    from gem.marketplace.v1.partner_service_pb2_grpc import PartnerServiceAsyncStub

application = typer.Typer(help="Partners, from request to deletion.", no_args_is_help=True)
application.add_typer(partner_requests.application)
application.add_typer(partner_changes.application)

PartnerId = Annotated[str, typer.Argument(metavar="PARTNER", help="Partner id.")]
Since = Annotated[str, typer.Option(metavar="TIME", help="Registered at or after, ISO 8601, UTC.")]
Until = Annotated[str, typer.Option(metavar="TIME", help="Registered before.")]


@application.command("list")
def list_partners(
    *,
    caller: As = "",
    text: Annotated[str, typer.Option(help="Part of the company's name or of the id.")] = "",
    state: Annotated[list[str] | None, typer.Option(help="registered, active, ….")] = None,
    role: Annotated[list[str] | None, typer.Option(help="For instance evsp; repeatable.")] = None,
    identifier: Annotated[str, typer.Option(help="Operator or provider id owned.")] = "",
    country: Annotated[list[str] | None, typer.Option(help="For instance DE.")] = None,
    since: Since = "",
    until: Until = "",
    activity: Annotated[str, typer.Option(help="provider or requester of services.")] = "",
    order: Annotated[str, typer.Option(help="id, company or latest.")] = "id",
    limit: Limit = 100,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Search partners; a partner finds active ones, by what is public."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        request = criteria_of(
            text=text, state=state or (), role=role or (), identifier=identifier,
            country=country or (), since=since, until=until, activity=activity, order=order,
        )  # fmt: skip
        entries = await pages(stub.SearchPartners, request, "partners", limit)
        columns = ("partner", "company", "country", "roles", "state", "registered")
        show_list(entries, "Partners", columns, map(_row, entries), json=json)

    run(work, caller, data_dir)


@application.command("show")
def show(
    partner_id: PartnerId,
    *,
    caller: As = "",
    public: Annotated[bool, typer.Option(help="Only what others may see.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show all that the caller may know of one partner, with its partner contract, as JSON."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        if public:
            summary = found.GetPartnerSummaryRequest(partner_id=partner_id)
            output.print_json(
                to_json((await stub.GetPartnerSummary(summary, timeout=TIMEOUT_S)).partner)
            )
            return
        request = wire.GetPartnerRequest(partner_id=partner_id)
        output.print_json(to_json(await stub.GetPartner(request, timeout=TIMEOUT_S)))

    run(work, caller, data_dir)


@application.command("history")
def history(
    partner_id: PartnerId,
    *,
    caller: As = "",
    limit: Limit = 1000,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List what happened to an account."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        request = found.ListPartnerEventsRequest(partner_id=partner_id)
        entries = await pages(stub.ListPartnerEvents, request, "events", limit)
        rows = (
            (
                event.event_time.ToJsonString(),
                words(found.PartnerEventKind, "PARTNER_EVENT_KIND", event.kind),
                words(partner_pb2.PartnerState, "PARTNER_STATE", event.state),
                event.actor,
                event.detail,
            )
            for event in entries
        )
        columns = ("when", "what", "state", "who", "about")
        show_list(entries, "Events", columns, rows, json=json)

    run(work, caller, data_dir)


@application.command("activate")
def activate(partner_id: PartnerId, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Let a partner act."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        request = wire.ActivatePartnerRequest(request_id=new_request_id(), partner_id=partner_id)
        _say((await stub.ActivatePartner(request, timeout=TIMEOUT_S)).partner)

    run(work, caller, data_dir)


@application.command("inactivate")
def inactivate(partner_id: PartnerId, *, caller: As = "", data_dir: DataDir = None) -> None:
    """End that a partner acts, where it has no contract in force."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        request = wire.InactivatePartnerRequest(request_id=new_request_id(), partner_id=partner_id)
        _say((await stub.InactivatePartner(request, timeout=TIMEOUT_S)).partner)

    run(work, caller, data_dir)


@application.command("delete")
def delete(
    partner_id: PartnerId,
    *,
    caller: As = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete an inactive partner for ever; history stays, personal data are erased."""
    if not yes:
        typer.confirm(f"Delete {partner_id} for ever?", abort=True)

    async def work(stub: PartnerServiceAsyncStub) -> None:
        request = wire.DeletePartnerRequest(request_id=new_request_id(), partner_id=partner_id)
        _say((await stub.DeletePartner(request, timeout=TIMEOUT_S)).partner)

    run(work, caller, data_dir)


@application.command("contract")
def contract(
    version: Annotated[int, typer.Argument(help="Version; 0 for the current one.")] = 0,
    *,
    versions: Annotated[bool, typer.Option("--list", help="List the versions instead.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show the partner contract, to anybody."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        if versions:
            listing = contracts.ListPartnerContractsRequest()
            entries = await pages(stub.ListPartnerContracts, listing, "partner_contracts", 1000)
            rows = ((str(e.version), e.title, e.publish_time.ToJsonString()) for e in entries)
            show_list(entries, "Versions", ("version", "title", "published"), rows, json=json)
            return
        request = contracts.GetPartnerContractRequest(version=version)
        made = (await stub.GetPartnerContract(request, timeout=TIMEOUT_S)).partner_contract
        if json:
            output.print_json(to_json(made))
        else:
            title = f"{made.title}, version {made.version}\n"
            output.print(title + "\n" + made.text, highlight=False, markup=False, soft_wrap=True)

    run(work, None, data_dir)


@application.command("publish-contract")
def publish_contract(
    version: Annotated[int, typer.Argument(min=2, help="One more than the current version.")],
    title: Annotated[str, typer.Argument()],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The text, UTF-8.")],
    *,
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Publish the next version of the partner contract."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        request = contracts.PublishPartnerContractRequest(
            request_id=new_request_id(), version=version, title=title, text=text
        )
        await stub.PublishPartnerContract(request, timeout=TIMEOUT_S)
        output.print(f"Version {version} is the current partner contract.")

    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        errors.print(f"[red]gemarket partners:[/] {error}", highlight=False)
        raise typer.Exit(2) from None
    run(work, caller, data_dir)


@application.command("accept-contract")
def accept_contract(
    version: Annotated[int, typer.Argument(min=1)],
    *,
    caller: Annotated[str, typer.Option("--as", metavar="PARTNER", help="Who accepts.")],
    data_dir: DataDir = None,
) -> None:
    """Accept the current version of the partner contract."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        request = contracts.AcceptPartnerContractRequest(
            request_id=new_request_id(), version=version
        )
        await stub.AcceptPartnerContract(request, timeout=TIMEOUT_S)
        output.print(f"Version {version} of the partner contract is accepted.")

    run(work, caller, data_dir)


def _row(each: found.PartnerSummary) -> tuple[str, ...]:
    roles = ", ".join(words(PartnerRole, "PARTNER_ROLE", role) for role in each.roles)
    return (
        each.partner_id,
        each.company_name,
        each.country_code,
        roles,
        words(partner_pb2.PartnerState, "PARTNER_STATE", each.state),
        each.register_time.ToJsonString() if each.HasField("register_time") else "",
    )


def _say(partner: partner_pb2.Partner) -> None:
    state = words(partner_pb2.PartnerState, "PARTNER_STATE", partner.state)
    output.print(f"{partner.partner_id} is {state}.", highlight=False)
