"""The part of InterfaceCatalogService from a proposal to its publication (1257, 1493)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_proposal_pb2
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.interface_download import pieces
from marketplace.interface_publication import Compile, publish, render_interface
from marketplace.interface_text import describe
from marketplace.new_interface import NewInterface, new_interface
from marketplace.notice_proposal import concerns_all, proposal_notices, vote_notices
from marketplace.partner import check_active
from marketplace.proposal import (
    Proposal,
    ProposalState,
    ProposalStep,
    VoteKind,
    check_may_propose,
    check_overruled,
    check_visible,
    invalid_now,
    take_step,
)
from marketplace.proposal_comparison import Neighbours, compare, neighbours, published_sets
from marketplace.proposal_compiler import Examination, ProposalCompiler
from marketplace.proposal_findings import FINDINGS_MAX
from marketplace.proposal_rendering import (
    STATE,
    VOTE,
    render_event,
    render_proposal,
    render_vote,
)
from marketplace.proposal_upload import read_upload
from marketplace.rendering import enum_member
from marketplace.storage_command import Commands, Work, conflict
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_notice import active_partners, tell
from marketplace.storage_paging import page_by_number, page_by_text
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_proposal import ProposalFilter, ProposalStorage

#: Comments may be long.
VOTES_PAGE_MAX = 100


class InterfaceProposalServicer:
    """Takes proposals, has them reviewed, and publishes what is accepted."""

    def __init__(
        self,
        commands: Commands,
        compiler: ProposalCompiler,
        compile_set: Compile,
        make_id: Callable[[], str],
    ) -> None:
        self._commands = commands
        self._compiler = compiler
        self._compile = compile_set
        self._make_id = make_id

    async def ProposeInterface(  # noqa: N802  # the rpc's name
        self, requests: AsyncIterator[catalog.ProposeInterfaceRequest], call: Call
    ) -> catalog.ProposeInterfaceResponse:
        """Take an upload, have it checked, and open the review or show the findings."""
        upload = await read_upload(requests)
        found = await self._compiler.examine(upload.sources, upload.descriptor_set)
        if found.interfaces:
            async with self._commands.read(call) as w:
                storage = InterfaceStorage(w.connection)
                known = await neighbours(storage, found.interfaces, found.digest)
                earlier = await published_sets(storage, known)
            more = await compare(
                self._compiler, found.descriptor_set, found.interfaces, known, earlier
            )
            found = replace(found, findings=(*found.findings, *more)[:FINDINGS_MAX])

        async def work(w: Work) -> catalog.ProposeInterfaceResponse:
            proposal = await self._proposed(w, found, upload.header.note)
            return catalog.ProposeInterfaceResponse(proposal=render_proposal(proposal))

        response = catalog.ProposeInterfaceResponse
        return await self._commands.run(upload.command(), call, response, work)

    async def WithdrawProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.WithdrawProposalRequest, call: Call
    ) -> catalog.WithdrawProposalResponse:
        """Take an own proposal back."""

        async def work(w: Work) -> catalog.WithdrawProposalResponse:
            proposal = await _step(w, request.proposal_id, ProposalStep.WITHDRAWN)
            return catalog.WithdrawProposalResponse(proposal=render_proposal(proposal))

        response = catalog.WithdrawProposalResponse
        return await self._commands.run(request, call, response, work)

    async def VoteOnProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.VoteOnProposalRequest, call: Call
    ) -> catalog.VoteOnProposalResponse:
        """Write the caller's vote, in place of its earlier one."""
        kind = enum_member(VoteKind, interface_proposal_pb2.ProposalVoteKind, VOTE, request.kind)
        assert kind is not None, "the interface's own rules refuse the unspecified one"

        async def work(w: Work) -> catalog.VoteOnProposalResponse:
            storage = ProposalStorage(w.connection)
            proposal = await storage.locked(request.proposal_id)
            take_step(proposal, ProposalStep.VOTED, w.actor)
            voter = await PartnerStorage(w.connection).shared(w.actor.subject_id)
            check_active(voter)
            await storage.vote(proposal.proposal_id, voter.partner_id, kind, request.comment, w.now)
            await storage.remember(proposal, ProposalStep.VOTED, w.actor, w.now)
            counted = await storage.get(proposal.proposal_id)
            await tell(w.connection, vote_notices(counted, kind, w.actor, w.now))
            return catalog.VoteOnProposalResponse(proposal=render_proposal(counted))

        response = catalog.VoteOnProposalResponse
        return await self._commands.run(request, call, response, work)

    async def AcceptProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.AcceptProposalRequest, call: Call
    ) -> catalog.AcceptProposalResponse:
        """Accept a proposal as a standard interface; it is not published by that."""

        async def work(w: Work) -> catalog.AcceptProposalResponse:
            overruled = request.overruled_votes_count
            step = ProposalStep.ACCEPTED
            proposal = await _step(
                w, request.proposal_id, step, reason=request.reason, overruled=overruled
            )
            return catalog.AcceptProposalResponse(proposal=render_proposal(proposal))

        response = catalog.AcceptProposalResponse
        return await self._commands.run(request, call, response, work)

    async def RejectProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.RejectProposalRequest, call: Call
    ) -> catalog.RejectProposalResponse:
        """Reject a proposal with the reason."""

        async def work(w: Work) -> catalog.RejectProposalResponse:
            step = ProposalStep.REJECTED
            proposal = await _step(w, request.proposal_id, step, reason=request.reason)
            return catalog.RejectProposalResponse(proposal=render_proposal(proposal))

        response = catalog.RejectProposalResponse
        return await self._commands.run(request, call, response, work)

    async def PublishProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.PublishProposalRequest, call: Call
    ) -> catalog.PublishProposalResponse:
        """Publish an accepted proposal after comparing it once more with what is published now."""
        async with self._commands.read(call) as w:
            storage = ProposalStorage(w.connection)
            proposal = await storage.get(request.proposal_id)
            raw = await storage.descriptor_set(request.proposal_id)
        new: list[NewInterface] = []
        known: Neighbours | None = None
        # In any other state the step is refused, or this repeats what was done.
        if proposal.state is ProposalState.ACCEPTED:
            new = [new_interface(each) for each in await asyncio.to_thread(self._compile, raw)]
            known = await self._still_fits(call, proposal, raw, new)

        async def work(w: Work) -> catalog.PublishProposalResponse:
            after = await _step(w, request.proposal_id, ProposalStep.PUBLISHED)
            catalogue = InterfaceStorage(w.connection)
            await catalogue.lock()
            if await neighbours(catalogue, new, proposal.digest) != known:
                raise conflict()
            rows = await publish(w, proposal.digest, raw, new)
            return catalog.PublishProposalResponse(
                proposal=render_proposal(after), interfaces=map(render_interface, rows)
            )

        response = catalog.PublishProposalResponse
        return await self._commands.run(request, call, response, work)

    async def GetProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.GetProposalRequest, call: Call
    ) -> catalog.GetProposalResponse:
        """Give a proposal with its findings."""
        async with self._commands.read(call) as w:
            proposal = await _visible(w, request.proposal_id)
        return catalog.GetProposalResponse(proposal=render_proposal(proposal))

    async def ListProposals(  # noqa: N802  # the rpc's name
        self, request: catalog.ListProposalsRequest, call: Call
    ) -> catalog.ListProposalsResponse:
        """List proposals, the oldest first."""
        page = page_by_number(request.page)
        state = enum_member(
            ProposalState, interface_proposal_pb2.ProposalState, STATE, request.state
        )
        condition = ProposalFilter(state, request.category, request.proposer_id)
        async with self._commands.read(call) as w:
            proposals, info = await ProposalStorage(w.connection).page(page, condition, w.actor)
        return catalog.ListProposalsResponse(proposals=map(render_proposal, proposals), page=info)

    async def ListProposalVotes(  # noqa: N802  # the rpc's name
        self, request: catalog.ListProposalVotesRequest, call: Call
    ) -> catalog.ListProposalVotesResponse:
        """List the votes on a proposal by partner."""
        page = page_by_text(request.page, VOTES_PAGE_MAX)
        async with self._commands.read(call) as w:
            await _visible(w, request.proposal_id)
            rows, info = await ProposalStorage(w.connection).votes(page, request.proposal_id)
        return catalog.ListProposalVotesResponse(votes=map(render_vote, rows), page=info)

    async def ListProposalEvents(  # noqa: N802  # the rpc's name
        self, request: catalog.ListProposalEventsRequest, call: Call
    ) -> catalog.ListProposalEventsResponse:
        """List what happened to a proposal, the oldest first."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            await _visible(w, request.proposal_id)
            rows, info = await ProposalStorage(w.connection).events(page, request.proposal_id)
        return catalog.ListProposalEventsResponse(events=map(render_event, rows), page=info)

    async def DescribeProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.DescribeProposalRequest, call: Call
    ) -> catalog.DescribeProposalResponse:
        """Render the interfaces of a proposal as text."""
        async with self._commands.read(call) as w:
            proposal = await _visible(w, request.proposal_id)
            raw = await _files(w, proposal)
        text = await asyncio.to_thread(describe, raw, proposal.interface_names)
        return catalog.DescribeProposalResponse(text=text)

    async def DownloadProposal(  # noqa: N802  # the rpc's name
        self, request: catalog.DownloadProposalRequest, call: Call
    ) -> AsyncIterator[catalog.DownloadProposalResponse]:
        """Hand out the files of a proposal in pieces."""
        async with self._commands.read(call) as w:
            proposal = await _visible(w, request.proposal_id)
            raw = await _files(w, proposal)
        async for piece in pieces(raw, request.form, catalog.DownloadProposalResponse):
            yield piece

    async def _proposed(self, w: Work, found: Examination, note: str) -> Proposal:
        """Write the proposal with the outcome of its check, as two steps of its history."""
        storage = ProposalStorage(w.connection)
        proposer = await PartnerStorage(w.connection).shared(w.actor.subject_id)
        check_active(proposer)
        check_may_propose(await storage.count_open(proposer.partner_id))
        first = found.interfaces[0] if found.interfaces else None
        proposal = Proposal(
            proposal_id=self._make_id(),
            proposer_id=proposer.partner_id,
            note=note,
            state=ProposalState.PROPOSED,
            interface_names=tuple(each.interface_name for each in found.interfaces),
            title=first.title if first else "",
            category=first.category if first else "",
            findings=found.findings,
            digest=found.digest,
            decision_reason="",
            proposed_at=w.now,
        )
        # What is refused is not kept: nobody can publish it.
        await storage.add(proposal, b"" if found.findings else found.descriptor_set)
        await storage.remember(proposal, ProposalStep.PROPOSED, w.actor, w.now)
        step = ProposalStep.FOUND_INVALID if found.findings else ProposalStep.REVIEW_OPENED
        return await _step(w, proposal.proposal_id, step)

    async def _still_fits(
        self, call: Call, proposal: Proposal, raw: bytes, new: Sequence[NewInterface]
    ) -> Neighbours:
        """Compare an accepted proposal with what is published; INTERFACE_INVALID with findings."""
        async with self._commands.read(call) as w:
            storage = InterfaceStorage(w.connection)
            known = await neighbours(storage, new, proposal.digest)
            earlier = await published_sets(storage, known)
        findings = await compare(self._compiler, raw, new, known, earlier)
        if findings:
            raise invalid_now(findings)
        return known


async def _step(
    w: Work,
    proposal_id: str,
    step: ProposalStep,
    *,
    reason: str | None = None,
    overruled: int | None = None,
) -> Proposal:
    """Take a proposal one step on, with its row of the history, and tell whom it concerns."""
    storage = ProposalStorage(w.connection)
    before = await storage.locked(proposal_id)
    state = take_step(before, step, w.actor)
    if overruled is not None:
        check_overruled(before, overruled)
    said = before.decision_reason if reason is None else reason
    after = replace(before, state=state, decision_reason=said)
    await storage.set_state(after)
    await storage.remember(after, step, w.actor, w.now)
    # The publication itself is told where the interfaces get their versions.
    everybody = await active_partners(w.connection) if concerns_all(step) else ()
    await tell(w.connection, proposal_notices(after, step, w.actor, w.now, everybody))
    return after


async def _visible(w: Work, proposal_id: str) -> Proposal:
    proposal = await ProposalStorage(w.connection).get(proposal_id)
    check_visible(proposal, w.actor)
    return proposal


async def _files(w: Work, proposal: Proposal) -> bytes:
    """Give the files of a proposal; MarketError NOT_FOUND where none are kept."""
    raw = await ProposalStorage(w.connection).descriptor_set(proposal.proposal_id)
    if not raw:
        raise not_found("set of files")
    return raw
