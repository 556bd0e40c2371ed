"""The rows of the authorization matrix for the catalogue of interfaces and its proposals."""

from __future__ import annotations

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_pb2, interface_proposal_pb2
from gemarket.administration import new_request_id
from tests.end_to_end.callers import FORBIDDEN, HIDDEN, INVALID, NOT_NOW, OK, row
from tests.end_to_end.whole_market import EVSE_SEARCH

CATALOG_ROWS = {
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
        users=OK,
    ),
    "ListInterfaces": row(
        lambda _: catalog.ListInterfacesRequest(), OK, business=OK, technical=OK, users=OK
    ),
    "DescribeInterface": row(
        lambda _: catalog.DescribeInterfaceRequest(interface_name=EVSE_SEARCH),
        OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
    "DownloadServiceSpecification": row(
        lambda t: catalog.DownloadServiceSpecificationRequest(service_id=t.hidden_service_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
        users=HIDDEN,
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
PROPOSAL_ROWS = {
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
    "ListProposals": row(
        lambda _: catalog.ListProposalsRequest(), OK, business=OK, technical=OK, users=OK
    ),
    **{
        name: row(
            lambda t, kind=kind: kind(proposal_id=t.proposal_id),  # type: ignore[misc]  # a default binds
            HIDDEN,
            contracted=OK,
            business=OK,
            technical=OK,
            users=OK,
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
            users=HIDDEN,
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
        users=OK,
    ),
}
