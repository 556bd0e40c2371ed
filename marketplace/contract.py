"""Contracts: their states, and how accepting an offering makes one (use cases 1485, 1490).

What happens to them by itself is in `contract_schedule`, what one party asks of the other in
`amendment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.contract_pb2 import ContractTerms, OfferingTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.contract_period import Ending, Period
from marketplace.contract_section import choice_violations, take_values
from marketplace.partner import Partner, PartnerState, check_active
from marketplace.service import Service, ServiceState
from marketplace.transition import advance


class ContractState(StrEnum):
    """Where a contract stands; the names are those of the proto enum."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    TERMINATED = "TERMINATED"
    PENDING = "PENDING"
    EXPIRED = "EXPIRED"


#: In these states a contract has ended for ever.
ENDED = frozenset({ContractState.TERMINATED, ContractState.EXPIRED})


class ContractStep(StrEnum):
    """What can happen to a contract; the names are those of `ContractEventKind`."""

    CREATED = "CREATED"
    SUSPENDED = "SUSPENDED"
    RESUMED = "RESUMED"
    TERMINATED = "TERMINATED"
    STARTED = "STARTED"
    EXPIRED = "EXPIRED"
    PROLONGED = "PROLONGED"
    TRIAL_ENDED = "TRIAL_ENDED"
    REMINDED = "REMINDED"
    NOTICE_GIVEN = "NOTICE_GIVEN"
    CHANGED = "CHANGED"
    SERVICE_ADDED = "SERVICE_ADDED"
    CHANGE_REQUESTED = "CHANGE_REQUESTED"
    TERMINATION_REQUESTED = "TERMINATION_REQUESTED"
    PROLONGATION_REQUESTED = "PROLONGATION_REQUESTED"
    ADDITION_REQUESTED = "ADDITION_REQUESTED"
    REQUEST_ACCEPTED = "REQUEST_ACCEPTED"
    REQUEST_REJECTED = "REQUEST_REJECTED"
    REQUEST_REVOKED = "REQUEST_REVOKED"
    REQUEST_LAPSED = "REQUEST_LAPSED"


#: These leave the state as it is while a contract has not ended.
_BESIDE_THE_STATE = (
    ContractStep.PROLONGED,
    ContractStep.TRIAL_ENDED,
    ContractStep.REMINDED,
    ContractStep.NOTICE_GIVEN,
    ContractStep.CHANGED,
    ContractStep.SERVICE_ADDED,
    ContractStep.CHANGE_REQUESTED,
    ContractStep.TERMINATION_REQUESTED,
    ContractStep.PROLONGATION_REQUESTED,
    ContractStep.ADDITION_REQUESTED,
    ContractStep.REQUEST_ACCEPTED,
    ContractStep.REQUEST_REJECTED,
    ContractStep.REQUEST_REVOKED,
)
_LIVE = (ContractState.PENDING, ContractState.ACTIVE, ContractState.SUSPENDED)

TRANSITIONS: Mapping[tuple[ContractState, ContractStep], ContractState] = {
    (ContractState.PENDING, ContractStep.STARTED): ContractState.ACTIVE,
    (ContractState.ACTIVE, ContractStep.SUSPENDED): ContractState.SUSPENDED,
    (ContractState.SUSPENDED, ContractStep.RESUMED): ContractState.ACTIVE,
    **{(state, ContractStep.TERMINATED): ContractState.TERMINATED for state in _LIVE},
    **{(state, ContractStep.EXPIRED): ContractState.EXPIRED for state in _LIVE},
    **{(state, step): state for state in _LIVE for step in _BESIDE_THE_STATE},
}

