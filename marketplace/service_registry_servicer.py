"""ServiceRegistryService: registers, publishes, stops and shows services (1250, 1494, 1255)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from gem.marketplace.v1 import service_pb2, service_registry_service_pb2
from interceptors.call import Call
from marketplace.actor import Actor, not_found
from marketplace.contract_framework import check_offering
from marketplace.contract_rendering import render_offering
from marketplace.notice import concerns_requesters, service_notices
from marketplace.partner import check_active
from marketplace.rendering import enum_member, enum_number, timestamp
from marketplace.routing_change import RoutingChange
from marketplace.service import (
    REGISTRATION_CONTRACT_VERSION,
    VISIBLE,
    Service,
    ServiceState,
    ServiceStep,
    check_registration_contract,
    check_role,
    parse_endpoint,
    take_step,
)
from marketplace.storage_command import Commands, Work
from marketplace.storage_framework import FrameworkStorage
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_notice import requesters_of, tell
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_routing import announce
from marketplace.storage_service import ServiceFilter, ServiceStorage

_PREFIX = "SERVICE_STATE"
#: Descriptions are long: so many keep a page below the 4 MiB that clients take.
PAGE_MAX = 200


def new_id() -> str:
    """Make an id that nobody can guess."""
    return str(uuid4())


class ServiceRegistryServicer:
    """Serves `gem.marketplace.v1.ServiceRegistryService`."""

    def __init__(self, commands: Commands, make_id: Callable[[], str] = new_id) -> None:
        self._commands = commands
        self._make_id = make_id

    async def RegisterService(  # noqa: N802  # the rpc's name
        self, request: service_registry_service_pb2.RegisterServiceRequest, call: Call
    ) -> service_registry_service_pb2.RegisterServiceResponse:
        """Register a service of the caller, disabled until it is published."""
        check_registration_contract(request.accepted_registration_contract_version)
        endpoint = parse_endpoint(request.endpoint)

        async def work(w: Work) -> service_registry_service_pb2.RegisterServiceResponse:
            provider = await PartnerStorage(w.connection).shared(w.actor.subject_id)
            check_active(provider)
            interfaces = InterfaceStorage(w.connection)
            interface = await interfaces.get(request.interface_name, request.interface_version)
            check_role(provider.roles, interface.implemented_by, "implement")
            framework = await FrameworkStorage(w.connection).get()
            check_offering(request.offering, framework, "offering", plain=True)
            storage = ServiceStorage(w.connection)
            service = await storage.add(
                Service(
                    service_id=self._make_id(),
                    position=0,
                    provider_id=provider.partner_id,
                    title=request.title,
                    description=request.description,
                    interface_name=interface.interface_name,
                    interface_version=interface.version,
                    service_version=request.service_version,
                    endpoint=endpoint,
                    state=ServiceState.REGISTERED,
                    registered_at=w.now,
                ),
                REGISTRATION_CONTRACT_VERSION,
            )
            await storage.remember(service, ServiceStep.REGISTERED, w.actor, w.now)
            terms = request.offering.SerializeToString(deterministic=True)
            await storage.offer(self._make_id(), service.service_id, terms, w.now)
            rendered = await _rendered(w, service)
            return service_registry_service_pb2.RegisterServiceResponse(service=rendered)

        response = service_registry_service_pb2.RegisterServiceResponse
        return await self._commands.run(request, call, response, work)

    async def PublishService(  # noqa: N802  # the rpc's name
        self, request: service_registry_service_pb2.PublishServiceRequest, call: Call
    ) -> service_registry_service_pb2.PublishServiceResponse:
        """Let a registered service be contracted and called."""

        async def work(w: Work) -> service_registry_service_pb2.PublishServiceResponse:
            service = await _step(w, request.service_id, ServiceStep.PUBLISHED)
            return service_registry_service_pb2.PublishServiceResponse(service=service)

        response = service_registry_service_pb2.PublishServiceResponse
        return await self._commands.run(request, call, response, work)

    async def StopService(  # noqa: N802  # the rpc's name
        self, request: service_registry_service_pb2.StopServiceRequest, call: Call
    ) -> service_registry_service_pb2.StopServiceResponse:
        """Take a service out of routing for a time; calls in flight are not touched."""

        async def work(w: Work) -> service_registry_service_pb2.StopServiceResponse:
            service = await _step(w, request.service_id, ServiceStep.STOPPED)
            return service_registry_service_pb2.StopServiceResponse(service=service)

        response = service_registry_service_pb2.StopServiceResponse
        return await self._commands.run(request, call, response, work)

    async def StartService(  # noqa: N802  # the rpc's name
        self, request: service_registry_service_pb2.StartServiceRequest, call: Call
    ) -> service_registry_service_pb2.StartServiceResponse:
        """Put a stopped service back into routing."""

        async def work(w: Work) -> service_registry_service_pb2.StartServiceResponse:
            service = await _step(w, request.service_id, ServiceStep.STARTED)
            return service_registry_service_pb2.StartServiceResponse(service=service)

        response = service_registry_service_pb2.StartServiceResponse
        return await self._commands.run(request, call, response, work)

    async def ChangeServiceEndpoint(  # noqa: N802  # the rpc's name
        self, request: service_registry_service_pb2.ChangeServiceEndpointRequest, call: Call
    ) -> service_registry_service_pb2.ChangeServiceEndpointResponse:
        """Change where the caller's own service is called."""
        endpoint = parse_endpoint(request.endpoint)

        async def work(w: Work) -> service_registry_service_pb2.ChangeServiceEndpointResponse:
            step = ServiceStep.ENDPOINT_CHANGED
            service = await _step(w, request.service_id, step, endpoint)
            return service_registry_service_pb2.ChangeServiceEndpointResponse(service=service)

        response = service_registry_service_pb2.ChangeServiceEndpointResponse
        return await self._commands.run(request, call, response, work)

    async def GetService(  # noqa: N802  # the rpc's name
        self, request: service_registry_service_pb2.GetServiceRequest, call: Call
    ) -> service_registry_service_pb2.GetServiceResponse:
        """Give one service with its offerings."""
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            check_visible(service, w.actor)
            rendered = await _rendered(w, service)
        return service_registry_service_pb2.GetServiceResponse(service=rendered)

    async def ListServices(  # noqa: N802  # the rpc's name
        self, request: service_registry_service_pb2.ListServicesRequest, call: Call
    ) -> service_registry_service_pb2.ListServicesResponse:
        """List services in the order of their registration."""
        page = page_by_number(request.page, PAGE_MAX)
        state = enum_member(ServiceState, service_pb2.ServiceState, _PREFIX, request.state)
        condition = ServiceFilter(request.interface_name, request.provider_id, state)
        async with self._commands.read(call) as w:
            services, info = await ServiceStorage(w.connection).page(page, condition, w.actor)
        rendered = (_render(service, (), w.actor) for service in services)
        return service_registry_service_pb2.ListServicesResponse(services=rendered, page=info)


