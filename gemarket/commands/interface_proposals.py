"""The part of `gemarket interfaces` from a proposal to its publication (use cases 1257, 1493)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_proposal_pb2
from gemarket.administration import new_request_id
from gemarket.commands.calling import (
    Json,
    Limit,
    bytes_progress,
    enum_name,
    enum_value,
    pages,
    run,
    show,
    show_all,
    told,
    when,
)
from gemarket.core_client import CoreClient
from gemarket.interface_files import read_proposal, upload_messages
from gemarket.options import As, DataDir

_SERVICE = "InterfaceCatalogService"
_STATE = (interface_proposal_pb2.ProposalState, "PROPOSAL_STATE")
_VOTE = (interface_proposal_pb2.ProposalVoteKind, "PROPOSAL_VOTE_KIND")

ProposalId = Annotated[str, typer.Argument(metavar="PROPOSAL", help="Id of the proposal.")]


def add_to(application: typer.Typer) -> None:
    """Add the commands about proposals."""
    application.command("propose")(propose)
    application.command("proposals")(proposals)
    application.command("proposal")(show_proposal)
    application.command("vote")(vote)
    application.command("review")(review)
    application.command("publish")(publish)
    application.command("withdraw")(withdraw)


def propose(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder of .proto files, or a descriptor set.")
    ],
    *,
    note: Annotated[str, typer.Option(help="What reviewers should know.")] = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Propose interfaces; shows what is wrong with them, by file, line and rule."""

    async def work(market: CoreClient) -> None:
        files = read_proposal(path)
        messages = upload_messages(files, new_request_id(), note)
        with bytes_progress() as bar:
            task = bar.add_task(str(path), total=sum(map(len, files.values())))

            def counted(sent: Iterable[Any]) -> Iterator[Any]:
                for message in sent:
                    yield message
                    size = len(message.source_part.content) + len(message.descriptor_set_part)
                    bar.advance(task, size)

            method, response = f"{_SERVICE}/ProposeInterface", catalog.ProposeInterfaceResponse
            answer = await market.upload(method, counted(messages), response)
        _show_one(answer.proposal, json=json)
        if answer.proposal.findings:
            raise typer.Exit(1)

    run(work, caller, data_dir)


def proposals(
    *,
    state: Annotated[str, typer.Option(help="For instance in-review.")] = "",
    category: Annotated[str, typer.Option(help="Category.")] = "",
    author: Annotated[str, typer.Option(help="Partner that proposes.")] = "",
    limit: Limit = 100,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List proposals, the oldest first."""

    async def work(market: CoreClient) -> None:
        request = catalog.ListProposalsRequest(category=category, proposer_id=author)
        if state:
            request.state = enum_value(*_STATE, state)
        method, response = f"{_SERVICE}/ListProposals", catalog.ListProposalsResponse
        found = await pages(market, method, request, response, "proposals", limit)
        columns = ("id", "state", "by", "interfaces", "for", "against", "at (UTC)")
        show_all(found, "Proposals", columns, _row, json=json)

    run(work, caller, data_dir)


def show_proposal(
    proposal_id: ProposalId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Show a proposal with its findings."""

    async def work(market: CoreClient) -> None:
        request = catalog.GetProposalRequest(proposal_id=proposal_id)
        method, response = f"{_SERVICE}/GetProposal", catalog.GetProposalResponse
        _show_one((await market.ask(method, request, response)).proposal, json=json)

    run(work, caller, data_dir)


def vote(
    proposal_id: ProposalId,
    kind: Annotated[str, typer.Argument(metavar="VOTE", help="for or against.")],
    *,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Vote on a proposal, in place of an earlier vote."""

    async def work(market: CoreClient) -> None:
        request = catalog.VoteOnProposalRequest(
            request_id=new_request_id(), proposal_id=proposal_id, comment=comment
        )
        request.kind = enum_value(*_VOTE, kind)
        method, response = f"{_SERVICE}/VoteOnProposal", catalog.VoteOnProposalResponse
        _show_one((await market.ask(method, request, response)).proposal, json=json)

    run(work, caller, data_dir)


def review(
    proposal_id: ProposalId,
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="accept or reject.")],
    *,
    reason: Annotated[str, typer.Option(help="What everybody is to know.")],
    overruled: Annotated[int, typer.Option(min=0, help="Votes against it, overruled.")] = 0,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Accept or reject a proposal (technical operator)."""

    async def work(market: CoreClient) -> None:
        fields = {"request_id": new_request_id(), "proposal_id": proposal_id, "reason": reason}
        answer: Any
        if decision == "accept":
            accept = catalog.AcceptProposalRequest(overruled_votes_count=overruled, **fields)
            response = catalog.AcceptProposalResponse
            answer = await market.ask(f"{_SERVICE}/AcceptProposal", accept, response)
        elif decision == "reject":
            reject = catalog.RejectProposalRequest(**fields)
            method = f"{_SERVICE}/RejectProposal"
            answer = await market.ask(method, reject, catalog.RejectProposalResponse)
        else:
            raise ValueError(f"there is no decision {decision!r}; there are: accept, reject")
        _show_one(answer.proposal, json=json)

    run(work, caller, data_dir)


def publish(
    proposal_id: ProposalId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Publish an accepted proposal: it can be called at once (technical operator)."""

    async def work(market: CoreClient) -> None:
        request = catalog.PublishProposalRequest(
            request_id=new_request_id(), proposal_id=proposal_id
        )
        method, response = f"{_SERVICE}/PublishProposal", catalog.PublishProposalResponse
        answer = await market.ask(method, request, response)
        if json:
            show(answer)
        for interface in () if json else answer.interfaces:
            told(f"{interface.interface_name} version {interface.version} is published")

    run(work, caller, data_dir)


def withdraw(
    proposal_id: ProposalId, *, caller: As = "", json: Json = False, data_dir: DataDir = None
) -> None:
    """Take a proposal of one's own back."""

    async def work(market: CoreClient) -> None:
        request = catalog.WithdrawProposalRequest(
            request_id=new_request_id(), proposal_id=proposal_id
        )
        method, response = f"{_SERVICE}/WithdrawProposal", catalog.WithdrawProposalResponse
        _show_one((await market.ask(method, request, response)).proposal, json=json)

    run(work, caller, data_dir)


def _show_one(proposal: Any, *, json: bool) -> None:
    if json:
        show(proposal)
        return
    told("  ".join(_row(proposal)))
    if proposal.decision_reason:
        told(proposal.decision_reason)
    if proposal.findings:
        columns = ("file", "line", "rule", "what")
        show_all(proposal.findings, "Findings", columns, _finding_row, json=False)


def _finding_row(finding: Any) -> tuple[str, ...]:
    what = f"{finding.element}: {finding.description}" if finding.element else finding.description
    return finding.file, str(finding.line_number or ""), finding.rule, what


def _row(proposal: Any) -> tuple[str, ...]:
    return (
        proposal.proposal_id,
        enum_name(*_STATE, proposal.state),
        proposal.proposer_id,
        ", ".join(proposal.interface_names),
        str(proposal.votes_for_count),
        str(proposal.votes_against_count),
        when(proposal.propose_time),
    )
