"""The table of the authorization matrix: what each caller gets from each rpc, and the request sent.

A cell is the reason of the refusal, `OK`, or `TLS` where no connection comes about. Requests are
such that nothing changes: what a caller may do ends at a state that does not allow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gem.charging.v1 import evse_search_service_pb2
from gem.common.v1 import identifier_pb2
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_pb2, interface_proposal_pb2, partner_pb2
from gem.marketplace.v1 import partner_service_pb2 as partners
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1 import transaction_service_pb2 as log
from gem.options.v1 import options_pb2
from gemarket.administration import PartnerPlan, ServicePlan, new_request_id
from tests.end_to_end.charging import search
from tests.end_to_end.whole_market import EVSE_SEARCH

#: Whose certificate is shown, and what its owner has to do with the things that requests name.
CALLERS = (
    "no certificate",
    "unknown CA",
    "expired",
    "revoked",
    "inactive partner",
    "no contract",
    "contracted",
    "suspended contract",
    "provider",
    "business operator",
    "technical operator",
    "other tenant",
)
OUTSIDE = dict.fromkeys(("no certificate", "unknown CA", "expired"), "TLS")
OK, FORBIDDEN, HIDDEN = "OK", "ROLE_NOT_ALLOWED", "NOT_FOUND"
NOT_NOW, INVALID, THERE = "STATE_NOT_ALLOWED", "REQUEST_INVALID", "ALREADY_EXISTS"


@dataclass(frozen=True, slots=True)
class Things:
    """What requests name: all of it belongs to `contracted` and `provider`."""

    contracted_id: str
    provider_id: str
    inactive_id: str
    #: A contract between the two that is terminated, and an entry of their call.
    contract_id: str
    transaction_id: str
    #: A published service and one that is only registered.
    service_id: str
    hidden_service_id: str
    endpoint: str
    operator_id: str
    offering_id: str
    #: An invalid proposal of `contracted` that is withdrawn.
    proposal_id: str
    #: SHA-256 of a certificate of `contracted` that is revoked.
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One rpc: the request, and what each caller gets."""

    request: Callable[[Things], Message]
    cells: Mapping[str, str]


def row(
    request: Callable[[Things], Message],
    partner: str,
    *,
    business: str,
    technical: str,
    **others: str,
) -> Row:
    """Make a row: what any active partner gets, what operators get, and who differs."""
    known = {name.replace(" ", "_"): name for name in CALLERS}
    cells = {
        **OUTSIDE,
        "revoked": "CERTIFICATE_REVOKED",
        "inactive partner": "PARTNER_NOT_ACTIVE",
        **dict.fromkeys(CALLERS[5:9], partner),
        "other tenant": partner,
        "business operator": business,
        "technical operator": technical,
    }
    return Row(request, {**cells, **{known[name]: cell for name, cell in others.items()}})


def public(request: Callable[[Things], Message]) -> Row:
    """Make a row of an rpc for everybody who gets through the handshake."""
    return Row(request, {**dict.fromkeys(CALLERS, OK), **OUTSIDE})


def _register_partner(_things: Things) -> Message:
    plan = PartnerPlan(_things.contracted_id, "Anybody", [options_pb2.PARTNER_ROLE_EVSP])
    return partners.RegisterPartnerRequest(
        request_id=new_request_id(),
        partner_id=plan.partner_id,
        profile=plan.profile(),
        roles=plan.roles,
        accepted_partner_contract_version=1,
    )


def _register_service(things: Things) -> Message:
    request = ServicePlan("anybody", "Any", EVSE_SEARCH, things.endpoint).request()
    request.accepted_registration_contract_version = 0
    return request


def _identifier(things: Things) -> identifier_pb2.OwnedIdentifier:
    kind = identifier_pb2.IDENTIFIER_KIND_OPERATOR_ID
    return identifier_pb2.OwnedIdentifier(kind=kind, value=things.operator_id)


