"""The table of the authorization matrix: what each caller gets from each rpc, and the request sent.

A cell is the reason of the refusal, `OK`, or `TLS` where no connection comes about. Requests are
such that nothing changes: what a caller may do ends at a state that does not allow it.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gem.charging.v1 import evse_search_service_pb2
from gem.common.v1 import identifier_pb2
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_service_pb2 as partners
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1 import transaction_service_pb2 as log
from gem.options.v1 import options_pb2
from gemarket.administration import PartnerPlan, ServicePlan, new_request_id
from tests.end_to_end.authorization_catalog import CATALOG_ROWS, PROPOSAL_ROWS
from tests.end_to_end.authorization_log import CHAIN_ROWS
from tests.end_to_end.authorization_partners import PARTNER_LIFE_ROWS
from tests.end_to_end.callers import (
    FORBIDDEN,
    HIDDEN,
    INVALID,
    NOT_NOW,
    OK,
    THERE,
    Row,
    Things,
    public,
    row,
)
from tests.end_to_end.charging import search
from tests.end_to_end.session_rows import SESSION_ROWS
from tests.end_to_end.whole_market import EVSE_SEARCH


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
_SESSIONS = "gem.marketplace.v1.SessionService"
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
        users=OK,
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
        users=OK,
    ),
}
_PARTNER_ROWS |= PARTNER_LIFE_ROWS
_SERVICE_ROWS = {
    "RegisterService": row(
        _register_service, INVALID, seller=INVALID, business=FORBIDDEN, technical=FORBIDDEN
    ),
    "PublishService": row(
        lambda t: registry.PublishServiceRequest(
            request_id=new_request_id(), service_id=t.service_id
        ),
        HIDDEN,
        provider=NOT_NOW,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "StopService": row(
        lambda t: registry.StopServiceRequest(
            request_id=new_request_id(), service_id=t.hidden_service_id
        ),
        HIDDEN,
        provider=NOT_NOW,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "StartService": row(
        lambda t: registry.StartServiceRequest(
            request_id=new_request_id(), service_id=t.hidden_service_id
        ),
        HIDDEN,
        provider=NOT_NOW,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "ChangeServiceEndpoint": row(
        lambda t: registry.ChangeServiceEndpointRequest(
            request_id=new_request_id(), service_id=t.service_id, endpoint=t.endpoint
        ),
        HIDDEN,
        provider=OK,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "GetService": row(
        lambda t: registry.GetServiceRequest(service_id=t.hidden_service_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
        users=HIDDEN,
    ),
    "ListServices": row(
        lambda _: registry.ListServicesRequest(), OK, business=OK, technical=OK, users=OK
    ),
}
_CONTRACT_ROWS = {
    "CreateContract": row(
        lambda t: contracts.CreateContractRequest(
            request_id=new_request_id(), offering_id=t.offering_id, accepted=False
        ),
        INVALID,
        buyer=INVALID,
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
        buyer=NOT_NOW,
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
        buyer=NOT_NOW,
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
        buyer=NOT_NOW,
        seller=NOT_NOW,
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
        users=OK,
    ),
    "ListContracts": row(
        lambda _: contracts.ListContractsRequest(), OK, business=OK, technical=OK, users=OK
    ),
    "ListContractEvents": row(
        lambda t: contracts.ListContractEventsRequest(contract_id=t.contract_id),
        HIDDEN,
        contracted=OK,
        provider=OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
}
_LOG_ROWS = {
    **{
        name: row(request, HIDDEN, contracted=OK, provider=OK, business=OK, technical=OK, users=OK)
        for name, request in {
            "GetTransaction": lambda t: log.GetTransactionRequest(transaction_id=t.transaction_id),
            "GetMonthlyStatement": lambda t: log.GetMonthlyStatementRequest(
                contract_id=t.contract_id, month="2026-01"
            ),
        }.items()
    },
    **{
        name: row(lambda _, kind=kind: kind(), OK, business=OK, technical=OK, users=OK)  # type: ignore[misc]  # a default binds
        for name, kind in {
            "ListTransactions": log.ListTransactionsRequest,
            "SummarizeTransactions": log.SummarizeTransactionsRequest,
            "ListFailedCalls": log.ListFailedCallsRequest,
            "ExportTransactions": lambda: log.ExportTransactionsRequest(
                format=log.EXPORT_FORMAT_CSV
            ),
        }.items()
    },
}
_ROUTED_ROWS = {
    name: row(
        request,
        "NO_CONTRACT",
        contracted=OK,
        administrator=FORBIDDEN,
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
_REFLECTION = reflection_pb2.ServerReflectionRequest(list_services="*")
_REFLECTION_ROWS = {"ServerReflectionInfo": public(lambda _: _REFLECTION)}

#: Every rpc by its path.
MATRIX: Mapping[str, Row] = {
    f"/{service}/{name}": each
    for service, rows in {
        _PARTNER: _PARTNER_ROWS,
        _CATALOG: {**CATALOG_ROWS, **PROPOSAL_ROWS},
        _SERVICES: _SERVICE_ROWS,
        _CONTRACTS: _CONTRACT_ROWS,
        _LOG: {**_LOG_ROWS, **CHAIN_ROWS},
        EVSE_SEARCH: _ROUTED_ROWS,
        "grpc.health.v1.Health": _HEALTH_ROWS,
        "grpc.reflection.v1.ServerReflection": _REFLECTION_ROWS,
        "grpc.reflection.v1alpha.ServerReflection": _REFLECTION_ROWS,
        # Last, and in it Logout last: the callers' sessions are needed until then.
        _SESSIONS: SESSION_ROWS,
    }.items()
    for name, each in rows.items()
}
