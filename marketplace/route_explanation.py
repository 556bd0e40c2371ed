"""Why a call is routed to whom, or refused: the rules of routing with their reasons (1491, 1241).

What `plan` decides by the routing table is decided here by what stands behind it: states and
histories. Both have to agree about the present; a test holds them to it with random markets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum

from gem.marketplace.v1.route_explanation_pb2 import RouteReason as Wire
from gem.options.v1.options_pb2 import Route


class RouteReason(IntEnum):
    """What decides about a route; names and numbers are those of the catalogue."""

    IN_FORCE = int(Wire.ROUTE_REASON_IN_FORCE)
    CERTIFICATE_ABSENT = int(Wire.ROUTE_REASON_CERTIFICATE_ABSENT)
    CERTIFICATE_EXPIRED = int(Wire.ROUTE_REASON_CERTIFICATE_EXPIRED)
    CERTIFICATE_REVOKED = int(Wire.ROUTE_REASON_CERTIFICATE_REVOKED)
    REQUESTER_NOT_ACTIVE = int(Wire.ROUTE_REASON_REQUESTER_NOT_ACTIVE)
    REQUESTER_NOT_ADMITTED = int(Wire.ROUTE_REASON_REQUESTER_NOT_ADMITTED)
    INTERFACE_NOT_PUBLISHED = int(Wire.ROUTE_REASON_INTERFACE_NOT_PUBLISHED)
    METHOD_UNKNOWN = int(Wire.ROUTE_REASON_METHOD_UNKNOWN)
    ROLE_NOT_ALLOWED = int(Wire.ROUTE_REASON_ROLE_NOT_ALLOWED)
    NO_CONTRACT = int(Wire.ROUTE_REASON_NO_CONTRACT)
    CONTRACT_NOT_STARTED = int(Wire.ROUTE_REASON_CONTRACT_NOT_STARTED)
    CONTRACT_SUSPENDED = int(Wire.ROUTE_REASON_CONTRACT_SUSPENDED)
    CONTRACT_TERMINATED = int(Wire.ROUTE_REASON_CONTRACT_TERMINATED)
    CONTRACT_EXPIRED = int(Wire.ROUTE_REASON_CONTRACT_EXPIRED)
    CONTRACT_NOT_IN_FORCE = int(Wire.ROUTE_REASON_CONTRACT_NOT_IN_FORCE)
    SERVICE_STOPPED = int(Wire.ROUTE_REASON_SERVICE_STOPPED)
    SERVICE_NOT_PUBLISHED = int(Wire.ROUTE_REASON_SERVICE_NOT_PUBLISHED)
    PROVIDER_NOT_ACTIVE = int(Wire.ROUTE_REASON_PROVIDER_NOT_ACTIVE)
    KEY_OF_ANOTHER = int(Wire.ROUTE_REASON_KEY_OF_ANOTHER)
    PROVIDER_AMBIGUOUS = int(Wire.ROUTE_REASON_PROVIDER_AMBIGUOUS)


#: The states by which calls are routed; `storage_snapshot.py` reads the routing table by the same.
ROUTED_CONTRACT, ROUTED_SERVICE, ROUTED_PARTNER = "ACTIVE", "PUBLISHED", "ACTIVE"

#: What the other states of a contract and of a service mean; any further one is the general reason.
_CONTRACT_REASONS: Mapping[str, RouteReason] = {
    "PENDING": RouteReason.CONTRACT_NOT_STARTED,
    "SUSPENDED": RouteReason.CONTRACT_SUSPENDED,
    "TERMINATED": RouteReason.CONTRACT_TERMINATED,
    "EXPIRED": RouteReason.CONTRACT_EXPIRED,
}
_SERVICE_REASONS: Mapping[str, RouteReason] = {"STOPPED": RouteReason.SERVICE_STOPPED}

#: Sections of a contract that speak of a reason, the most telling first.
_SECTIONS: Mapping[RouteReason, tuple[str, ...]] = {
    RouteReason.CONTRACT_NOT_STARTED: ("term", "trial-period"),
    RouteReason.CONTRACT_SUSPENDED: ("suspension",),
    RouteReason.CONTRACT_TERMINATED: ("termination", "notice", "term"),
    RouteReason.CONTRACT_EXPIRED: ("trial-period", "term"),
    RouteReason.SERVICE_STOPPED: ("service-level", "support"),
}
#: These say about the requester what a provider need not know.
_OF_THE_REQUESTER = frozenset(
    {
        RouteReason.CERTIFICATE_ABSENT,
        RouteReason.CERTIFICATE_EXPIRED,
        RouteReason.CERTIFICATE_REVOKED,
        RouteReason.REQUESTER_NOT_ACTIVE,
    }
)


@dataclass(frozen=True, slots=True)
class RouteEvent:
    """The entry of a history since which something has been so."""

    history: str
    kind: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a contract, service or partner at an instant, and what brought it about."""

    state: str
    event: RouteEvent | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A service that implements the interface, and the requester's newest contract for it."""

    provider_id: str
    service_id: str
    endpoint: str
    service: Standing
    provider: Standing
    contract_id: str = ""
    #: None where there is no contract.
    contract: Standing | None = None
    #: Sections of the contract, by id.
    section_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why something is as it is; IN_FORCE where nothing stands in the way."""

    reason: RouteReason
    event: RouteEvent | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """What is said about one candidate. `place` counts from 1 among those that are asked."""

    candidate: Candidate
    verdict: Verdict
    section_id: str = ""
    place: int = 0

    @property
    def routed(self) -> bool:
        """Whether the provider is asked."""
        return self.place > 0


@dataclass(frozen=True, slots=True)
class Question:
    """One call as routing sees it."""

    #: What stands in the way of the whole call, else IN_FORCE.
    verdict: Verdict
    #: Value of `gem.options.v1.Route`.
    route: int
    #: Whether any of the requester's roles may call the interface.
    role_allowed: bool = True
    #: Who owns the identifier in the request; None where nobody does, or where it has none.
    key_owner_id: str | None = None


def explain(question: Question, candidates: Sequence[Candidate]) -> list[Explained]:
    """Say of each candidate whether it is asked, and why; candidates come in contract order."""
    found = [_explained(question, candidate) for candidate in candidates]
    fit = sum(each.verdict.reason is RouteReason.IN_FORCE for each in found)
    refusal: Verdict | None = None
    if question.verdict.reason is not RouteReason.IN_FORCE:
        refusal = question.verdict
    elif fit > 1 and question.route not in {Route.ROUTE_ALL, Route.ROUTE_FIRST}:
        refusal = Verdict(RouteReason.PROVIDER_AMBIGUOUS)
    place, result = 0, []
    for each in found:
        if each.verdict.reason is not RouteReason.IN_FORCE:
            result.append(each)
        elif refusal is not None:
            result.append(replace(each, verdict=refusal))
        else:
            place += 1
            result.append(replace(each, place=place))
    return result


def _explained(question: Question, candidate: Candidate) -> Explained:
    verdict = _verdict(question, candidate)
    named = _SECTIONS.get(verdict.reason, ())
    section_id = next((name for name in named if name in candidate.section_ids), "")
    return Explained(candidate, verdict, section_id)


def _verdict(question: Question, candidate: Candidate) -> Verdict:
    """Give the first that stands in the way of one contract, the call itself left aside."""
    contract, service, provider = candidate.contract, candidate.service, candidate.provider
    if contract is None:
        allowed = question.role_allowed
        return Verdict(RouteReason.NO_CONTRACT if allowed else RouteReason.ROLE_NOT_ALLOWED)
    if contract.state != ROUTED_CONTRACT:
        otherwise = RouteReason.CONTRACT_NOT_IN_FORCE
        return Verdict(_CONTRACT_REASONS.get(contract.state, otherwise), contract.event)
    if service.state != ROUTED_SERVICE:
        otherwise = RouteReason.SERVICE_NOT_PUBLISHED
        return Verdict(_SERVICE_REASONS.get(service.state, otherwise), service.event)
    if provider.state != ROUTED_PARTNER:
        return Verdict(RouteReason.PROVIDER_NOT_ACTIVE, provider.event)
    if question.key_owner_id not in {None, candidate.provider_id}:
        return Verdict(RouteReason.KEY_OF_ANOTHER)
    return Verdict(RouteReason.IN_FORCE, contract.event)


def for_provider(verdict: Verdict) -> Verdict:
    """Give what a provider is told about a call of its requester's."""
    if verdict.reason in _OF_THE_REQUESTER:
        return Verdict(RouteReason.REQUESTER_NOT_ADMITTED)
    return verdict


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """When a certificate of the requester's was known and valid."""

    registered_at: datetime
    not_before_at: datetime
    not_after_at: datetime
    revoked_at: datetime | None


def certificate_verdict(rows: Sequence[CertificateRow], at: datetime) -> Verdict:
    """Say whether one of a partner's certificates was accepted at an instant, else why not.

    `rows` are in the order of their registration; where none was accepted, the last one speaks.
    """
    known = [row for row in rows if row.registered_at <= at]
    for row in known:
        is_revoked = row.revoked_at is not None and row.revoked_at <= at
        if not is_revoked and row.not_before_at <= at < row.not_after_at:
            return Verdict(RouteReason.IN_FORCE)
    if not known:
        return Verdict(RouteReason.CERTIFICATE_ABSENT)
    last = known[-1]
    if last.revoked_at is not None and last.revoked_at <= at:
        event = RouteEvent("certificate", "REVOKED", "", last.revoked_at)
        return Verdict(RouteReason.CERTIFICATE_REVOKED, event)
    event = RouteEvent("certificate", "EXPIRED", "", last.not_after_at)
    return Verdict(RouteReason.CERTIFICATE_EXPIRED, event if last.not_after_at <= at else None)
