"""`gemarket partners`: change requests, made by partners and decided by operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gem.marketplace.v1 import partner_change_pb2 as changes
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_service_pb2 as wire
from gemarket.administration import new_request_id
from gemarket.client import to_json
from gemarket.commands.partner_console import (
    As,
    Id,
    Ids,
    Json,
    Limit,
    Own,
    Reason,
    Role,
    run,
    show_list,
)
from gemarket.console import output, table
from gemarket.options import DataDir
from gemarket.partners import TIMEOUT_S, identifiers_of, named, pages, roles_of, words

if TYPE_CHECKING:
    from gem.marketplace.v1.partner_service_pb2_grpc import PartnerServiceAsyncStub

application = typer.Typer()

_STATE = "PARTNER_CHANGE_STATE"


@application.command("change")
def change(
    *,
    caller: Own,
    company: Annotated[str, typer.Option(help="Name of the company.")] = "",
    address: Annotated[str, typer.Option(help="Postal address.")] = "",
    country: Annotated[str, typer.Option(help="For instance DE.")] = "",
    role: Role = None,
    add_operator_id: Ids = None,
    add_provider_id: Ids = None,
    remove_operator_id: Ids = None,
    remove_provider_id: Ids = None,
    note: Annotated[str, typer.Option(help="For the operator to read.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Ask for other account data; what is not named stays."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        own = (await stub.GetPartner(wire.GetPartnerRequest(), timeout=TIMEOUT_S)).partner
        profile = partner_pb2.PartnerProfile(
            company_name=company, postal_address=address, country_code=country
        )
        own.profile.MergeFrom(profile)
        asked = changes.RequestPartnerChangeRequest(
            request_id=new_request_id(),
            revision=own.revision,
            profile=own.profile,
            roles=roles_of(role or ()),
            added_identifiers=identifiers_of(add_operator_id or (), add_provider_id or ()),
            removed_identifiers=identifiers_of(remove_operator_id or (), remove_provider_id or ()),
            note=note,
        )
        answer = await stub.RequestPartnerChange(asked, timeout=TIMEOUT_S)
        output.print(f"Change request {answer.change.change_id}", highlight=False)

    run(work, caller, data_dir)


@application.command("ask-inactivation")
def ask_inactivation(
    *,
    caller: Own,
    note: Annotated[str, typer.Option(help="For the operator to read.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Ask that the own account is inactivated."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = changes.RequestPartnerInactivationRequest(request_id=new_request_id(), note=note)
        answer = await stub.RequestPartnerInactivation(asked, timeout=TIMEOUT_S)
        output.print(f"Change request {answer.change.change_id}", highlight=False)

    run(work, caller, data_dir)


@application.command("change-requests")
def change_requests(
    *,
    caller: As = "",
    partner: Annotated[str, typer.Option(help="Only of this partner.")] = "",
    state: Annotated[str, typer.Option(help="requested, approved, refused, withdrawn.")] = "",
    limit: Limit = 100,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List change requests."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        enum = changes.PartnerChangeState
        asked = changes.ListPartnerChangesRequest(
            partner_id=partner, state=named(enum, _STATE, state)
        )
        entries = await pages(stub.ListPartnerChanges, asked, "changes", limit)
        rows = (
            (
                each.change_id,
                each.partner_id,
                words(changes.PartnerChangeKind, "PARTNER_CHANGE_KIND", each.kind),
                words(enum, _STATE, each.state) + (", outdated" if each.outdated else ""),
                each.request_time.ToJsonString(),
            )
            for each in entries
        )
        columns = ("id", "partner", "kind", "state", "made")
        show_list(entries, "Change requests", columns, rows, json=json)

    run(work, caller, data_dir)


@application.command("show-change")
def show_change(
    change_id: Id, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Show what a change request changes, field by field."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = changes.GetPartnerChangeRequest(change_id=change_id)
        seen = (await stub.GetPartnerChange(asked, timeout=TIMEOUT_S)).change
        if json:
            output.print_json(to_json(seen))
            return
        rows = (
            (each.field, "\n".join(each.old_values), "\n".join(each.new_values))
            for each in seen.field_changes
        )
        kind = words(changes.PartnerChangeKind, "PARTNER_CHANGE_KIND", seen.kind)
        output.print(table(f"{seen.partner_id}: {kind}", ("field", "is", "shall be"), rows))
        if seen.note:
            output.print(f"note: {seen.note}", highlight=False, markup=False)

    run(work, caller, data_dir)


@application.command("approve-change")
def approve_change(change_id: Id, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Approve a change request; the account is as it asks for at once."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = changes.ApprovePartnerChangeRequest(
            request_id=new_request_id(), change_id=change_id
        )
        answer = await stub.ApprovePartnerChange(asked, timeout=TIMEOUT_S)
        text = f"{answer.partner.partner_id} has revision {answer.partner.revision}."
        output.print(text, highlight=False)

    run(work, caller, data_dir)


@application.command("refuse-change")
def refuse_change(
    change_id: Id, reason: Reason, *, caller: As = "", data_dir: DataDir = None
) -> None:
    """Refuse a change request."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = changes.RefusePartnerChangeRequest(
            request_id=new_request_id(), change_id=change_id, reason=reason
        )
        await stub.RefusePartnerChange(asked, timeout=TIMEOUT_S)
        output.print("The change is refused; the partner sees the reason.")

    run(work, caller, data_dir)


@application.command("withdraw-change")
def withdraw_change(change_id: Id, *, caller: Own, data_dir: DataDir = None) -> None:
    """Take an own change request back."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = changes.WithdrawPartnerChangeRequest(
            request_id=new_request_id(), change_id=change_id
        )
        await stub.WithdrawPartnerChange(asked, timeout=TIMEOUT_S)
        output.print("The change request is withdrawn.")

    run(work, caller, data_dir)


@application.command("person")
def person(
    *,
    caller: Own,
    name: Annotated[str, typer.Option(help="Name of the responsible person.")],
    email: Annotated[str, typer.Option(help="The person's e-mail address.")],
    phone: Annotated[str, typer.Option(help="For instance +49301234567.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Change the responsible person of the own account, at once."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        own = (await stub.GetPartner(wire.GetPartnerRequest(), timeout=TIMEOUT_S)).partner
        asked = changes.ChangeResponsiblePersonRequest(
            request_id=new_request_id(),
            revision=own.revision,
            responsible_person=partner_pb2.ResponsiblePerson(
                full_name=name, email=email, phone=phone
            ),
        )
        await stub.ChangeResponsiblePerson(asked, timeout=TIMEOUT_S)
        output.print("The responsible person is changed.")

    run(work, caller, data_dir)
