"""Contracts: their states, and how accepting an offering makes one (use cases 1485, 1490)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.contract_pb2 import ContractTerms, OfferingTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.partner import Partner, PartnerState, check_active
from marketplace.service import Service, ServiceState
from marketplace.transition import advance


class ContractState(StrEnum):
    """Where a contract stands; the names are those of the proto enum."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    TERMINATED = "TERMINATED"


class ContractStep(StrEnum):
    """What can happen to a contract; the names are those of `ContractEventKind`."""

    CREATED = "CREATED"
    SUSPENDED = "SUSPENDED"
    RESUMED = "RESUMED"
    TERMINATED = "TERMINATED"


TRANSITIONS: Mapping[tuple[ContractState, ContractStep], ContractState] = {
    (ContractState.ACTIVE, ContractStep.SUSPENDED): ContractState.SUSPENDED,
    (ContractState.SUSPENDED, ContractStep.RESUMED): ContractState.ACTIVE,
    (ContractState.ACTIVE, ContractStep.TERMINATED): ContractState.TERMINATED,
    (ContractState.SUSPENDED, ContractStep.TERMINATED): ContractState.TERMINATED,
}

_REFUSALS = {
    ContractStep.CREATED: "A contract is created once.",
    ContractStep.SUSPENDED: "Only an active contract can be suspended.",
    ContractStep.RESUMED: "Only a suspended contract can be resumed.",
    ContractStep.TERMINATED: "The contract is terminated already.",
}
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
    #: A serialised `gem.marketplace.v1.ContractTerms`; never changes.
    terms: bytes
    created_at: datetime
    terminated_at: datetime | None


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
    return advance(TRANSITIONS, contract.state, step, _REFUSALS[step])


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


def agree(offering: OfferingTerms, service: Service, acceptance: Acceptance) -> ContractTerms:
    """Give what both parties agree to: the chosen sections, the price, and the service as it is.

    Raises:
        MarketError: REQUEST_INVALID, naming each required section that is not chosen (use case
            1485, first failure), or a choice that the offering does not have.
    """
    known = {section.section_id: section for section in offering.sections}
    chosen = set(acceptance.section_ids)
    missing = [s.section_id for s in offering.sections if s.required and s.section_id not in chosen]
    violations = [_missing(section_id) for section_id in missing]
    violations += [
        _unknown(index) for index, name in enumerate(acceptance.section_ids) if name not in known
    ]
    if violations:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The contract is incomplete: nothing was created.",
            violations=tuple(violations),
        )
    return ContractTerms(
        sections=[section for name, section in known.items() if name in chosen],
        price=offering.price,
        interface_name=service.interface_name,
        interface_version=service.interface_version,
        service_title=service.title,
        service_version=service.service_version,
    )


def _missing(section_id: str) -> FieldViolation:
    # The id is the provider's published one, not something that this caller sent.
    return FieldViolation("section_ids", f"must contain `{section_id}`", "section_required")


def _unknown(index: int) -> FieldViolation:
    return FieldViolation(
        f"section_ids[{index}]", "must be a section of the offering", "section_known"
    )
