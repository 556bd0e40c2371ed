"""`gemarket partners`: registration requests, and the first access data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foundation.certificates import new_key_and_csr
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_registration_pb2 as registrations
from gemarket.administration import new_request_id
from gemarket.client import to_json
from gemarket.commands.partner_console import (
    As,
    Id,
    Ids,
    Json,
    Limit,
    Reason,
    Role,
    run,
    show_list,
)
from gemarket.console import output
from gemarket.endpoints import read_endpoints
from gemarket.identity import Identity
from gemarket.options import DataDir, layout_of
from gemarket.partners import TIMEOUT_S, identifiers_of, named, pages, roles_of, words

if TYPE_CHECKING:
    from gem.marketplace.v1.partner_service_pb2_grpc import PartnerServiceAsyncStub

application = typer.Typer()

Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="What `request` printed.")]
_STATE = "PARTNER_REGISTRATION_STATE"


@application.command("request")
def request(
    partner_id: Annotated[str, typer.Argument(metavar="PARTNER", help="Partner id wished.")],
    *,
    company: Annotated[str, typer.Option(help="Name of the company.")],
    address: Annotated[str, typer.Option(help="Postal address.")],
    country: Annotated[str, typer.Option(help="For instance DE.")],
    person: Annotated[str, typer.Option(help="Name of the responsible person.")],
    email: Annotated[str, typer.Option(help="The person's e-mail address.")],
    phone: Annotated[str, typer.Option(help="For instance +49301234567.")] = "",
    role: Role = None,
    operator_id: Ids = None,
    provider_id: Ids = None,
    accept_contract: Annotated[
        int, typer.Option(help="Version of the partner contract accepted; see `contract`.")
    ] = 0,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Ask to become a partner; prints the reference, once."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = registrations.RequestPartnerRegistrationRequest(
            request_id=new_request_id(),
            partner_id=partner_id,
            profile=partner_pb2.PartnerProfile(
                company_name=company,
                postal_address=address,
                country_code=country,
                responsible_person=partner_pb2.ResponsiblePerson(
                    full_name=person, email=email, phone=phone
                ),
            ),
            roles=roles_of(role or ()),
            identifiers=identifiers_of(operator_id or (), provider_id or ()),
            accepted_partner_contract_version=accept_contract,
        )
        answer = await stub.RequestPartnerRegistration(asked, timeout=TIMEOUT_S)
        if json:
            output.print_json(to_json(answer))
        else:
            text = f"Requested. Keep this reference, it is shown once: {answer.reference}"
            output.print(text, highlight=False, soft_wrap=True)

    run(work, None, data_dir)


@application.command("track")
def track(reference: Reference, *, data_dir: DataDir = None) -> None:
    """Show an applicant how its request stands, as JSON."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = registrations.TrackPartnerRegistrationRequest(reference=reference)
        answer = await stub.TrackPartnerRegistration(asked, timeout=TIMEOUT_S)
        output.print_json(to_json(answer.registration))

    run(work, None, data_dir)


@application.command("withdraw")
def withdraw(reference: Reference, *, data_dir: DataDir = None) -> None:
    """Take an own registration request back."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = registrations.WithdrawPartnerRegistrationRequest(
            request_id=new_request_id(), reference=reference
        )
        await stub.WithdrawPartnerRegistration(asked, timeout=TIMEOUT_S)
        output.print("The request is withdrawn; its personal data are erased.")

    run(work, None, data_dir)


@application.command("first-certificate")
def first_certificate(
    reference: Reference,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="For key and certificate.")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Make a key and have the first certificate issued for it."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        key, csr = new_key_and_csr("partner")
        asked = registrations.IssueFirstCertificateRequest(
            request_id=new_request_id(), reference=reference, certificate_signing_request_pem=csr
        )
        answer = await stub.IssueFirstCertificate(asked, timeout=TIMEOUT_S)
        roots = Path(read_endpoints(layout_of(data_dir).endpoints).ca_file)
        Identity(folder).write(key, answer.chain_pem, roots.read_bytes())  # noqa: ASYNC240  # nothing else runs
        output.print(f"Key and certificate are in {folder}", highlight=False, soft_wrap=True)

    run(work, None, data_dir)


@application.command("first-administrator")
def first_administrator(
    reference: Reference,
    user_name: Annotated[str, typer.Argument(metavar="NAME", help="To log in with.")],
    full_name: Annotated[str, typer.Argument(metavar="FULL_NAME")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Create the first administrator; prints the secret of the one-time link."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = registrations.CreateFirstAdministratorRequest(
            request_id=new_request_id(),
            reference=reference,
            user_name=user_name,
            full_name=full_name,
        )
        answer = await stub.CreateFirstAdministrator(asked, timeout=TIMEOUT_S)
        text = f"The one-time secret to set the password: {answer.one_time_link.secret}"
        output.print(text, highlight=False, soft_wrap=True)

    run(work, None, data_dir)


@application.command("requests")
def list_requests(
    *,
    caller: As = "",
    state: Annotated[str, typer.Option(help="requested, approved, refused, withdrawn.")] = "",
    limit: Limit = 100,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List registration requests."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        enum = registrations.PartnerRegistrationState
        asked = registrations.ListPartnerRegistrationsRequest(state=named(enum, _STATE, state))
        entries = await pages(stub.ListPartnerRegistrations, asked, "registrations", limit)
        rows = (
            (
                each.registration_id,
                each.partner_id,
                words(enum, _STATE, each.state),
                each.request_time.ToJsonString(),
            )
            for each in entries
        )
        show_list(entries, "Requests", ("id", "partner", "state", "made"), rows, json=json)

    run(work, caller, data_dir)


@application.command("show-request")
def show_request(registration_id: Id, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Show a registration request with its profile and history, as JSON."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = registrations.GetPartnerRegistrationRequest(registration_id=registration_id)
        output.print_json(to_json(await stub.GetPartnerRegistration(asked, timeout=TIMEOUT_S)))

    run(work, caller, data_dir)


@application.command("approve")
def approve(registration_id: Id, *, caller: As = "", data_dir: DataDir = None) -> None:
    """Approve a registration request."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = registrations.ApprovePartnerRegistrationRequest(
            request_id=new_request_id(), registration_id=registration_id
        )
        answer = await stub.ApprovePartnerRegistration(asked, timeout=TIMEOUT_S)
        output.print(f"{answer.partner.partner_id} is registered.", highlight=False)

    run(work, caller, data_dir)


@application.command("refuse")
def refuse(
    registration_id: Id, reason: Reason, *, caller: As = "", data_dir: DataDir = None
) -> None:
    """Refuse a registration request."""

    async def work(stub: PartnerServiceAsyncStub) -> None:
        asked = registrations.RefusePartnerRegistrationRequest(
            request_id=new_request_id(), registration_id=registration_id, reason=reason
        )
        await stub.RefusePartnerRegistration(asked, timeout=TIMEOUT_S)
        output.print("The request is refused; the applicant sees the reason.")

    run(work, caller, data_dir)
