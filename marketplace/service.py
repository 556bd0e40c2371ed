"""Services: the states of a registration and what an endpoint is (use cases 1250, 1494, 1255)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.transition import advance

#: The version of the service registration contract that a provider has to accept.
REGISTRATION_CONTRACT_VERSION = 1


class ServiceState(StrEnum):
    """Where a service stands; the names are those of the proto enum."""

    REGISTERED = "REGISTERED"
    PUBLISHED = "PUBLISHED"
    STOPPED = "STOPPED"


#: In these states other partners see a service.
VISIBLE = frozenset({ServiceState.PUBLISHED, ServiceState.STOPPED})


class ServiceStep(StrEnum):
    """What can happen to a service."""

    REGISTERED = "REGISTERED"
    PUBLISHED = "PUBLISHED"
    STOPPED = "STOPPED"
    STARTED = "STARTED"
    ENDPOINT_CHANGED = "ENDPOINT_CHANGED"


TRANSITIONS: Mapping[tuple[ServiceState, ServiceStep], ServiceState] = {
    (ServiceState.REGISTERED, ServiceStep.PUBLISHED): ServiceState.PUBLISHED,
    (ServiceState.PUBLISHED, ServiceStep.STOPPED): ServiceState.STOPPED,
    (ServiceState.STOPPED, ServiceStep.STARTED): ServiceState.PUBLISHED,
    (ServiceState.REGISTERED, ServiceStep.ENDPOINT_CHANGED): ServiceState.REGISTERED,
    (ServiceState.PUBLISHED, ServiceStep.ENDPOINT_CHANGED): ServiceState.PUBLISHED,
    (ServiceState.STOPPED, ServiceStep.ENDPOINT_CHANGED): ServiceState.STOPPED,
}

#: Use case 1255 tells its three failures apart: not published, not stopped, not started.
_REFUSALS = {
    ServiceStep.PUBLISHED: "The service is published already.",
    ServiceStep.STOPPED: "The service is not started.",
    ServiceStep.STARTED: "The service is not stopped.",
}
_NOT_PUBLISHED = "The service is not published."


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


def take_step(state: ServiceState, step: ServiceStep) -> ServiceState:
    """Give the state after a step; raises MarketError STATE_NOT_ALLOWED."""
    if state is ServiceState.REGISTERED:
        return advance(TRANSITIONS, state, step, _NOT_PUBLISHED)
    return advance(TRANSITIONS, state, step, _REFUSALS.get(step, _NOT_PUBLISHED))


def check_registration_contract(accepted_version: int) -> None:
    """Refuse a registration without the current service registration contract (use case 1250).

    Raises:
        MarketError: REQUEST_INVALID.
    """
    if accepted_version == REGISTRATION_CONTRACT_VERSION:
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
        metadata={"current_version": str(REGISTRATION_CONTRACT_VERSION)},
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
