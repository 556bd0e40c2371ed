"""Proposals of standard interfaces: their states, and who may do what (use case 1257)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.proposal_findings import Finding
from marketplace.transition import advance

#: Proposals of one partner that wait for a decision or for their publication.
OPEN_MAX = 20


class ProposalState(StrEnum):
    """Where a proposal stands; the names are those of the proto enum."""

    PROPOSED = "PROPOSED"
    INVALID = "INVALID"
    IN_REVIEW = "IN_REVIEW"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    PUBLISHED = "PUBLISHED"
    WITHDRAWN = "WITHDRAWN"


class ProposalStep(StrEnum):
    """What can happen to a proposal; the names are those of `ProposalEventKind`."""

    PROPOSED = "PROPOSED"
    FOUND_INVALID = "FOUND_INVALID"
    REVIEW_OPENED = "REVIEW_OPENED"
    VOTED = "VOTED"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    PUBLISHED = "PUBLISHED"
    WITHDRAWN = "WITHDRAWN"


class VoteKind(StrEnum):
    """What a partner thinks; the names are those of the proto enum."""

    FOR = "FOR"
    AGAINST = "AGAINST"


_S, _T = ProposalState, ProposalStep
TRANSITIONS: Mapping[tuple[ProposalState, ProposalStep], ProposalState] = {
    (_S.PROPOSED, _T.FOUND_INVALID): _S.INVALID,
    (_S.PROPOSED, _T.REVIEW_OPENED): _S.IN_REVIEW,
    (_S.IN_REVIEW, _T.VOTED): _S.IN_REVIEW,
    (_S.IN_REVIEW, _T.ACCEPTED): _S.ACCEPTED,
    (_S.IN_REVIEW, _T.REJECTED): _S.REJECTED,
    # What turns out to be wrong after all is not published.
    (_S.ACCEPTED, _T.REJECTED): _S.REJECTED,
    (_S.ACCEPTED, _T.PUBLISHED): _S.PUBLISHED,
    (_S.INVALID, _T.WITHDRAWN): _S.WITHDRAWN,
    (_S.IN_REVIEW, _T.WITHDRAWN): _S.WITHDRAWN,
    (_S.ACCEPTED, _T.WITHDRAWN): _S.WITHDRAWN,
}
_REFUSALS = {
    _T.PROPOSED: "A proposal is made once.",
    _T.FOUND_INVALID: "A proposal is checked once.",
    _T.REVIEW_OPENED: "A proposal is checked once.",
    _T.VOTED: "Partners vote on proposals that are in review.",
    _T.ACCEPTED: "Only a proposal that is in review can be accepted.",
    _T.REJECTED: "Only a proposal that is in review or accepted can be rejected.",
    _T.PUBLISHED: "Only an accepted proposal can be published.",
    _T.WITHDRAWN: "The proposal is rejected, published or withdrawn already.",
}
#: States that wait for somebody.
OPEN = frozenset({_S.PROPOSED, _S.IN_REVIEW, _S.ACCEPTED})
#: Seen by the author and operators only: other partners have no use for them.
PRIVATE = frozenset({_S.PROPOSED, _S.INVALID, _S.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal without its files."""

    proposal_id: str
    proposer_id: str
    note: str
    state: ProposalState
    interface_names: tuple[str, ...]
    title: str
    category: str
    findings: tuple[Finding, ...]
    #: SHA-256 of the normalised descriptor set; empty where the files do not compile.
    digest: bytes
    decision_reason: str
    proposed_at: datetime
    votes_for: int = 0
    votes_against: int = 0


def check_visible(proposal: Proposal, actor: Actor) -> None:
    """Raise MarketError NOT_FOUND for another partner's proposal that is invalid or withdrawn."""
    if proposal.state in PRIVATE and not actor.may_see(proposal.proposer_id):
        raise not_found("proposal")


def take_step(proposal: Proposal, step: ProposalStep, actor: Actor) -> ProposalState:
    """Give the state after a step that somebody asks for.

    Raises:
        MarketError: NOT_FOUND where the actor may not see it, ROLE_NOT_ALLOWED for another's
            withdrawal or a vote on an own proposal, STATE_NOT_ALLOWED where the state forbids it.
    """
    check_visible(proposal, actor)
    own = actor.is_partner and actor.subject_id == proposal.proposer_id
    if step is ProposalStep.WITHDRAWN and not own:
        raise _role("Only its author takes a proposal back.")
    if step is ProposalStep.VOTED and own:
        raise _role("The author of a proposal does not vote on it.")
    return advance(TRANSITIONS, proposal.state, step, _REFUSALS[step])


def check_overruled(proposal: Proposal, overruled: int) -> None:
    """Refuse an acceptance that overrules votes which the operator has not seen.

    Raises:
        MarketError: STATE_NOT_ALLOWED, with the number of votes against it.
    """
    if proposal.votes_against == overruled:
        return
    raise MarketError(
        ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
        "Partners have voted against the proposal: say how many votes are overruled.",
        metadata={"votes_against_count": str(proposal.votes_against)},
    )


def check_may_propose(open_count: int) -> None:
    """Refuse a partner with too many undecided proposals; MarketError STATE_NOT_ALLOWED."""
    if open_count >= OPEN_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            f"{OPEN_MAX} proposals of the partner wait for a decision: withdraw one first.",
        )


def invalid_now(findings: tuple[Finding, ...]) -> MarketError:
    """Give the error for an accepted proposal that no longer fits what was published since."""
    return MarketError(
        ErrorReason.ERROR_REASON_INTERFACE_INVALID,
        "The proposal does not fit the catalogue any more: reject it.",
        violations=tuple(
            FieldViolation(finding.place, finding.description, finding.rule)
            for finding in findings[:20]
        ),
    )


def _role(text: str) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED, text)
