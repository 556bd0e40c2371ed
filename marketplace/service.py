"""Services: their states and what an endpoint is (use cases 1250, 1494, 1255, 1486)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.transition import advance


class ServiceState(StrEnum):
    """Where a service stands; the names are those of the proto enum."""

    REGISTERED = "REGISTERED"
    PUBLISHED = "PUBLISHED"
    STOPPED = "STOPPED"
    PUBLICATION_REQUESTED = "PUBLICATION_REQUESTED"
    DISABLED = "DISABLED"
    DELETED = "DELETED"


#: In these states other partners see a service.
VISIBLE = frozenset({ServiceState.PUBLISHED, ServiceState.STOPPED})
#: In these states it is seen by those who had a contract for it.
REMEMBERED = frozenset({ServiceState.DISABLED, ServiceState.DELETED})


class ServiceStep(StrEnum):
    """What can happen to a service; the names are those of `ServiceEventKind`."""

    REGISTERED = "REGISTERED"
    PUBLISHED = "PUBLISHED"
    STOPPED = "STOPPED"
    STARTED = "STARTED"
    ENDPOINT_CHANGED = "ENDPOINT_CHANGED"
    PUBLICATION_REQUESTED = "PUBLICATION_REQUESTED"
    PUBLICATION_REFUSED = "PUBLICATION_REFUSED"
    DISABLED = "DISABLED"
    ENABLED = "ENABLED"
    DELETED = "DELETED"
    DESCRIPTION_CHANGED = "DESCRIPTION_CHANGED"
    VERSION_PREPARED = "VERSION_PREPARED"
    VERSION_WITHDRAWN = "VERSION_WITHDRAWN"
    VERSION_REQUESTED = "VERSION_REQUESTED"
    VERSION_PUBLISHED = "VERSION_PUBLISHED"
    RELATED_SET = "RELATED_SET"


#: What changes a service and leaves its state, wherever it is not deleted.
_ALWAYS = (
    *(ServiceStep.ENDPOINT_CHANGED, ServiceStep.DESCRIPTION_CHANGED, ServiceStep.RELATED_SET),
)
#: What happens to later versions, while there is a published one.
_OF_VERSIONS = (
    *(ServiceStep.VERSION_PREPARED, ServiceStep.VERSION_WITHDRAWN),
    *(ServiceStep.VERSION_REQUESTED, ServiceStep.VERSION_PUBLISHED),
)
_KEPT: Mapping[tuple[ServiceState, ServiceStep], ServiceState] = {
    (state, step): state
    for state in ServiceState
    for step in (*_ALWAYS, *(_OF_VERSIONS if state in VISIBLE else ()))
    if state is not ServiceState.DELETED
}

TRANSITIONS: Mapping[tuple[ServiceState, ServiceStep], ServiceState] = {
    (ServiceState.REGISTERED, ServiceStep.PUBLISHED): ServiceState.PUBLISHED,
    (
        ServiceState.REGISTERED,
        ServiceStep.PUBLICATION_REQUESTED,
    ): ServiceState.PUBLICATION_REQUESTED,
    (ServiceState.PUBLICATION_REQUESTED, ServiceStep.PUBLISHED): ServiceState.PUBLISHED,
    (ServiceState.PUBLICATION_REQUESTED, ServiceStep.PUBLICATION_REFUSED): ServiceState.REGISTERED,
    (ServiceState.PUBLISHED, ServiceStep.STOPPED): ServiceState.STOPPED,
    (ServiceState.STOPPED, ServiceStep.STARTED): ServiceState.PUBLISHED,
    (ServiceState.STOPPED, ServiceStep.DISABLED): ServiceState.DISABLED,
    (ServiceState.DISABLED, ServiceStep.ENABLED): ServiceState.STOPPED,
    (ServiceState.DISABLED, ServiceStep.DELETED): ServiceState.DELETED,
    # What was never published is disabled too.
    (ServiceState.REGISTERED, ServiceStep.DELETED): ServiceState.DELETED,
    **_KEPT,
}

_NOT_PUBLISHED = "The service is not published."
#: Use case 1255 tells its three failures apart: not published, not stopped, not started.
_REFUSALS = {
    ServiceStep.PUBLISHED: "The service is published already.",
    ServiceStep.PUBLICATION_REQUESTED: "The service is published already.",
    ServiceStep.PUBLICATION_REFUSED: "The publication of the service is not asked for.",
    ServiceStep.STOPPED: "The service is not started.",
    ServiceStep.STARTED: "The service is not stopped.",
    ServiceStep.DISABLED: "The service is not stopped.",
    ServiceStep.ENABLED: "The service is not disabled.",
    ServiceStep.DELETED: "The service is not disabled.",
}
#: Refusals of one state, before those of the step.
_OWN_REFUSALS = {
    (
        ServiceState.PUBLICATION_REQUESTED,
        ServiceStep.PUBLICATION_REQUESTED,
    ): "The publication of the service is asked for already.",
    (ServiceState.DISABLED, ServiceStep.DISABLED): "The service is disabled already.",
    (ServiceState.DISABLED, ServiceStep.PUBLISHED): "The service is disabled.",
    (ServiceState.DISABLED, ServiceStep.PUBLICATION_REQUESTED): "The service is disabled.",
}
#: Steps that ask for a published service before anything else.
_OF_PUBLISHED = frozenset(
    {ServiceStep.STOPPED, ServiceStep.STARTED, ServiceStep.DISABLED, *_OF_VERSIONS}
)


@dataclass(frozen=True, slots=True)
class Service:
    """A registered service without its offerings."""

    service_id: str
    #: Order of registration.
    position: int
    provider_id: str
    title: str
    description: str
    interface_name: str
    interface_version: int
    service_version: str
    #: `host:port`, normalised.
    endpoint: str
    state: ServiceState
    registered_at: datetime
    #: Category of its interface.
    category: str = ""
    keywords: tuple[str, ...] = ()


def take_step(state: ServiceState, step: ServiceStep) -> ServiceState:
    """Give the state after a step; raises MarketError STATE_NOT_ALLOWED."""
    return advance(TRANSITIONS, state, step, _refusal(state, step))


def disable(state: ServiceState, contract_ids: Sequence[str], count: int) -> ServiceState:
    """Give the state after disabling for good (use case 1486).

    `contract_ids` are the first of the `count` contracts that are not terminated.

    Raises:
        MarketError: STATE_NOT_ALLOWED, with the contracts as details where there are any.
    """
    after = take_step(state, ServiceStep.DISABLED)
    if count:
        raise blocked("The service has contracts that are not terminated.", contract_ids, count)
    return after


def blocked(refusal: str, contract_ids: Sequence[str], count: int) -> MarketError:
    """Give the refusal of a step that contracts are in the way of; the first are listed."""
    return MarketError(
        ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
        refusal,
        metadata={"contracts": str(count)},
        details=(BlockingContracts(contract_ids=contract_ids),),
    )


def is_blocked(error: MarketError) -> bool:
    """Say whether contracts were in the way."""
    return any(isinstance(detail, BlockingContracts) for detail in error.details)


def _refusal(state: ServiceState, step: ServiceStep) -> str:
    if state is ServiceState.DELETED:
        return "The service is deleted."
    own = _OWN_REFUSALS.get((state, step))
    if own is not None:
        return own
    if state not in VISIBLE and step in _OF_PUBLISHED:
        return _NOT_PUBLISHED
    return _REFUSALS.get(step, _NOT_PUBLISHED)


def check_registration_contract(accepted_version: int, current_version: int) -> None:
    """Refuse a registration without the current service registration contract (use case 1477).

    Raises:
        MarketError: REQUEST_INVALID.
    """
    if accepted_version == current_version:
        return
    description = (
        "another version of the registration contract is in force"
        if accepted_version
        else "the registration contract must be accepted"
    )
    field = "accepted_registration_contract_version"
    raise MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The service registration contract is not accepted: nothing was registered.",
        violations=(FieldViolation(field, description, "registration_contract"),),
        metadata={"current_version": str(current_version)},
    )


def check_role(partner_roles: Collection[int], allowed: Collection[int], verb: str) -> None:
    """Refuse a partner none of whose roles the interface allows; no allowed role means any.

    `verb` completes the text: `implement` or `call`.

    Raises:
        MarketError: ROLE_NOT_ALLOWED.
    """
    if allowed and not set(partner_roles) & set(allowed):
        raise MarketError(
            ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
            f"None of the partner's roles may {verb} this interface.",
        )


_DNS_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_ENDPOINT = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]{2,45})\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})"
)


def parse_endpoint(text: str) -> str:
    """Give `host:port` in its one normal form: lower case, addresses shortened, IPv6 in brackets.

    Raises:
        MarketError: REQUEST_INVALID for anything that is no host with a port, and for addresses
            that name no single machine (unspecified, multicast, broadcast).
    """
    match = _ENDPOINT.fullmatch(text.lower())
    if match is None:
        raise _endpoint_refused("must be a DNS name or an address, a colon and a port")
    port = int(match["port"])
    if not 1 <= port <= 65535:
        raise _endpoint_refused("must have a port from 1 to 65535")
    host = match["ipv6"] or match["host"]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name whose last label is a number is an address that somebody wrote in an odd way.
        if match["ipv6"] or not _DNS_NAME.fullmatch(host) or host.rpartition(".")[2].isdigit():
            raise _endpoint_refused("must have a DNS name or an address as host") from None
        return f"{host}:{port}"
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise _endpoint_refused("must name one machine")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _endpoint_refused(description: str) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The endpoint is refused.",
        violations=(FieldViolation("endpoint", description, "endpoint"),),
    )
