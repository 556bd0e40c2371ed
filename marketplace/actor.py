"""Who acts in the control plane: a partner for itself, or an operator for the market."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import AccessRole
from interceptors.call import Call

#: Roles of those who act for a partner.
_PARTNERS = frozenset(
    {
        AccessRole.ACCESS_ROLE_PARTNER,
        AccessRole.ACCESS_ROLE_ADMINISTRATOR,
        AccessRole.ACCESS_ROLE_BUYER,
        AccessRole.ACCESS_ROLE_SELLER,
        AccessRole.ACCESS_ROLE_VIEWER,
    }
)


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller as domain code sees it."""

    #: Partner id, or the operator's name.
    subject_id: str
    is_partner: bool
    #: Who of the partner it is, where a person acts in a session.
    user_name: str = ""

    @property
    def name(self) -> str:
        """The name in histories: no operator can be taken for a partner of the same name."""
        if self == MARKET:
            return ""
        if not self.is_partner:
            return f"operator/{self.subject_id}"
        return f"{self.subject_id}:{self.user_name}" if self.user_name else self.subject_id

    def may_see(self, *partner_ids: str) -> bool:
        """Say whether a thing of these partners is the caller's business; operators see all."""
        return not self.is_partner or self.subject_id in partner_ids

    def own_or(self, partner_id: str) -> str:
        """Give the partner that a request means, where empty means the caller itself.

        Raises:
            MarketError: NOT_FOUND for another partner's id, or for no id from an operator.
        """
        if self.is_partner and partner_id in ("", self.subject_id):
            return self.subject_id
        if self.is_partner or not partner_id:
            raise not_found("partner")
        return partner_id


#: Who takes the steps that come about by themselves, at an agreed instant.
MARKET = Actor("", is_partner=False)


def actor_of(call: Call) -> Actor:
    """Give who makes an identified call."""
    assert call.caller is not None, "core methods other than public ones have a caller"
    caller = call.caller
    return Actor(caller.subject_id, not _PARTNERS.isdisjoint(caller.roles), caller.user_name)


def party_of(name: str) -> str:
    """Give an actor's name as others see it: which partner or operator, without the person."""
    return name.partition(":")[0]


def not_found(kind: str) -> MarketError:
    """Give the error for a thing that does not exist or is another's: the same for both."""
    return MarketError(
        ErrorReason.ERROR_REASON_NOT_FOUND,
        f"There is no such {kind}, or it is not yours to see.",
        metadata={"kind": kind},
    )
