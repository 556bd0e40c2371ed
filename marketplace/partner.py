"""Business partners: the states of an account and what registration asks for (use case 1374).

An account is registered, then activated and inactivated (1379, 1380), and deleted at last (1386).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.transition import advance

#: Valid certificates that a partner may have at a time: enough for rotation on many machines.
CERTIFICATES_MAX = 20
IDENTIFIERS_MAX = 100
#: Status details travel in trailers, where peers refuse more than 8 KiB in all.
BLOCKING_CONTRACTS_SHOWN = 40


class PartnerState(StrEnum):
    """Where an account stands; the names are those of the proto enum."""

    REGISTERED = "REGISTERED"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    DELETED = "DELETED"


class PartnerStep(StrEnum):
    """What can happen to an account; the names are those of `PartnerEventKind`."""

    REGISTERED = "REGISTERED"
    ACTIVATED = "ACTIVATED"
    INACTIVATED = "INACTIVATED"
    ROLES_SET = "ROLES_SET"
    IDENTIFIER_ADDED = "IDENTIFIER_ADDED"
    IDENTIFIER_REMOVED = "IDENTIFIER_REMOVED"
    CHANGE_REQUESTED = "CHANGE_REQUESTED"
    CHANGE_APPROVED = "CHANGE_APPROVED"
    CHANGE_REFUSED = "CHANGE_REFUSED"
    CHANGE_WITHDRAWN = "CHANGE_WITHDRAWN"
    PERSON_CHANGED = "PERSON_CHANGED"
    CONTRACT_ACCEPTED = "CONTRACT_ACCEPTED"
    CERTIFICATE_ISSUED = "CERTIFICATE_ISSUED"
    CERTIFICATE_REVOKED = "CERTIFICATE_REVOKED"
    DELETED = "DELETED"


#: Use cases 1379 and 1380, feature 1386. The other steps leave the state as it is, and only a
#: deleted account takes none of them.
TRANSITIONS: Mapping[tuple[PartnerState, PartnerStep], PartnerState] = {
    (PartnerState.REGISTERED, PartnerStep.ACTIVATED): PartnerState.ACTIVE,
    (PartnerState.INACTIVE, PartnerStep.ACTIVATED): PartnerState.ACTIVE,
    (PartnerState.ACTIVE, PartnerStep.INACTIVATED): PartnerState.INACTIVE,
    (PartnerState.INACTIVE, PartnerStep.DELETED): PartnerState.DELETED,
}

_REFUSALS = {
    PartnerStep.ACTIVATED: "The partner is active already, or deleted.",
    PartnerStep.INACTIVATED: "The partner is not active.",
    PartnerStep.DELETED: "Only an inactive partner can be deleted.",
}


@dataclass(frozen=True, slots=True)
class Partner:
    """A business partner without what it stated about itself."""

    partner_id: str
    state: PartnerState
    #: Values of `gem.options.v1.PartnerRole`, ascending.
    roles: tuple[int, ...]
    partner_contract_version: int
    registered_at: datetime
    #: Counts the changes of profile, roles and identifiers.
    revision: int = 1


def check_partner_contract(
    accepted_version: int,
    current_version: int,
    field: str = "accepted_partner_contract_version",
) -> None:
    """Refuse a registration without the current partner contract (use case 1374, second failure).

    Raises:
        MarketError: REQUEST_INVALID.
    """
    if accepted_version == current_version:
        return
    description = (
        "another version of the partner contract is in force"
        if accepted_version
        else "the partner contract must be accepted"
    )
    raise MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The partner contract is not accepted: nothing was done.",
        violations=(FieldViolation(field, description, "partner_contract"),),
        metadata={"current_version": str(current_version)},
    )


def check_active(partner: Partner) -> None:
    """Refuse who was inactivated while its call was on the way; MarketError PARTNER_NOT_ACTIVE."""
    if partner.state is not PartnerState.ACTIVE:
        raise MarketError(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE, "The partner is not active.")


def check_not_deleted(partner: Partner) -> None:
    """Refuse any step of an account that is deleted; MarketError STATE_NOT_ALLOWED."""
    if partner.state is PartnerState.DELETED:
        raise MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, "The partner is deleted.")


def check_revision(partner: Partner, revision: int) -> None:
    """Refuse a change that was made for another revision of the account; MarketError CONFLICT."""
    if partner.revision != revision:
        raise MarketError(
            ErrorReason.ERROR_REASON_CONFLICT,
            "The account has changed since: look at it again.",
            metadata={"revision": str(partner.revision)},
        )


def activate(state: PartnerState) -> PartnerState:
    """Give the state after activation; raises MarketError STATE_NOT_ALLOWED."""
    step = PartnerStep.ACTIVATED
    return advance(TRANSITIONS, state, step, _REFUSALS[step])


def inactivate(state: PartnerState, contract_ids: Sequence[str], count: int) -> PartnerState:
    """Give the state after inactivation (use case 1380).

    `contract_ids` are the first of the `count` contracts that are not terminated.

    Raises:
        MarketError: STATE_NOT_ALLOWED, with the contracts as details where there are any.
    """
    step = PartnerStep.INACTIVATED
    after = advance(TRANSITIONS, state, step, _REFUSALS[step])
    if count:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The partner is a party to contracts that are not terminated.",
            metadata={"contracts": str(count)},
            details=(BlockingContracts(contract_ids=contract_ids),),
        )
    return after


def delete(state: PartnerState) -> PartnerState:
    """Give the state after deletion (feature 1386); raises MarketError STATE_NOT_ALLOWED."""
    step = PartnerStep.DELETED
    return advance(TRANSITIONS, state, step, _REFUSALS[step])


def check_may_have_certificate(state: PartnerState, valid_count: int) -> None:
    """Refuse a certificate for an inactive or deleted partner, or one that has enough.

    Raises:
        MarketError: STATE_NOT_ALLOWED.
    """
    if state in (PartnerState.INACTIVE, PartnerState.DELETED):
        words = state.value.lower()
        raise MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, f"The partner is {words}.")
    if valid_count >= CERTIFICATES_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            f"The partner has {CERTIFICATES_MAX} valid certificates: revoke one first.",
        )
