"""What a row of the authorization matrix is: an rpc's request, and what each caller gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

#: Whose certificate is shown, and what its owner has to do with the things that requests name.
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
)
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
    **others: str,
) -> Row:
    """Make a row: what any active partner gets, what operators get, and who differs."""
    known = {name.replace(" ", "_"): name for name in CALLERS}
    cells = {
        **OUTSIDE,
        "revoked": "CERTIFICATE_REVOKED",
        "inactive partner": "PARTNER_NOT_ACTIVE",
        **dict.fromkeys(CALLERS[5:9], partner),
        "other tenant": partner,
        "business operator": business,
        "technical operator": technical,
    }
    return Row(request, {**cells, **{known[name]: cell for name, cell in others.items()}})


def public(request: Callable[[Things], Message]) -> Row:
    """Make a row of an rpc for everybody who gets through the handshake."""
    return Row(request, {**dict.fromkeys(CALLERS, OK), **OUTSIDE})
