"""Whether a customer may charge, and who decides it (use cases 1502, 1512; features 981, 1804).

The order: the blacklist, what a list of EVSE or operator said already, the contract between
operator and EVSP, the customer contract that the clearing house holds, the EVSP. Pure: what is
known is passed in, and where the EVSP has to be asked the answer says so instead of asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from clearinghouse.plausibility_context import Validity
from gem.roaming.v1.authorization_pb2 import AuthorizationStatus, DecidingLayer
from gem.roaming.v1.identification_pb2 import TokenStatus, WhitelistPolicy

_LISTS = frozenset(
    {DecidingLayer.DECIDING_LAYER_EVSE_LIST, DecidingLayer.DECIDING_LAYER_OPERATOR_LIST}
)
_OF_TOKEN = {
    TokenStatus.TOKEN_STATUS_VALID: AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED,
    TokenStatus.TOKEN_STATUS_NO_CREDIT: AuthorizationStatus.AUTHORIZATION_STATUS_NO_CREDIT,
}


class Reach(Enum):
    """What is known of the EVSP when a decision is needed."""

    #: It can be asked.
    REACHABLE = "reachable"
    #: It was asked in vain, or is known to be away.
    UNREACHABLE = "unreachable"


class Step(Enum):
    """How the clearing house goes on where it holds a customer contract."""

    #: The list decides; nobody is asked.
    LIST = "list"
    #: The list decides where it says something; the EVSP is asked where it does not.
    LIST_OR_ASK = "list or ask"
    #: The EVSP is asked.
    ASK = "ask"
    #: Nobody can be asked, and without a question nobody may charge.
    DENY = "deny"


#: The whitelist table: what a policy means where the EVSP can and where it cannot be reached.
WHITELIST: Mapping[tuple[WhitelistPolicy.ValueType, Reach], Step] = {
    (WhitelistPolicy.WHITELIST_POLICY_ALWAYS, Reach.REACHABLE): Step.LIST,
    (WhitelistPolicy.WHITELIST_POLICY_ALWAYS, Reach.UNREACHABLE): Step.LIST,
    (WhitelistPolicy.WHITELIST_POLICY_ALLOWED, Reach.REACHABLE): Step.LIST_OR_ASK,
    (WhitelistPolicy.WHITELIST_POLICY_ALLOWED, Reach.UNREACHABLE): Step.LIST,
    (WhitelistPolicy.WHITELIST_POLICY_ALLOWED_OFFLINE, Reach.REACHABLE): Step.ASK,
    (WhitelistPolicy.WHITELIST_POLICY_ALLOWED_OFFLINE, Reach.UNREACHABLE): Step.LIST,
    (WhitelistPolicy.WHITELIST_POLICY_NEVER, Reach.REACHABLE): Step.ASK,
    (WhitelistPolicy.WHITELIST_POLICY_NEVER, Reach.UNREACHABLE): Step.DENY,
}


@dataclass(frozen=True, slots=True)
class HeldToken:
    """The token with which a customer identified himself, as the clearing house holds it."""

    status: TokenStatus.ValueType
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HeldContract:
    """A customer contract as the clearing house holds it."""

    policy: WhitelistPolicy.ValueType
    validity: Validity
    #: None where he showed the contract id itself, as vehicles do.
    token: HeldToken | None
    roaming_allowed: bool = True
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision is made of."""

    now: datetime
    #: By contract id or by token.
    blacklisted: bool
    #: EVSE_LIST or OPERATOR_LIST where a list of the operator's let the customer charge already.
    decided_by: DecidingLayer.ValueType
    #: Whether operator and EVSP have a contract in force; None where the EVSP is not known.
    agreement_in_force: bool | None
    #: None where the clearing house holds no contract of the customer.
    contract: HeldContract | None
    reach: Reach
    #: Paid before or reserved, and enough, without a contract; None where it was no payment.
    payment_valid: bool | None = None
    #: Whether EVSPs of this operator agreed to be asked about customers whose EVSP is not known.
    may_broadcast: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a customer may charge, and who says so."""

    status: AuthorizationStatus.ValueType
    layer: DecidingLayer.ValueType

    @property
    def allowed(self) -> bool:
        return self.status == AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED


@dataclass(frozen=True, slots=True)
class AskEvsp:
    """The EVSP decides; where it does not answer in time, `decide` is called again."""

    #: The EVSP is not known: those that opted in are asked, and nobody else.
    broadcast: bool = False


def decide(situation: Situation) -> Decision | AskEvsp:
    """Decide, or say that the EVSP has to be asked.

    An unreachable EVSP is never to be asked: calling again with `Reach.UNREACHABLE` decides.
    """
    if situation.blacklisted:
        return _blocked(DecidingLayer.DECIDING_LAYER_BLACKLIST)
    if situation.decided_by in _LISTS:
        allowed = AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
        return Decision(allowed, situation.decided_by)
    if situation.payment_valid is not None:
        return _paid(situation.payment_valid)
    unagreed = situation.agreement_in_force is None and situation.contract is not None
    if unagreed or situation.agreement_in_force is False:
        refused = AuthorizationStatus.AUTHORIZATION_STATUS_NOT_ALLOWED
        return Decision(refused, DecidingLayer.DECIDING_LAYER_ROAMING_AGREEMENT)
    if situation.contract is None:
        return _without_contract(situation)
    return _by_policy(situation.contract, situation)


def answered(status: AuthorizationStatus.ValueType) -> Decision:
    """Give the decision that is the EVSP's answer; an answer without a status knows nobody."""
    unspecified = AuthorizationStatus.AUTHORIZATION_STATUS_UNSPECIFIED
    unknown = AuthorizationStatus.AUTHORIZATION_STATUS_UNKNOWN
    known = unknown if status == unspecified else status
    return Decision(known, DecidingLayer.DECIDING_LAYER_EVSP)


