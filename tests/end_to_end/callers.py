"""The callers of the authorization matrix, and how a row says what each of them gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from gem.marketplace.v1 import user_pb2

#: Whose certificate is shown or who logged in, and what its owner has to do with the things that
#: requests name.
CALLERS = (
    "no certificate",
    "unknown CA",
    "expired",
    "revoked",
    "inactive partner",
    "no contract",
    "contracted",
    "suspended contract",
    "provider",
    "business operator",
    "technical operator",
    "other tenant",
    # These come in a session; but for the last they are users of the partner `contracted`.
    "administrator",
    "buyer",
    "seller",
    "viewer",
    "operator in session",
)
#: Users with each role of a partner.
USERS = {
    "administrator": user_pb2.USER_ROLE_ADMINISTRATOR,
    "buyer": user_pb2.USER_ROLE_BUYER,
    "seller": user_pb2.USER_ROLE_SELLER,
    "viewer": user_pb2.USER_ROLE_VIEWER,
}
OUTSIDE = dict.fromkeys(("no certificate", "unknown CA", "expired"), "TLS")
OK, FORBIDDEN, HIDDEN = "OK", "ROLE_NOT_ALLOWED", "NOT_FOUND"
NOT_NOW, INVALID, THERE = "STATE_NOT_ALLOWED", "REQUEST_INVALID", "ALREADY_EXISTS"


@dataclass(frozen=True, slots=True)
class Things:
    """What requests name: all of it belongs to `contracted` and `provider`."""

    contracted_id: str
    provider_id: str
    inactive_id: str
    #: A contract between the two that is terminated, and an entry of their call.
    contract_id: str
    transaction_id: str
    #: A published service and one that is only registered.
    service_id: str
    hidden_service_id: str
    endpoint: str
    operator_id: str
    offering_id: str
    #: An invalid proposal of `contracted` that is withdrawn.
    proposal_id: str
    #: SHA-256 of a certificate of `contracted` that is revoked.
    fingerprint: bytes
    #: A deleted request of `contracted` for a new service.
    service_request_id: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One rpc: the request, and what each caller gets."""

    request: Callable[[Things], Message]
    cells: Mapping[str, str]


def row(
    request: Callable[[Things], Message],
    partner: str,
    *,
    business: str,
    technical: str,
    users: str = FORBIDDEN,
    **others: str,
) -> Row:
    """Make a row: what any active partner gets, what operators get, and who differs.

    `users` is what people of `contracted` get who do not administer it; its administrator gets what
    it gets itself, and the operator in a session what the business operator gets.
    """
    known = {name.replace(" ", "_"): name for name in CALLERS}
    cells = {
        **OUTSIDE,
        "revoked": "CERTIFICATE_REVOKED",
        "inactive partner": "PARTNER_NOT_ACTIVE",
        **dict.fromkeys(CALLERS[5:9], partner),
        "other tenant": partner,
        "business operator": business,
        "technical operator": technical,
        "administrator": others.get("contracted", partner),
        **dict.fromkeys(("buyer", "seller", "viewer"), users),
        "operator in session": business,
    }
    return Row(request, {**cells, **{known[name]: cell for name, cell in others.items()}})


def public(request: Callable[[Things], Message], cell: str = OK) -> Row:
    """Make a row of an rpc for everybody who gets through the handshake."""
    return Row(request, {**dict.fromkeys(CALLERS, cell), **OUTSIDE})
