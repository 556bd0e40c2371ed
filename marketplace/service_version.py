"""New versions of a service: their states, and the contracts that have to change first (1494)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import MarketError
from gem.marketplace.v1.contract_pb2 import AddedService, ContractTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.service import Service
from marketplace.transition import advance


class VersionState(StrEnum):
    """Where a version stands; the names are those of the proto enum."""

    PREPARED = "PREPARED"
    REQUESTED = "REQUESTED"
    PUBLISHED = "PUBLISHED"
    WITHDRAWN = "WITHDRAWN"


class VersionStep(StrEnum):
    """What can happen to a version."""

    REQUESTED = "REQUESTED"
    REFUSED = "REFUSED"
    PUBLISHED = "PUBLISHED"
    WITHDRAWN = "WITHDRAWN"


#: There is one of these at most for a service.
OPEN = frozenset({VersionState.PREPARED, VersionState.REQUESTED})

TRANSITIONS: Mapping[tuple[VersionState, VersionStep], VersionState] = {
    (VersionState.PREPARED, VersionStep.REQUESTED): VersionState.REQUESTED,
    (VersionState.PREPARED, VersionStep.PUBLISHED): VersionState.PUBLISHED,
    (VersionState.PREPARED, VersionStep.WITHDRAWN): VersionState.WITHDRAWN,
    (VersionState.REQUESTED, VersionStep.PUBLISHED): VersionState.PUBLISHED,
    (VersionState.REQUESTED, VersionStep.WITHDRAWN): VersionState.WITHDRAWN,
    (VersionState.REQUESTED, VersionStep.REFUSED): VersionState.PREPARED,
}

_REFUSALS = {
    VersionStep.REQUESTED: "The publication of the version is asked for already.",
    VersionStep.REFUSED: "The publication of the version is not asked for.",
}
NO_VERSION = "The service has no prepared version."


@dataclass(frozen=True, slots=True)
class ServiceVersion:
    """A later version of a service."""

    version_id: str
    #: Order of preparation.
    position: int
    service_id: str
    service_version: str
    interface_version: int
    #: Whether callers of the published interface version can go on as they do.
    compatible: bool
    #: `host:port`, normalised.
    endpoint: str
    #: A serialised `gem.marketplace.v1.OfferingTerms`; None where the offerings stay.
    terms: bytes | None
    state: VersionState
    prepared_at: datetime


def take_step(state: VersionState, step: VersionStep) -> VersionState:
    """Give the state after a step; raises MarketError STATE_NOT_ALLOWED."""
    return advance(TRANSITIONS, state, step, _REFUSALS.get(step, NO_VERSION))


def check_new(service: Service, service_version: str) -> None:
    """Refuse a version that is called like the published one; MarketError STATE_NOT_ALLOWED."""
    if service_version == service.service_version:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, "This version is the published one."
        )


def agreed_on(terms: ContractTerms, service_id: str) -> ContractTerms | AddedService:
    """Give what a contract says of a service that it covers: its own one, or one that was added."""
    added = (each for each in terms.added_services if each.service_id == service_id)
    return next(added, terms)


def is_unchanged(version: ServiceVersion, interface_version: int, service_version: str) -> bool:
    """Say whether a contract, by the versions of its terms, has to change before the publication.

    None has to where the interface version is compatible: its terms hold on as they are.
    """
    if version.compatible:
        return False
    agreed = (interface_version, service_version)
    return agreed != (version.interface_version, version.service_version)