_REFUSALS = {
    ContractStep.CREATED: "A contract is created once.",
    ContractStep.SUSPENDED: "Only an active contract can be suspended.",
    ContractStep.RESUMED: "Only a suspended contract can be resumed.",
    ContractStep.TERMINATED: "The contract is terminated already.",
}
_ENDED = "The contract has ended."
_REQUESTER_ONLY = frozenset({ContractStep.SUSPENDED, ContractStep.RESUMED})


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract between a requester and a provider."""

    contract_id: str
    #: Contract order: the order of creation.
    position: int
    requester_id: str
    provider_id: str
    service_id: str
    offering_id: str
    state: ContractState
    #: A serialised `gem.marketplace.v1.ContractTerms`: those of `revision`, which never change.
    terms: bytes
    created_at: datetime
    terminated_at: datetime | None
    period: Period = field(default_factory=Period)
    #: Number of the terms in force, from 1 on.
    revision: int = 1
    #: When the next revision, which is agreed already, comes into force.
    changes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a requester says about an offering."""

    section_ids: tuple[str, ...]
    accepted: bool


def take_step(contract: Contract, step: ContractStep, actor: Actor) -> ContractState:
    """Give the state after a step that somebody asks for.

    Raises:
        MarketError: NOT_FOUND for a partner that is no party, ROLE_NOT_ALLOWED for the provider
            where the step is the requester's, STATE_NOT_ALLOWED where the state forbids it.
    """
    check_visible(contract, actor)
    if step in _REQUESTER_ONLY and actor.subject_id != contract.requester_id:
        raise MarketError(
            ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
            "Only the requester of a contract suspends and resumes it.",
        )
    return advance_contract(contract.state, step)


def advance_contract(state: ContractState, step: ContractStep) -> ContractState:
    """Give the state after a step, whoever takes it; MarketError STATE_NOT_ALLOWED."""
    return advance(TRANSITIONS, state, step, _REFUSALS.get(step, _ENDED))


def check_no_notice(contract: Contract) -> None:
    """Raise MarketError STATE_NOT_ALLOWED where its end by notice or agreement is fixed already."""
    if contract.period.ending is Ending.TERMINATES:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "Notice was given already, or the end was agreed.",
        )


def check_visible(contract: Contract, actor: Actor) -> None:
    """Raise MarketError NOT_FOUND for a partner that is no party to the contract."""
    if not actor.may_see(contract.requester_id, contract.provider_id):
        raise not_found("contract")


def check_accepted(acceptance: Acceptance) -> None:
    """Refuse where the offering is not accepted (use case 1485, second failure).

    Raises:
        MarketError: REQUEST_INVALID.
    """
    if not acceptance.accepted:
        description = "must be true: a contract is made by accepting the offering"
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The offering was not accepted: nothing was created.",
            violations=(FieldViolation("accepted", description, "accepted"),),
        )


def check_parties(service: Service, requester: Partner, provider: Partner) -> None:
    """Refuse a contract with oneself, for a service that is not started, or of an inactive partner.

    Raises:
        MarketError: PARTNER_NOT_ACTIVE for the requester, else STATE_NOT_ALLOWED.
    """
    check_active(requester)
    refusal = None
    if provider.partner_id == requester.partner_id:
        refusal = "A partner has no contract with itself."
    elif service.state is not ServiceState.PUBLISHED:
        refusal = "The service is not published and started."
    elif provider.state is not PartnerState.ACTIVE:
        refusal = "The provider is not active."
    if refusal is not None:
        raise MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, refusal)


def agree(
    offering: OfferingTerms, service: Service, acceptance: Acceptance, offering_revision: int = 0
) -> ContractTerms:
    """Give what both parties agree to: the chosen sections, the price, and the service as it is.

    Raises:
        MarketError: REQUEST_INVALID, naming each required section that is not chosen (use case
            1485, first failure), or a choice that the offering does not have.
    """
    violations = choice_violations(offering.sections, acceptance.section_ids)
    if violations:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The contract is incomplete: nothing was created.",
            violations=violations,
        )
    chosen = set(acceptance.section_ids)
    terms = ContractTerms(
        sections=[section for section in offering.sections if section.section_id in chosen],
        price=offering.price,
        interface_name=service.interface_name,
        interface_version=service.interface_version,
        service_title=service.title,
        service_version=service.service_version,
        framework_version=offering.framework_version,
        offering_revision=offering_revision,
    )
    return take_values(terms)