_PARTNER = "gem.marketplace.v1.PartnerService"
_CATALOG = "gem.marketplace.v1.InterfaceCatalogService"
_SERVICES = "gem.marketplace.v1.ServiceRegistryService"
_CONTRACTS = "gem.marketplace.v1.ContractService"
_LOG = "gem.marketplace.v1.TransactionService"

_PARTNER_ROWS = {
    "RegisterPartner": row(_register_partner, FORBIDDEN, business=THERE, technical=FORBIDDEN),
    "ActivatePartner": row(
        lambda t: partners.ActivatePartnerRequest(
            request_id=new_request_id(), partner_id=t.contracted_id
        ),
        FORBIDDEN,
        business=NOT_NOW,
        technical=FORBIDDEN,
    ),
    "InactivatePartner": row(
        lambda t: partners.InactivatePartnerRequest(
            request_id=new_request_id(), partner_id=t.inactive_id
        ),
        FORBIDDEN,
        business=NOT_NOW,
        technical=FORBIDDEN,
    ),
    "SetPartnerRoles": row(
        lambda t: partners.SetPartnerRolesRequest(
            request_id=new_request_id(),
            partner_id=t.contracted_id,
            roles=[options_pb2.PARTNER_ROLE_EVSP],
        ),
        FORBIDDEN,
        business=OK,
        technical=FORBIDDEN,
    ),
    "AddPartnerIdentifier": row(
        lambda t: partners.AddPartnerIdentifierRequest(
            request_id=new_request_id(), partner_id=t.contracted_id, identifier=_identifier(t)
        ),
        FORBIDDEN,
        business=THERE,
        technical=FORBIDDEN,
    ),
    "RemovePartnerIdentifier": row(
        lambda t: partners.RemovePartnerIdentifierRequest(
            request_id=new_request_id(), partner_id=t.contracted_id, identifier=_identifier(t)
        ),
        FORBIDDEN,
        business=HIDDEN,
        technical=FORBIDDEN,
    ),
    "GetPartner": row(
        lambda t: partners.GetPartnerRequest(partner_id=t.contracted_id),
        HIDDEN,
        contracted=OK,
        business=OK,
        technical=OK,
    ),
    "ListPartners": row(
        lambda _: partners.ListPartnersRequest(), FORBIDDEN, business=OK, technical=OK
    ),
    "IssueCertificate": row(
        lambda t: partners.IssueCertificateRequest(
            request_id=new_request_id(),
            partner_id=t.contracted_id,
            certificate_signing_request_pem=b"no request",
        ),
        HIDDEN,
        contracted=INVALID,
        business=INVALID,
        technical=FORBIDDEN,
    ),
    "RevokeCertificate": row(
        lambda t: partners.RevokeCertificateRequest(
            request_id=new_request_id(),
            fingerprint=t.fingerprint,
            reason=partner_pb2.REVOCATION_REASON_SUPERSEDED,
        ),
        HIDDEN,
        contracted=NOT_NOW,
        business=NOT_NOW,
        technical=NOT_NOW,
    ),
    "ListCertificates": row(
        lambda t: partners.ListCertificatesRequest(partner_id=t.contracted_id),
        HIDDEN,
        contracted=OK,
        business=OK,
        technical=OK,
    ),
}
_CATALOG_ROWS = {
    "PublishInterface": row(
        lambda _: catalog.PublishInterfaceRequest(
            request_id=new_request_id(), descriptor_set=b"no files"
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical="INTERFACE_INVALID",
    ),
    "GetInterface": row(
        lambda _: catalog.GetInterfaceRequest(interface_name=EVSE_SEARCH),
        OK,
        business=OK,
        technical=OK,
    ),
    "ListInterfaces": row(lambda _: catalog.ListInterfacesRequest(), OK, business=OK, technical=OK),
    "DescribeInterface": row(
        lambda _: catalog.DescribeInterfaceRequest(interface_name=EVSE_SEARCH),
        OK,
        business=OK,
        technical=OK,
    ),
    "DownloadServiceSpecification": row(
        lambda t: catalog.DownloadServiceSpecificationRequest(service_id=t.hidden_service_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
    ),
    "LabelInterface": row(
        lambda _: catalog.LabelInterfaceRequest(
            request_id=new_request_id(),
            interface_name=EVSE_SEARCH,
            version=1,
            label=interface_pb2.INTERFACE_LABEL_CURRENT,
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "UnlabelInterface": row(
        lambda _: catalog.UnlabelInterfaceRequest(
            request_id=new_request_id(), interface_name=EVSE_SEARCH, version=1
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
}
#: A proposal whose upload has a header and no file is none.
_PROPOSAL_ROWS = {
    "ProposeInterface": row(
        lambda _: catalog.ProposeInterfaceRequest(
            request_id=new_request_id(), header=catalog.ProposalHeader()
        ),
        INVALID,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "WithdrawProposal": row(
        lambda t: catalog.WithdrawProposalRequest(
            request_id=new_request_id(), proposal_id=t.proposal_id
        ),
        HIDDEN,
        contracted=NOT_NOW,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "VoteOnProposal": row(
        lambda t: catalog.VoteOnProposalRequest(
            request_id=new_request_id(),
            proposal_id=t.proposal_id,
            kind=interface_proposal_pb2.PROPOSAL_VOTE_KIND_FOR,
        ),
        HIDDEN,
        contracted=FORBIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "AcceptProposal": row(
        lambda t: catalog.AcceptProposalRequest(
            request_id=new_request_id(), proposal_id=t.proposal_id, reason="r"
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "RejectProposal": row(
        lambda t: catalog.RejectProposalRequest(
            request_id=new_request_id(), proposal_id=t.proposal_id, reason="r"
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "PublishProposal": row(
        lambda t: catalog.PublishProposalRequest(
            request_id=new_request_id(), proposal_id=t.proposal_id
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "ListProposals": row(lambda _: catalog.ListProposalsRequest(), OK, business=OK, technical=OK),
    **{
        name: row(
            lambda t, kind=kind: kind(proposal_id=t.proposal_id),  # type: ignore[misc]  # a default binds
            HIDDEN,
            contracted=OK,
            business=OK,
            technical=OK,
        )
        for name, kind in {
            "GetProposal": catalog.GetProposalRequest,
            "ListProposalVotes": catalog.ListProposalVotesRequest,
            "ListProposalEvents": catalog.ListProposalEventsRequest,
        }.items()
    },
    # No files are kept of a proposal that is invalid.
    **{
        name: row(
            lambda t, kind=kind: kind(proposal_id=t.proposal_id),  # type: ignore[misc]  # a default binds
            HIDDEN,
            business=HIDDEN,
            technical=HIDDEN,
        )
        for name, kind in {
            "DescribeProposal": catalog.DescribeProposalRequest,
            "DownloadProposal": catalog.DownloadProposalRequest,
        }.items()
    },
    "DownloadInterface": row(
        lambda _: catalog.DownloadInterfaceRequest(interface_name=EVSE_SEARCH),
        OK,
        business=OK,
        technical=OK,
    ),
}
_SERVICE_ROWS = {
    "RegisterService": row(_register_service, INVALID, business=FORBIDDEN, technical=FORBIDDEN),
    "PublishService": row(
        lambda t: registry.PublishServiceRequest(
            request_id=new_request_id(), service_id=t.service_id
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "StopService": row(
        lambda t: registry.StopServiceRequest(
            request_id=new_request_id(), service_id=t.hidden_service_id
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "StartService": row(
        lambda t: registry.StartServiceRequest(
            request_id=new_request_id(), service_id=t.hidden_service_id
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "ChangeServiceEndpoint": row(
        lambda t: registry.ChangeServiceEndpointRequest(
            request_id=new_request_id(), service_id=t.service_id, endpoint=t.endpoint
        ),
        HIDDEN,
        provider=OK,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "GetService": row(
        lambda t: registry.GetServiceRequest(service_id=t.hidden_service_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
    ),
    "ListServices": row(lambda _: registry.ListServicesRequest(), OK, business=OK, technical=OK),
}
_CONTRACT_ROWS = {
    "CreateContract": row(
        lambda t: contracts.CreateContractRequest(
            request_id=new_request_id(), offering_id=t.offering_id, accepted=False
        ),
        INVALID,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "SuspendContract": row(
        lambda t: contracts.SuspendContractRequest(
            request_id=new_request_id(), contract_id=t.contract_id
        ),
        HIDDEN,
        contracted=NOT_NOW,
        provider=FORBIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "ResumeContract": row(
        lambda t: contracts.ResumeContractRequest(
            request_id=new_request_id(), contract_id=t.contract_id
        ),
        HIDDEN,
        contracted=NOT_NOW,
        provider=FORBIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "TerminateContract": row(
        lambda t: contracts.TerminateContractRequest(
            request_id=new_request_id(), contract_id=t.contract_id
        ),
        HIDDEN,
        contracted=NOT_NOW,
        provider=NOT_NOW,
        business=NOT_NOW,
        technical=FORBIDDEN,
    ),
    "GetContract": row(
        lambda t: contracts.GetContractRequest(contract_id=t.contract_id),
        HIDDEN,
        contracted=OK,
        provider=OK,
        business=OK,
        technical=OK,
    ),
    "ListContracts": row(lambda _: contracts.ListContractsRequest(), OK, business=OK, technical=OK),
    "ListContractEvents": row(
        lambda t: contracts.ListContractEventsRequest(contract_id=t.contract_id),
        HIDDEN,
        contracted=OK,
        provider=OK,
        business=OK,
        technical=OK,
    ),
}
_LOG_ROWS = {
    "GetTransaction": row(
        lambda t: log.GetTransactionRequest(transaction_id=t.transaction_id),
        HIDDEN,
        contracted=OK,
        provider=OK,
        business=OK,
        technical=OK,
    ),
    **{
        name: row(lambda _, kind=kind: kind(), OK, business=OK, technical=OK)  # type: ignore[misc]  # a default binds
        for name, kind in {
            "ListTransactions": log.ListTransactionsRequest,
            "SummarizeTransactions": log.SummarizeTransactionsRequest,
            "ListFailedCalls": log.ListFailedCallsRequest,
        }.items()
    },
}
_ROUTED_ROWS = {
    name: row(
        request,
        "NO_CONTRACT",
        contracted=OK,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    )
    for name, request in {
        "SearchEvses": lambda _: search(),
        "GetEvse": lambda _: evse_search_service_pb2.GetEvseRequest(evse_id="DE*MTX*E1"),
    }.items()
}
_HEALTH_ROWS = {
    "Check": public(lambda _: health_pb2.HealthCheckRequest()),
    "List": public(lambda _: health_pb2.HealthListRequest()),
    "Watch": public(lambda _: health_pb2.HealthCheckRequest()),
}
_REFLECTION_ROWS = {
    "ServerReflectionInfo": public(
        lambda _: reflection_pb2.ServerReflectionRequest(list_services="*")
    )
}

#: Every rpc by its path.
MATRIX: Mapping[str, Row] = {
    f"/{service}/{name}": each
    for service, rows in {
        _PARTNER: _PARTNER_ROWS,
        _CATALOG: {**_CATALOG_ROWS, **_PROPOSAL_ROWS},
        _SERVICES: _SERVICE_ROWS,
        _CONTRACTS: _CONTRACT_ROWS,
        _LOG: _LOG_ROWS,
        EVSE_SEARCH: _ROUTED_ROWS,
        "grpc.health.v1.Health": _HEALTH_ROWS,
        "grpc.reflection.v1.ServerReflection": _REFLECTION_ROWS,
        "grpc.reflection.v1alpha.ServerReflection": _REFLECTION_ROWS,
    }.items()
    for name, each in rows.items()
}
