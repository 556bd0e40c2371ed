"""Requests of one party of a contract to the other (use cases 1246, 1247, 1480, 1481).

A change, the end, a later end (feature 1397) and a further service (1682) take two steps: one party
asks, the other accepts or rejects; who asked may take it back while it is pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import MarketError
from gem.marketplace.v1.contract_amendment_pb2 import ProposedTerms
from gem.marketplace.v1.contract_framework_pb2 import ContractFramework
from gem.marketplace.v1.contract_pb2 import ContractTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.contract import Contract, ContractStep, advance_contract, check_visible
from marketplace.contract_framework import framework_violations, size_violations
from marketplace.contract_period import Ending, refused
from marketplace.contract_section import take_values
from marketplace.transition import advance


class AmendmentKind(StrEnum):
    """What is asked for; the names are those of the proto enum."""

    CHANGE = "CHANGE"
    TERMINATION = "TERMINATION"
    PROLONGATION = "PROLONGATION"
    ADDITION = "ADDITION"


class AmendmentState(StrEnum):
    """Where a request stands; the names are those of the proto enum."""

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    APPLIED = "APPLIED"
    REJECTED = "REJECTED"
    REVOKED = "REVOKED"
    LAPSED = "LAPSED"


class AmendmentStep(StrEnum):
    """What can happen to a request."""

    ACCEPTED = "ACCEPTED"
    APPLIED = "APPLIED"
    REJECTED = "REJECTED"
    REVOKED = "REVOKED"
    LAPSED = "LAPSED"


TRANSITIONS: Mapping[tuple[AmendmentState, AmendmentStep], AmendmentState] = {
    (AmendmentState.PENDING, AmendmentStep.ACCEPTED): AmendmentState.SCHEDULED,
    (AmendmentState.SCHEDULED, AmendmentStep.APPLIED): AmendmentState.APPLIED,
    (AmendmentState.PENDING, AmendmentStep.REJECTED): AmendmentState.REJECTED,
    (AmendmentState.PENDING, AmendmentStep.REVOKED): AmendmentState.REVOKED,
    (AmendmentState.PENDING, AmendmentStep.LAPSED): AmendmentState.LAPSED,
    (AmendmentState.SCHEDULED, AmendmentStep.LAPSED): AmendmentState.LAPSED,
}
#: How the history of the contract names what is asked, and what is decided.
REQUESTED = {
    AmendmentKind.CHANGE: ContractStep.CHANGE_REQUESTED,
    AmendmentKind.TERMINATION: ContractStep.TERMINATION_REQUESTED,
    AmendmentKind.PROLONGATION: ContractStep.PROLONGATION_REQUESTED,
    AmendmentKind.ADDITION: ContractStep.ADDITION_REQUESTED,
}
DECIDED = {
    AmendmentStep.ACCEPTED: ContractStep.REQUEST_ACCEPTED,
    AmendmentStep.REJECTED: ContractStep.REQUEST_REJECTED,
    AmendmentStep.REVOKED: ContractStep.REQUEST_REVOKED,
    AmendmentStep.LAPSED: ContractStep.REQUEST_LAPSED,
}
_NOT_PENDING = "Only a request that is pending can be accepted, rejected or revoked."


@dataclass(frozen=True, slots=True)
class Amendment:
    """One request."""

    amendment_id: str
    contract_id: str
    kind: AmendmentKind
    state: AmendmentState
    requested_by: str
    reason: str
    #: A serialised ProposedTerms or ServiceAddition; empty for the other kinds.
    content: bytes
    #: Of a prolongation the new end; None means from the acceptance on.
    effective_at: datetime | None
    created_at: datetime
    decided_at: datetime | None = None
    note: str = ""


def check_asked(
    contract: Contract, kind: AmendmentKind, effective_at: datetime | None, now: datetime
) -> None:
    """Refuse a request that the contract's state or dates forbid.

    Raises:
        MarketError: STATE_NOT_ALLOWED, or REQUEST_INVALID for a date that makes no sense.
    """
    advance_contract(contract.state, REQUESTED[kind])
    if kind is AmendmentKind.PROLONGATION:
        _check_prolongation(contract, effective_at)
        return
    if effective_at is None:
        return
    if effective_at < now:
        raise refused("effective_time", "must not be in the past", "effective_time")
    until = contract.period.routed_until()
    if until is not None and effective_at >= until:
        raise refused("effective_time", "must be before the contract's end", "effective_time")


def decide(
    contract: Contract, amendment: Amendment, step: AmendmentStep, actor: Actor
) -> AmendmentState:
    """Give the state after a party's decision.

    Raises:
        MarketError: NOT_FOUND for strangers; ROLE_NOT_ALLOWED for the party that asked, or of a
            revocation for the other one; STATE_NOT_ALLOWED where it is not pending.
    """
    check_visible(contract, actor)
    own = actor.subject_id == amendment.requested_by
    if own != (step is AmendmentStep.REVOKED):
        raise MarketError(
            ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
            "The other party accepts or rejects a request, and who asked revokes it.",
        )
    return advance_amendment(amendment.state, step)


def advance_amendment(state: AmendmentState, step: AmendmentStep) -> AmendmentState:
    """Give the state after a step, whoever takes it; MarketError STATE_NOT_ALLOWED."""
    return advance(TRANSITIONS, state, step, _NOT_PENDING)


def changed_terms(
    before: ContractTerms, proposed: ProposedTerms, framework: ContractFramework | None
) -> ContractTerms:
    """Give the terms with proposed sections and price, the rest as it is.

    `framework` is the one that the contract is made of; None for a contract without.

    Raises:
        MarketError: REQUEST_INVALID, naming required sections that are missing, a term or trial
            period that is changed, or that nothing is.
    """
    after = ContractTerms()
    after.CopyFrom(before)
    del after.sections[:]
    after.sections.extend(proposed.sections)
    after.price.CopyFrom(proposed.price)
    if framework is not None:
        found = next(framework_violations(list(after.sections), framework, "terms.sections"), None)
        if found is not None:
            raise refused(found.field, found.description, found.rule)
    kept = {section.section_id for section in after.sections}
    for section in before.sections:
        if framework is None and section.required and section.section_id not in kept:
            description = f"must contain `{section.section_id}`"
            raise refused("terms.sections", description, "section_required")
    take_values(after)
    if framework is None and any(section.WhichOneof("value") for section in after.sections):
        raise refused("terms.sections", "must be text only without framework", "framework_version")
    if (after.term, after.trial) != (before.term, before.trial):
        description = "must leave term and trial period: a prolongation or termination moves them"
        raise refused("terms.sections", description, "term_unchanged")
    for found in size_violations(after, "terms"):
        raise refused(found.field, found.description, found.rule)
    if after == before:
        raise refused("terms", "must differ from the terms in force", "terms_changed")
    return after


def _check_prolongation(contract: Contract, ends_at: datetime | None) -> None:
    assert ends_at is not None, "a prolongation names the new end"
    period = contract.period
    if period.ends_at is None or period.ending is Ending.TERMINATES:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The contract has no end, or one by notice or agreement: it cannot be prolonged.",
        )
    if ends_at <= period.ends_at:
        raise refused("end_time", "must be later than the present end", "end_later")