def by_list(contract: HeldContract, now: datetime) -> AuthorizationStatus.ValueType:
    """Say what the clearing house's list says about a customer; the contract before the token."""
    validity, token = contract.validity, contract.token
    if contract.disabled:
        return AuthorizationStatus.AUTHORIZATION_STATUS_BLOCKED
    if validity.until is not None and validity.until <= now:
        return AuthorizationStatus.AUTHORIZATION_STATUS_EXPIRED
    if validity.since is not None and now < validity.since:
        return AuthorizationStatus.AUTHORIZATION_STATUS_NOT_ALLOWED
    if not contract.roaming_allowed:
        return AuthorizationStatus.AUTHORIZATION_STATUS_NOT_ALLOWED
    if token is None:
        return AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
    if token.expires_at is not None and token.expires_at <= now:
        return AuthorizationStatus.AUTHORIZATION_STATUS_EXPIRED
    return _OF_TOKEN.get(token.status, AuthorizationStatus.AUTHORIZATION_STATUS_BLOCKED)


def _by_policy(contract: HeldContract, situation: Situation) -> Decision | AskEvsp:
    """Apply the whitelist table. A disabled contract is denied without a question."""
    listed = by_list(contract, situation.now)
    if contract.disabled:
        return Decision(listed, DecidingLayer.DECIDING_LAYER_CLEARING_HOUSE_LIST)
    step = WHITELIST.get((contract.policy, situation.reach), Step.DENY)
    if step is Step.DENY:
        return _out_of_reach()
    allowed = listed == AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
    if step is Step.ASK or (step is Step.LIST_OR_ASK and not allowed):
        # What the list refuses may be out of date; the EVSP knows whether it was paid since.
        return AskEvsp()
    return Decision(listed, DecidingLayer.DECIDING_LAYER_CLEARING_HOUSE_LIST)


def _without_contract(situation: Situation) -> Decision | AskEvsp:
    """Decide about somebody whom no list has: only an EVSP can know him."""
    reachable = situation.reach is Reach.REACHABLE
    if situation.agreement_in_force is None:
        if situation.may_broadcast and reachable:
            return AskEvsp(broadcast=True)
        unknown = AuthorizationStatus.AUTHORIZATION_STATUS_UNKNOWN
        return Decision(unknown, DecidingLayer.DECIDING_LAYER_CLEARING_HOUSE_LIST)
    return AskEvsp() if reachable else _out_of_reach()


def _paid(valid: bool) -> Decision:
    status = (
        AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
        if valid
        else AuthorizationStatus.AUTHORIZATION_STATUS_NO_CREDIT
    )
    return Decision(status, DecidingLayer.DECIDING_LAYER_OPEN_ACCESS)


def _blocked(layer: DecidingLayer.ValueType) -> Decision:
    return Decision(AuthorizationStatus.AUTHORIZATION_STATUS_BLOCKED, layer)


def _out_of_reach() -> Decision:
    refused = AuthorizationStatus.AUTHORIZATION_STATUS_NOT_ALLOWED
    return Decision(refused, DecidingLayer.DECIDING_LAYER_EVSP_UNREACHABLE)
