"""Proposals, their votes and their history as messages."""

from __future__ import annotations

from typing import Any

from gem.marketplace.v1 import interface_proposal_pb2
from marketplace.proposal import Proposal, ProposalState, ProposalStep, VoteKind
from marketplace.proposal_findings import Finding
from marketplace.rendering import enum_number, timestamp

STATE = "PROPOSAL_STATE"
VOTE = "PROPOSAL_VOTE_KIND"
_EVENT = "PROPOSAL_EVENT_KIND"


def render_proposal(proposal: Proposal) -> interface_proposal_pb2.Proposal:
    """Give a proposal; lists have read no note and no findings."""
    rendered: Any = interface_proposal_pb2.Proposal(
        proposal_id=proposal.proposal_id,
        proposer_id=proposal.proposer_id,
        note=proposal.note,
        interface_names=proposal.interface_names,
        title=proposal.title,
        category=proposal.category,
        findings=map(render_finding, proposal.findings),
        digest=proposal.digest,
        decision_reason=proposal.decision_reason,
        votes_for_count=proposal.votes_for,
        votes_against_count=proposal.votes_against,
        propose_time=timestamp(proposal.proposed_at),
    )
    rendered.state = enum_number(interface_proposal_pb2.ProposalState, STATE, proposal.state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_finding(finding: Finding) -> interface_proposal_pb2.ProposalFinding:
    """Give one broken rule with its place."""
    return interface_proposal_pb2.ProposalFinding(
        file=finding.file,
        line_number=finding.line,
        element=finding.element,
        rule=finding.rule,
        description=finding.description,
    )


def render_vote(row: Any) -> interface_proposal_pb2.ProposalVote:
    """Give one partner's vote."""
    rendered: Any = interface_proposal_pb2.ProposalVote(
        partner_id=row.partner_id, comment=row.comment, vote_time=timestamp(row.voted_at)
    )
    kind = VoteKind(row.kind)
    rendered.kind = enum_number(interface_proposal_pb2.ProposalVoteKind, VOTE, kind)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_event(row: Any) -> interface_proposal_pb2.ProposalEvent:
    """Give one row of the history."""
    rendered: Any = interface_proposal_pb2.ProposalEvent(
        actor=row.actor, event_time=timestamp(row.occurred_at)
    )
    step, state = ProposalStep(row.kind), ProposalState(row.state)
    rendered.kind = enum_number(interface_proposal_pb2.ProposalEventKind, _EVENT, step)
    rendered.state = enum_number(interface_proposal_pb2.ProposalState, STATE, state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers
