"""The rows of the authorization matrix for the life of a partner and the search of partners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from gem.marketplace.v1 import partner_change_pb2 as changes
from gem.marketplace.v1 import partner_contract_pb2 as contracts
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_registration_pb2 as registrations
from gem.marketplace.v1 import partner_search_pb2 as found
from gem.marketplace.v1 import partner_service_pb2 as partners
from gem.options.v1 import options_pb2
from gemarket.administration import PartnerPlan, new_request_id
from tests.end_to_end.callers import (
    FORBIDDEN,
    HIDDEN,
    INVALID,
    NOT_NOW,
    OK,
    Row,
    Things,
    public,
    row,
)

_CONFLICT = "CONFLICT"


def _application(things: Things) -> Message:
    """Give a request without the partner contract: nothing is kept of it."""
    plan = PartnerPlan(things.contracted_id, "Anybody", [options_pb2.PARTNER_ROLE_EVSP])
    return registrations.RequestPartnerRegistrationRequest(
        request_id=new_request_id(),
        partner_id="nobody",
        profile=plan.profile(),
        roles=plan.roles,
        accepted_partner_contract_version=0,
    )


def _by_reference(kind: Callable[..., Message], **fields: Any) -> Row:
    """Make a row of a command with a reference that opens nothing."""
    return public(lambda _: kind(request_id=new_request_id(), reference="none", **fields), HIDDEN)


def _of_operator(request: Callable[[], Message], cell: str) -> Row:
    """Make a row of the business operator's own."""
    return row(lambda _: request(), FORBIDDEN, business=cell, technical=FORBIDDEN)


def _of_partners(request: Callable[[], Message], cell: str) -> Row:
    """Make a row of what partners do for themselves."""
    return row(lambda _: request(), cell, business=FORBIDDEN, technical=FORBIDDEN)


#: Requests and changes that nobody made are nobody's; revision 1000 is no partner's.
PARTNER_LIFE_ROWS = {
    "DeletePartner": row(
        lambda t: partners.DeletePartnerRequest(
            request_id=new_request_id(), partner_id=t.contracted_id
        ),
        FORBIDDEN,
        business=NOT_NOW,
        technical=FORBIDDEN,
    ),
    "RequestPartnerRegistration": public(_application, INVALID),
    "TrackPartnerRegistration": public(
        lambda _: registrations.TrackPartnerRegistrationRequest(reference="none"), HIDDEN
    ),
    "WithdrawPartnerRegistration": _by_reference(registrations.WithdrawPartnerRegistrationRequest),
    "IssueFirstCertificate": _by_reference(
        registrations.IssueFirstCertificateRequest, certificate_signing_request_pem=b"no request"
    ),
    "CreateFirstAdministrator": _by_reference(
        registrations.CreateFirstAdministratorRequest, user_name="nobody", full_name="Nobody"
    ),
    "GetPartnerRegistration": _of_operator(
        lambda: registrations.GetPartnerRegistrationRequest(registration_id="none"), HIDDEN
    ),
    "ListPartnerRegistrations": _of_operator(registrations.ListPartnerRegistrationsRequest, OK),
    "ApprovePartnerRegistration": _of_operator(
        lambda: registrations.ApprovePartnerRegistrationRequest(
            request_id=new_request_id(), registration_id="none"
        ),
        HIDDEN,
    ),
    "RefusePartnerRegistration": _of_operator(
        lambda: registrations.RefusePartnerRegistrationRequest(
            request_id=new_request_id(), registration_id="none", reason="r"
        ),
        HIDDEN,
    ),
    "GetPartnerContract": public(lambda _: contracts.GetPartnerContractRequest()),
    "ListPartnerContracts": public(lambda _: contracts.ListPartnerContractsRequest()),
    "PublishPartnerContract": _of_operator(
        lambda: contracts.PublishPartnerContractRequest(
            request_id=new_request_id(), version=1000, title="t", text="t"
        ),
        _CONFLICT,
    ),
    "AcceptPartnerContract": _of_partners(
        lambda: contracts.AcceptPartnerContractRequest(request_id=new_request_id(), version=1000),
        INVALID,
    ),
    "RequestPartnerChange": _of_partners(
        lambda: changes.RequestPartnerChangeRequest(request_id=new_request_id(), revision=1000),
        _CONFLICT,
    ),
    # Whoever is not inactivated here has a contract, or asks for it.
    "RequestPartnerInactivation": row(
        lambda _: changes.RequestPartnerInactivationRequest(request_id=new_request_id()),
        NOT_NOW,
        no_contract=OK,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "WithdrawPartnerChange": _of_partners(
        lambda: changes.WithdrawPartnerChangeRequest(request_id=new_request_id(), change_id="none"),
        HIDDEN,
    ),
    "ApprovePartnerChange": _of_operator(
        lambda: changes.ApprovePartnerChangeRequest(request_id=new_request_id(), change_id="none"),
        HIDDEN,
    ),
    "RefusePartnerChange": _of_operator(
        lambda: changes.RefusePartnerChangeRequest(
            request_id=new_request_id(), change_id="none", reason="r"
        ),
        HIDDEN,
    ),
    "GetPartnerChange": row(
        lambda _: changes.GetPartnerChangeRequest(change_id="none"),
        HIDDEN,
        business=HIDDEN,
        technical=FORBIDDEN,
        users=HIDDEN,
    ),
    "ListPartnerChanges": row(
        lambda _: changes.ListPartnerChangesRequest(),
        OK,
        business=OK,
        technical=FORBIDDEN,
        users=OK,
    ),
    "ChangeResponsiblePerson": _of_partners(
        lambda: changes.ChangeResponsiblePersonRequest(
            request_id=new_request_id(),
            revision=1000,
            responsible_person=partner_pb2.ResponsiblePerson(
                full_name="Nobody", email="nobody@nobody.example"
            ),
        ),
        _CONFLICT,
    ),
    "SearchPartners": row(
        lambda _: found.SearchPartnersRequest(), OK, business=OK, technical=OK, users=OK
    ),
    # What is public of an active partner is public; of an inactive one operators know.
    "GetPartnerSummary": row(
        lambda t: found.GetPartnerSummaryRequest(partner_id=t.inactive_id),
        HIDDEN,
        business=OK,
        technical=OK,
        users=HIDDEN,
    ),
    "ListPartnerEvents": row(
        lambda t: found.ListPartnerEventsRequest(partner_id=t.contracted_id),
        HIDDEN,
        contracted=OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
}