def check_visible(service: Service, actor: Actor) -> None:
    """Raise MarketError NOT_FOUND for another partner's service that is not published."""
    if service.state not in VISIBLE and not actor.may_see(service.provider_id):
        raise not_found("service")


async def _step(
    w: Work, service_id: str, step: ServiceStep, endpoint: str | None = None
) -> service_pb2.Service:
    """Take a service one step on, with its history, and tell its requesters and the workers."""
    storage = ServiceStorage(w.connection)
    before = await storage.locked(service_id)
    if not w.actor.may_see(before.provider_id):
        raise not_found("service")
    after = replace(before, state=take_step(before.state, step))
    await storage.set_state(service_id, after.state)
    if endpoint is not None:
        after = replace(after, endpoint=endpoint)
        await storage.set_endpoint(service_id, endpoint)
    await storage.remember(after, step, w.actor, w.now)
    rendered = await _rendered(w, after)
    if concerns_requesters(step):
        requesters = await requesters_of(w.connection, service_id)
        await tell(w.connection, service_notices(after, step, requesters, w.now))
    await announce(w.connection, RoutingChange(services=frozenset({service_id})))
    return rendered


async def _rendered(w: Work, service: Service) -> service_pb2.Service:
    offerings = await ServiceStorage(w.connection).offerings(service.service_id)
    return _render(service, offerings, w.actor)


def _render(service: Service, offerings: Sequence[Any], actor: Actor) -> service_pb2.Service:
    rendered: Any = service_pb2.Service(
        service_id=service.service_id,
        provider_id=service.provider_id,
        title=service.title,
        description=service.description,
        interface_name=service.interface_name,
        interface_version=service.interface_version,
        service_version=service.service_version,
        endpoint=service.endpoint if actor.may_see(service.provider_id) else "",
        offerings=map(render_offering, offerings),
        register_time=timestamp(service.registered_at),
    )
    rendered.state = enum_number(service_pb2.ServiceState, _PREFIX, service.state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers
