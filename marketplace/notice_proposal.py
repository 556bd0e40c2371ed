"""Who is told of proposals of standard interfaces (use case 1257).

Acceptance and rejection are told to all, as a publication is; a proposal and the votes on it to its
author and to the operators who review it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from marketplace.actor import Actor
from marketplace.notice import OPERATORS_INBOX, Notice, NoticeKind
from marketplace.proposal import Proposal, ProposalStep, VoteKind

_KINDS: Mapping[ProposalStep, NoticeKind] = {
    ProposalStep.FOUND_INVALID: NoticeKind.INTERFACE_PROPOSED,
    ProposalStep.REVIEW_OPENED: NoticeKind.INTERFACE_PROPOSED,
    ProposalStep.WITHDRAWN: NoticeKind.INTERFACE_PROPOSED,
    ProposalStep.VOTED: NoticeKind.INTERFACE_PROPOSAL_VOTED,
    ProposalStep.ACCEPTED: NoticeKind.INTERFACE_ACCEPTED,
    ProposalStep.REJECTED: NoticeKind.INTERFACE_REJECTED,
}
_WORDS: Mapping[ProposalStep, str] = {
    ProposalStep.FOUND_INVALID: "found invalid",
    ProposalStep.REVIEW_OPENED: "proposed",
    ProposalStep.WITHDRAWN: "taken back",
    ProposalStep.ACCEPTED: "accepted",
    ProposalStep.REJECTED: "rejected",
}
#: Steps that all partners are told of.
_TOLD_TO_ALL = frozenset({ProposalStep.ACCEPTED, ProposalStep.REJECTED})


def concerns_all(step: ProposalStep) -> bool:
    """Say whether all partners are told of a step."""
    return step in _TOLD_TO_ALL


def proposal_notices(
    proposal: Proposal,
    step: ProposalStep,
    actor: Actor,
    now: datetime,
    partner_ids: Iterable[str] = (),
) -> tuple[Notice, ...]:
    """Tell whom a step of a proposal concerns; nothing of its publication, which is told apart.

    `partner_ids` are all active partners, where the step concerns all.
    """
    kind = _KINDS.get(step)
    if kind is None:
        return ()
    recipients = {proposal.proposer_id, *partner_ids}
    # What its check refused waits for nobody's review.
    if step is not ProposalStep.FOUND_INVALID:
        recipients.add(OPERATORS_INBOX)
    words = _WORDS[step]
    return _notices(proposal, kind, f"Interface {words}", f"was {words}", recipients, actor, now)


def vote_notices(
    proposal: Proposal, vote: VoteKind, actor: Actor, now: datetime
) -> tuple[Notice, ...]:
    """Tell the author and the operators of a vote."""
    kind = _KINDS[ProposalStep.VOTED]
    words = f"has a vote of {actor.subject_id} {vote.value.lower()} it"
    recipients = {proposal.proposer_id, OPERATORS_INBOX}
    return _notices(proposal, kind, "Vote on a proposal", words, recipients, actor, now)


def _notices(
    proposal: Proposal,
    kind: NoticeKind,
    title: str,
    words: str,
    recipients: Iterable[str],
    actor: Actor,
    now: datetime,
) -> tuple[Notice, ...]:
    # Names are checked only in a proposal without findings.
    known = not proposal.findings
    first = proposal.interface_names[0] if known and proposal.interface_names else ""
    named = f" of {first}" if first else ""
    text = f"Proposal {proposal.proposal_id}{named} by {proposal.proposer_id} {words}."
    return tuple(
        Notice(
            recipient_id=recipient_id,
            kind=kind,
            title=title,
            text=text,
            occurred_at=now,
            interface_name=first,
            sender_id=actor.subject_id if actor.is_partner else "",
        )
        for recipient_id in sorted(recipients)
    )
