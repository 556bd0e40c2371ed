"""Users: states of an account, what roles allow, and who administers whom (use case 1618)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.user_pb2 import UserRole
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import AccessRole
from marketplace.actor import Actor, not_found
from marketplace.transition import advance

#: Users of one partner, and operators.
USERS_MAX = 1000
LINK_LIFETIME = timedelta(days=3)
ADMINISTRATOR = int(UserRole.USER_ROLE_ADMINISTRATOR)

#: What a role lets its user call.
ACCESS_OF: Mapping[int, int] = {
    UserRole.USER_ROLE_ADMINISTRATOR: AccessRole.ACCESS_ROLE_ADMINISTRATOR,
    UserRole.USER_ROLE_BUYER: AccessRole.ACCESS_ROLE_BUYER,
    UserRole.USER_ROLE_SELLER: AccessRole.ACCESS_ROLE_SELLER,
    UserRole.USER_ROLE_VIEWER: AccessRole.ACCESS_ROLE_VIEWER,
    UserRole.USER_ROLE_BUSINESS_OPERATOR: AccessRole.ACCESS_ROLE_BUSINESS_OPERATOR,
    UserRole.USER_ROLE_TECHNICAL_OPERATOR: AccessRole.ACCESS_ROLE_TECHNICAL_OPERATOR,
}
_OF_OPERATORS = frozenset(
    {UserRole.USER_ROLE_BUSINESS_OPERATOR, UserRole.USER_ROLE_TECHNICAL_OPERATOR}
)


class UserState(StrEnum):
    """Where an account stands; the names are those of the proto enum."""

    INVITED = "INVITED"
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class UserStep(StrEnum):
    """What can happen to an account."""

    CREATED = "CREATED"
    LINK_MADE = "LINK_MADE"
    PASSWORD_SET = "PASSWORD_SET"  # noqa: S105  # the name of a step
    ROLES_SET = "ROLES_SET"
    DISABLED = "DISABLED"
    ENABLED = "ENABLED"


#: A disabled user loses its password and comes back as it came first. Roles can always be set.
TRANSITIONS: Mapping[tuple[UserState, UserStep], UserState] = {
    (UserState.INVITED, UserStep.LINK_MADE): UserState.INVITED,
    (UserState.ACTIVE, UserStep.LINK_MADE): UserState.ACTIVE,
    (UserState.INVITED, UserStep.PASSWORD_SET): UserState.ACTIVE,
    (UserState.ACTIVE, UserStep.PASSWORD_SET): UserState.ACTIVE,
    (UserState.INVITED, UserStep.DISABLED): UserState.DISABLED,
    (UserState.ACTIVE, UserStep.DISABLED): UserState.DISABLED,
    (UserState.DISABLED, UserStep.ENABLED): UserState.INVITED,
    **{(state, UserStep.ROLES_SET): state for state in UserState},
}

_REFUSALS = {
    UserStep.LINK_MADE: "The user is disabled.",
    UserStep.PASSWORD_SET: "The user is disabled.",
    UserStep.DISABLED: "The user is disabled already.",
    UserStep.ENABLED: "The user is not disabled.",
}


@dataclass(frozen=True, slots=True)
class User:
    """A person who may use the marketplace."""

    user_id: str
    #: Empty for an operator of the marketplace.
    partner_id: str
    user_name: str
    full_name: str
    #: Values of `gem.marketplace.v1.UserRole`, ascending.
    roles: tuple[int, ...]
    state: UserState
    created_at: datetime

    @property
    def administers(self) -> bool:
        """Say whether the user administers a partner's users, unless it is disabled."""
        return ADMINISTRATOR in self.roles and self.state is not UserState.DISABLED


def access_of(roles: Iterable[int]) -> frozenset[int]:
    """Give the values of `gem.options.v1.AccessRole` that roles stand for."""
    return frozenset(int(ACCESS_OF[role]) for role in roles)


def take_step(state: UserState, step: UserStep) -> UserState:
    """Give the state after a step; raises MarketError STATE_NOT_ALLOWED."""
    return advance(TRANSITIONS, state, step, _REFUSALS.get(step, "The user has it already."))


def whose_users(actor: Actor, partner_id: str) -> str:
    """Give the partner whose users a request means; empty for the operators.

    Raises:
        MarketError: NOT_FOUND for an administrator who names another partner.
    """
    return actor.own_or(partner_id) if actor.is_partner else partner_id


def check_roles(partner_id: str, roles: Sequence[int]) -> None:
    """Refuse an operator's role for a partner's user, and the other way round.

    Raises:
        MarketError: REQUEST_INVALID.
    """
    wrong = _OF_OPERATORS.intersection(roles) if partner_id else set(roles) - _OF_OPERATORS
    if wrong:
        owner = "a partner's user" if partner_id else "an operator of the marketplace"
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The roles do not fit the user.",
            violations=(FieldViolation("roles", f"has a role that {owner} cannot have", "roles"),),
        )


def check_may_create(
    actor: Actor, partner_id: str, roles: Sequence[int], users: Sequence[User]
) -> None:
    """Refuse others than the partner that create users besides its first administrator.

    That is an operator, or the applicant with the reference of the registration request.

    Raises:
        MarketError: ROLE_NOT_ALLOWED; STATE_NOT_ALLOWED where the partner has an administrator.
    """
    if not partner_id or (actor.is_partner and actor.subject_id == partner_id):
        return
    if tuple(roles) != (ADMINISTRATOR,):
        raise _not_the_operators("creates the other users")
    if any(user.administers for user in users):
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The partner has an administrator, who creates its users.",
        )


def check_may_invite(actor: Actor, user: User) -> None:
    """Refuse an operator that makes a link for anybody but an administrator of a partner.

    Raises:
        MarketError: ROLE_NOT_ALLOWED.
    """
    if not actor.is_partner and user.partner_id and ADMINISTRATOR not in user.roles:
        raise _not_the_operators("makes the links of its users")


def check_may_change(actor: Actor, user: User) -> None:
    """Refuse an operator that changes a partner's user; MarketError ROLE_NOT_ALLOWED."""
    if not actor.is_partner and user.partner_id:
        raise _not_the_operators("changes its users")


def check_stays_administered(after: User, users: Iterable[User]) -> None:
    """Refuse a change of a partner's user after which nobody administers the partner's users.

    `users` are the partner's as they were before. Raises MarketError STATE_NOT_ALLOWED.
    """
    others = (user for user in users if user.user_id != after.user_id)
    if after.partner_id and not after.administers and not any(u.administers for u in others):
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "Nobody else administers the partner's users.",
        )


def check_room(users: Sequence[User]) -> None:
    """Refuse a user beyond the limit; MarketError STATE_NOT_ALLOWED."""
    if len(users) >= USERS_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, f"There are {USERS_MAX} users already."
        )


def link_not_found() -> MarketError:
    """Give the error for a link that cannot be used, for whatever reason."""
    return not_found("one-time link")


def _not_the_operators(what: str) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED, f"The partner's own administrator {what}."
    )
