"""The rows of the authorization matrix for offerings, changes of contracts, and their search.

The contract that requests name is terminated, so that whoever may ask gets no further than that.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from gem.marketplace.v1 import contract_amendment_pb2 as amendments
from gem.marketplace.v1 import contract_framework_pb2 as frameworks
from gem.marketplace.v1 import contract_pb2, contract_search_pb2
from gemarket.administration import new_request_id
from tests.end_to_end.callers import FORBIDDEN, HIDDEN, INVALID, NOT_NOW, OK, Row, row

_SECTION = contract_pb2.ContractSection(section_id="terms", title="Terms", text="Other ones.")
_FREE = contract_pb2.PriceModel(free=contract_pb2.PriceModel.Free())
_TERMS = contract_pb2.OfferingTerms(sections=[_SECTION], price=_FREE)
#: Its two sections have the same id.
_FRAMEWORK = frameworks.ContractFramework(
    title="Framework",
    modules=[
        frameworks.FrameworkModule(
            module_id="one",
            title="One",
            sections=[
                frameworks.FrameworkSection(
                    section_id="same",
                    title="Same",
                    guidance="Same.",
                    kind=frameworks.SECTION_KIND_TEXT,
                )
            ]
            * 2,
        )
    ],
)

_READ = {
    "SearchContracts": row(
        lambda _: contract_search_pb2.SearchContractsRequest(),
        OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
    "GetContractFramework": row(
        lambda _: frameworks.GetContractFrameworkRequest(),
        OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
    "ListOfferings": row(
        lambda t: frameworks.ListOfferingsRequest(service_id=t.hidden_service_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
        users=HIDDEN,
    ),
    **{
        name: row(request, HIDDEN, contracted=OK, provider=OK, business=OK, technical=OK, users=OK)
        for name, request in {
            "ListContractAmendments": lambda t: amendments.ListContractAmendmentsRequest(
                contract_id=t.contract_id
            ),
            "ListContractRevisions": lambda t: amendments.ListContractRevisionsRequest(
                contract_id=t.contract_id
            ),
        }.items()
    },
}
_OFFER = {
    "PublishContractFramework": row(
        lambda _: frameworks.PublishContractFrameworkRequest(
            request_id=new_request_id(), framework=_FRAMEWORK
        ),
        FORBIDDEN,
        business=INVALID,
        technical=FORBIDDEN,
    ),
    "CreateOffering": row(
        lambda t: frameworks.CreateOfferingRequest(
            request_id=new_request_id(), service_id=t.service_id, terms=_TERMS
        ),
        HIDDEN,
        provider=INVALID,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "ChangeOffering": row(
        lambda t: frameworks.ChangeOfferingRequest(
            request_id=new_request_id(), offering_id=t.offering_id, terms=_TERMS
        ),
        HIDDEN,
        provider=INVALID,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "WithdrawOffering": row(
        lambda _: frameworks.WithdrawOfferingRequest(
            request_id=new_request_id(), offering_id="no-such-offering"
        ),
        HIDDEN,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
}
_ASK = {
    name: row(
        request,
        HIDDEN,
        contracted=NOT_NOW,
        provider=NOT_NOW,
        buyer=NOT_NOW,
        seller=NOT_NOW,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    )
    for name, request in {
        "RequestContractChange": lambda t: amendments.RequestContractChangeRequest(
            request_id=new_request_id(),
            contract_id=t.contract_id,
            reason="Other terms.",
            terms=amendments.ProposedTerms(sections=[_SECTION], price=_FREE),
        ),
        "RequestContractTermination": lambda t: amendments.RequestContractTerminationRequest(
            request_id=new_request_id(), contract_id=t.contract_id, reason="The end."
        ),
        "RequestContractProlongation": lambda t: amendments.RequestContractProlongationRequest(
            request_id=new_request_id(),
            contract_id=t.contract_id,
            reason="Longer.",
            end_time=Timestamp(seconds=4_000_000_000),
        ),
        "RequestServiceAddition": lambda t: amendments.RequestServiceAdditionRequest(
            request_id=new_request_id(),
            contract_id=t.contract_id,
            reason="More.",
            addition=amendments.ServiceAddition(offering_id=t.offering_id),
        ),
    }.items()
}
_DECIDE = {
    f"{name}ContractAmendment": row(
        lambda _, kind=kind: kind(request_id=new_request_id(), amendment_id="no-such-request"),  # type: ignore[misc]  # a default binds
        HIDDEN,
        buyer=HIDDEN,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    )
    for name, kind in {
        "Accept": amendments.AcceptContractAmendmentRequest,
        "Reject": amendments.RejectContractAmendmentRequest,
        "Revoke": amendments.RevokeContractAmendmentRequest,
    }.items()
}

#: The rpcs of ContractService by their path that are not in the first table.
CONTRACT_MATRIX: Mapping[str, Row] = {
    f"/gem.marketplace.v1.ContractService/{name}": each
    for name, each in {**_READ, **_OFFER, **_ASK, **_DECIDE}.items()
}
