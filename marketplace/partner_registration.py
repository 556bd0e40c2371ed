"""Registration requests: their states, their limits, and what a reference opens (use case 1374)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.transition import advance

#: Requests that wait at a time, in all and of one responsible person: what operators can look at.
WAITING_MAX = 1000
WAITING_OF_PERSON_MAX = 3
#: Requests in an hour, also those that were taken back: what anybody can make the market store.
HOURLY_MAX = 200
HOUR = timedelta(hours=1)
#: A reference gives access data for so long after the approval, and shows a refusal for so long.
KEPT_AFTER_DECISION = timedelta(days=30)
_RETRY_S = 600.0


class RegistrationState(StrEnum):
    """Where a request stands; the names are those of `PartnerRegistrationState`."""

    REQUESTED = "REQUESTED"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"


class RegistrationStep(StrEnum):
    """What can happen to a request; the names are those of `PartnerRegistrationEventKind`."""

    REQUESTED = "REQUESTED"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    CERTIFICATE_ISSUED = "CERTIFICATE_ISSUED"
    ADMINISTRATOR_CREATED = "ADMINISTRATOR_CREATED"


_S, _T = RegistrationState, RegistrationStep
TRANSITIONS: Mapping[tuple[RegistrationState, RegistrationStep], RegistrationState] = {
    (_S.REQUESTED, _T.APPROVED): _S.APPROVED,
    (_S.REQUESTED, _T.REFUSED): _S.REFUSED,
    (_S.REQUESTED, _T.WITHDRAWN): _S.WITHDRAWN,
    (_S.APPROVED, _T.CERTIFICATE_ISSUED): _S.APPROVED,
    (_S.APPROVED, _T.ADMINISTRATOR_CREATED): _S.APPROVED,
}
_DECIDED = "The registration request is decided or withdrawn already."
_NOT_APPROVED = "The registration request is not approved."
_REFUSALS = {
    _T.REQUESTED: "A registration request is made once.",
    _T.APPROVED: _DECIDED,
    _T.REFUSED: _DECIDED,
    _T.WITHDRAWN: _DECIDED,
    _T.CERTIFICATE_ISSUED: _NOT_APPROVED,
    _T.ADMINISTRATOR_CREATED: _NOT_APPROVED,
}


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration request without what the company states about itself."""

    registration_id: str
    partner_id: str
    state: RegistrationState
    #: Values of `gem.options.v1.PartnerRole`, ascending.
    roles: tuple[int, ...]
    identifiers: tuple[OwnedIdentifier, ...]
    partner_contract_version: int
    requested_at: datetime
    decision_reason: str = ""
    decided_at: datetime | None = None
    certificate_issued: bool = False
    administrator_created: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many requests there are when one more comes."""

    in_all: int
    of_person: int
    in_last_hour: int


def take_step(registration: Registration, step: RegistrationStep) -> RegistrationState:
    """Give the state after a step; raises MarketError STATE_NOT_ALLOWED."""
    return advance(TRANSITIONS, registration.state, step, _REFUSALS[step])


def check_room(waiting: Waiting) -> None:
    """Refuse a request where enough wait; MarketError RATE_EXCEEDED, the same for every limit."""
    if (
        waiting.in_all >= WAITING_MAX
        or waiting.of_person >= WAITING_OF_PERSON_MAX
        or waiting.in_last_hour >= HOURLY_MAX
    ):
        raise MarketError(
            ErrorReason.ERROR_REASON_RATE_EXCEEDED,
            "Too many registration requests wait to be decided.",
            retry_after_s=_RETRY_S,
        )


def take_access(
    registration: Registration, step: RegistrationStep, now: datetime
) -> RegistrationState:
    """Give the state after a reference was used for access data.

    Raises:
        MarketError: STATE_NOT_ALLOWED before the approval and a second time; NOT_FOUND once the
            reference has expired.
    """
    state = take_step(registration, step)
    assert registration.decided_at is not None, "an approved request is decided"
    if now >= registration.decided_at + KEPT_AFTER_DECISION:
        raise reference_not_found()
    used = {
        _T.CERTIFICATE_ISSUED: registration.certificate_issued,
        _T.ADMINISTRATOR_CREATED: registration.administrator_created,
    }
    if used[step]:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The reference has been used for this already.",
        )
    return state


def applicant(registration_id: str) -> Actor:
    """Give who acts with a request's reference; no partner id holds a slash."""
    return Actor(f"applicant/{registration_id}", is_partner=True)


def applicant_of(email: str) -> Actor:
    """Give who makes a request, before it has an id: the responsible person, unnamed."""
    digest = hashlib.sha256(email.casefold().encode()).hexdigest()
    return Actor(f"applicant/{digest[:40]}", is_partner=True)


def reference_not_found() -> MarketError:
    """Give the error for a reference that opens nothing, for whatever reason."""
    return not_found("registration request")
