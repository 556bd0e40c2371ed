"""What every change of a service has in common: who may see it, and what is told of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from foundation.errors import MarketError
from gem.marketplace.v1 import service_pb2
from interceptors.call import Call
from marketplace.actor import Actor, not_found
from marketplace.endpoint_policy import EndpointCheck
from marketplace.notice import (
    concerns_requesters,
    provider_notices,
    refusal_notices,
    service_notices,
)
from marketplace.proposal_compiler import ProposalCompiler
from marketplace.routing_change import RoutingChange
from marketplace.service import VISIBLE, Service, ServiceStep, is_blocked
from marketplace.service_rendering import rendered
from marketplace.storage_command import Commands, Work
from marketplace.storage_notice import requesters_of, tell
from marketplace.storage_routing import announce
from marketplace.storage_service import ServiceStorage

R = TypeVar("R")
#: Descriptions are long: so many keep a page below the 4 MiB that clients take.
PAGE_MAX = 200


def new_id() -> str:
    """Make an id that nobody can guess."""
    return str(uuid4())


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What the parts of ServiceRegistryService work with."""

    commands: Commands
    make_id: Callable[[], str]
    endpoints: EndpointCheck
    #: Whether the technical operator has to approve what a provider publishes.
    publication_needs_operator: bool
    #: Whether a service has to be certified before it is published.
    publication_needs_certification: bool
    #: Compares versions of interfaces.
    compiler: ProposalCompiler

    async def telling(self, call: Call, service_id: str, what: str, command: Awaitable[R]) -> R:
        """Give what a command gives; where contracts are in its way, its provider is told."""
        try:
            return await command
        except MarketError as error:
            if is_blocked(error):
                async with self.commands.aside(call) as w:
                    service = await ServiceStorage(w.connection).get(service_id)
                    count = int(error.metadata["contracts"])
                    await tell(w.connection, refusal_notices(service, what, count, w.now))
            raise


def check_visible(service: Service, actor: Actor) -> None:
    """Raise MarketError NOT_FOUND for another partner's service that is not published."""
    if service.state not in VISIBLE and not actor.may_see(service.provider_id):
        raise not_found("service")


async def locked_own(w: Work, service_id: str) -> Service:
    """Give a service of the caller, or any to an operator, that nobody else changes meanwhile."""
    service = await ServiceStorage(w.connection).locked(service_id)
    if not w.actor.may_see(service.provider_id):
        raise not_found("service")
    return service


async def changed(
    w: Work, after: Service, step: ServiceStep, reason: str = ""
) -> service_pb2.Service:
    """Write the history, tell whom it concerns and the workers: the end of the transaction."""
    await ServiceStorage(w.connection).remember(after, step, w.actor, w.now, reason)
    made = await rendered(w, after)
    notices = provider_notices(after, step, w.now)
    if concerns_requesters(step):
        requesters = await requesters_of(w.connection, after.service_id)
        notices += service_notices(after, step, requesters, w.now)
    await tell(w.connection, notices)
    await announce(w.connection, RoutingChange(services=frozenset({after.service_id})))
    return made
