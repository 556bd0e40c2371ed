"""Change requests: what a partner wants to be different about its account (1376, 1378, 1380)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from foundation.identifiers import owner_key
from gem.common.v1.identifier_pb2 import IdentifierKind, OwnedIdentifier
from gem.marketplace.v1.partner_pb2 import PartnerProfile
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import PartnerRole
from marketplace.actor import Actor, not_found
from marketplace.partner import IDENTIFIERS_MAX
from marketplace.transition import advance

#: Change requests of one partner that wait at a time.
WAITING_MAX = 10
_PERSON = "profile.responsible_person"


class ChangeKind(StrEnum):
    """What a request asks for; the names are those of `PartnerChangeKind`."""

    ACCOUNT_DATA = "ACCOUNT_DATA"
    INACTIVATION = "INACTIVATION"


class ChangeState(StrEnum):
    """Where a request stands; the names are those of `PartnerChangeState`."""

    REQUESTED = "REQUESTED"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"


class ChangeStep(StrEnum):
    """What can happen to a request; behind `CHANGE_` they are steps of the partner's history."""

    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"


TRANSITIONS: Mapping[tuple[ChangeState, ChangeStep], ChangeState] = {
    (ChangeState.REQUESTED, step): ChangeState(step.value) for step in ChangeStep
}


@dataclass(frozen=True, slots=True)
class AccountData:
    """All about an account that a change request can change."""

    profile: PartnerProfile
    #: Values of `gem.options.v1.PartnerRole`, ascending.
    roles: tuple[int, ...]
    #: Value of `gem.common.v1.IdentifierKind` and normalised identifier, ascending.
    identifiers: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs."""

    field: str
    old_values: tuple[str, ...]
    new_values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartnerChange:
    """A change request without the data."""

    change_id: str
    partner_id: str
    kind: ChangeKind
    state: ChangeState
    base_revision: int
    note: str
    decision_reason: str
    requested_at: datetime
    decided_at: datetime | None = None


def take_step(change: PartnerChange, step: ChangeStep, actor: Actor) -> ChangeState:
    """Give the state after a step that somebody asks for.

    Raises:
        MarketError: NOT_FOUND for another partner's request; STATE_NOT_ALLOWED.
    """
    if not actor.may_see(change.partner_id):
        raise not_found("change request")
    refusal = "The change request is decided or withdrawn already."
    return advance(TRANSITIONS, change.state, step, refusal)


def check_may_request(kinds: Sequence[ChangeKind], kind: ChangeKind) -> None:
    """Refuse one more request beside those that wait; MarketError STATE_NOT_ALLOWED."""
    if kind is ChangeKind.INACTIVATION and kind in kinds:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, "The inactivation is requested already."
        )
    if len(kinds) >= WAITING_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            f"{WAITING_MAX} change requests wait to be decided already.",
        )


def wanted(
    base: AccountData,
    profile: PartnerProfile | None,
    roles: Iterable[int],
    added: Iterable[OwnedIdentifier],
    removed: Iterable[OwnedIdentifier],
) -> AccountData:
    """Give the account as a request wants it; no roles and no profile mean that they stay.

    Raises:
        MarketError: REQUEST_INVALID where an identifier to remove is not owned, where there would
            be too many, or where nothing changes.
    """
    gone, new = set(map(_key, removed)), set(map(_key, added))
    if not gone <= set(base.identifiers):
        raise _invalid("removed_identifiers", "holds what the partner does not own")
    identifiers = tuple(sorted((set(base.identifiers) - gone) | new))
    if len(identifiers) > IDENTIFIERS_MAX:
        raise _invalid("added_identifiers", f"makes more than {IDENTIFIERS_MAX} identifiers")
    data = AccountData(
        profile if profile is not None else base.profile,
        tuple(sorted(roles)) or base.roles,
        identifiers,
    )
    if data == base:
        raise _invalid("profile", "and all else is as it is: nothing would change")
    return data


def differences(old: AccountData, new: AccountData) -> tuple[FieldChange, ...]:
    """Give the fields that differ, in the order of the messages."""
    before, after = _fields(old), _fields(new)
    return tuple(
        FieldChange(field, before[field], after[field])
        for field in before
        if before[field] != after[field]
    )


def _fields(data: AccountData) -> dict[str, tuple[str, ...]]:
    profile, person = data.profile, data.profile.responsible_person
    texts = {
        "profile.company_name": profile.company_name,
        "profile.postal_address": profile.postal_address,
        "profile.country_code": profile.country_code,
        f"{_PERSON}.full_name": person.full_name,
        f"{_PERSON}.email": person.email,
        f"{_PERSON}.phone": person.phone,
    }
    lists = {
        "roles": tuple(map(_role_name, data.roles)),
        "identifiers": tuple(f"{_kind_name(kind)} {value}" for kind, value in data.identifiers),
    }
    return {**{field: (text,) if text else () for field, text in texts.items()}, **lists}


def _role_name(number: int) -> str:
    name = PartnerRole.Name(number)  # type: ignore[arg-type]  # an enum value
    return name.removeprefix("PARTNER_ROLE_")


def _kind_name(number: int) -> str:
    name = IdentifierKind.Name(number)  # type: ignore[arg-type]  # an enum value
    return name.removeprefix("IDENTIFIER_KIND_")


def _key(identifier: OwnedIdentifier) -> tuple[int, str]:
    return int(identifier.kind), owner_key(identifier.value)


def _invalid(field: str, description: str) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The change request is not complete: nothing was requested.",
        violations=(FieldViolation(field, description, "change"),),
    )
