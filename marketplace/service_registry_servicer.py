"""ServiceRegistryService: registers services and shows them; its other parts are its bases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gem.marketplace.v1 import service_pb2
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from interceptors.call import Call
from marketplace.contract_framework import check_offering
from marketplace.endpoint_policy import EndpointCheck
from marketplace.interface_publication import render_interface
from marketplace.partner import check_active
from marketplace.proposal_compiler import ProposalCompiler
from marketplace.rendering import enum_member
from marketplace.service import (
    REMEMBERED,
    Service,
    ServiceState,
    ServiceStep,
    check_registration_contract,
    check_role,
    parse_endpoint,
    take_step,
)
from marketplace.service_change import (
    PAGE_MAX,
    ServiceParts,
    changed,
    check_visible,
    locked_own,
    new_id,
)
from marketplace.service_description import normal_keywords
from marketplace.service_description_servicer import (
    ServiceDescriptionServicer,
    host,
    related_for,
)
from marketplace.service_lifecycle_servicer import ServiceLifecycleServicer
from marketplace.service_rendering import STATE, render_own_contract, render_service, rendered
from marketplace.service_search_servicer import ServiceSearchServicer
from marketplace.service_version_servicer import ServiceVersionServicer
from marketplace.storage_command import Commands, Work
from marketplace.storage_framework import FrameworkStorage
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_price import check_price
from marketplace.storage_service import ServiceFilter, ServiceStorage
from marketplace.storage_service_description import ServiceDescriptionStorage

__all__ = ["ServiceRegistryServicer", "check_visible", "new_id"]


class ServiceRegistryServicer(
    ServiceLifecycleServicer,
    ServiceVersionServicer,
    ServiceDescriptionServicer,
    ServiceSearchServicer,
):
    """Serves `gem.marketplace.v1.ServiceRegistryService`."""

    def __init__(
        self,
        commands: Commands,
        make_id: Callable[[], str] = new_id,
        *,
        endpoints: EndpointCheck | None = None,
        publication_needs_operator: bool = False,
        publication_needs_certification: bool = False,
        compiler: ProposalCompiler | None = None,
    ) -> None:
        """Without `endpoints` only services at public addresses are registered."""
        self._parts = ServiceParts(
            commands=commands,
            make_id=make_id,
            endpoints=endpoints or EndpointCheck(),
            publication_needs_operator=publication_needs_operator,
            publication_needs_certification=publication_needs_certification,
            compiler=compiler or ProposalCompiler(),
        )
        self._commands = commands

    async def RegisterService(  # noqa: N802  # the rpc's name
        self, request: registry.RegisterServiceRequest, call: Call
    ) -> registry.RegisterServiceResponse:
        """Register a service of the caller, disabled until it is published."""
        endpoint = parse_endpoint(request.endpoint)
        keywords = normal_keywords(request.keywords.words)
        # Looked up before the transaction, and raised in it: a repetition gives the first result.
        refusal = await self._parts.endpoints.refusal(endpoint)

        async def work(w: Work) -> registry.RegisterServiceResponse:
            accepted = request.accepted_registration_contract_version
            descriptions = ServiceDescriptionStorage(w.connection)
            current = await descriptions.current_registration_contract()
            check_registration_contract(accepted, current)
            if refusal is not None:
                raise refusal
            framework = await FrameworkStorage(w.connection).get()
            check_offering(request.offering, framework, "offering", plain=True)
            service = await self._new_service(w, request)
            service = replace(service, endpoint=endpoint, keywords=keywords)
            storage = ServiceStorage(w.connection)
            service = await storage.add(service, accepted)
            await descriptions.accept(service.service_id, accepted, w.actor, w.now)
            await host(w, service.service_id, service.provider_id, request)
            terms = request.offering.SerializeToString(deterministic=True)
            await storage.offer(self._parts.make_id(), service.service_id, terms, w.now)
            made = await changed(w, service, ServiceStep.REGISTERED)
            return registry.RegisterServiceResponse(service=made)

        response = registry.RegisterServiceResponse
        return await self._commands.run(request, call, response, work)

    async def ChangeServiceEndpoint(  # noqa: N802  # the rpc's name
        self, request: registry.ChangeServiceEndpointRequest, call: Call
    ) -> registry.ChangeServiceEndpointResponse:
        """Change where the caller's own service is called."""
        endpoint = parse_endpoint(request.endpoint)
        refusal = await self._parts.endpoints.refusal(endpoint)

        async def work(w: Work) -> registry.ChangeServiceEndpointResponse:
            before = await locked_own(w, request.service_id)
            step = ServiceStep.ENDPOINT_CHANGED
            after = replace(before, state=take_step(before.state, step), endpoint=endpoint)
            if refusal is not None:
                raise refusal
            await ServiceStorage(w.connection).set_endpoint(after.service_id, endpoint)
            made = await changed(w, after, step)
            return registry.ChangeServiceEndpointResponse(service=made)

        response = registry.ChangeServiceEndpointResponse
        return await self._commands.run(request, call, response, work)

    async def GetService(  # noqa: N802  # the rpc's name
        self, request: registry.GetServiceRequest, call: Call
    ) -> registry.GetServiceResponse:
        """Give one service with all that a partner looks at before and after contracting."""
        async with self._commands.read(call) as w:
            storage = ServiceStorage(w.connection)
            service = await storage.get(request.service_id)
            caller = w.actor.subject_id if w.actor.is_partner else ""
            had = service.state in REMEMBERED and await storage.had_contract(
                service.service_id, caller
            )
            if not had:
                check_visible(service, w.actor)
            interfaces = InterfaceStorage(w.connection)
            interface = await interfaces.get(service.interface_name, service.interface_version)
            contracts = await storage.own_contracts(service.service_id, caller)
            return registry.GetServiceResponse(
                service=await rendered(w, service),
                interface=render_interface(interface),
                contracts=map(render_own_contract, contracts),
                related_services=await related_for(w, service.service_id),
            )

    async def ListServices(  # noqa: N802  # the rpc's name
        self, request: registry.ListServicesRequest, call: Call
    ) -> registry.ListServicesResponse:
        """List services in the order of their registration."""
        page = page_by_number(request.page, PAGE_MAX)
        state = enum_member(ServiceState, service_pb2.ServiceState, STATE, request.state)
        condition = ServiceFilter(request.interface_name, request.provider_id, state)
        async with self._commands.read(call) as w:
            services, info = await ServiceStorage(w.connection).page(page, condition, w.actor)
        made = (render_service(service, (), w.actor) for service in services)
        return registry.ListServicesResponse(services=made, page=info)

    async def _new_service(self, w: Work, request: registry.RegisterServiceRequest) -> Service:
        """Give a service of the caller as it is registered; its interface is in the catalogue."""
        provider = await PartnerStorage(w.connection).shared(w.actor.subject_id)
        check_active(provider)
        interfaces = InterfaceStorage(w.connection)
        interface = await interfaces.get(request.interface_name, request.interface_version)
        check_role(provider.roles, interface.implemented_by, "implement")
        await check_price(w.connection, interface, request.offering.price, "offering.price")
        return Service(
            service_id=self._parts.make_id(),
            position=0,
            provider_id=provider.partner_id,
            title=request.title,
            description=request.description,
            interface_name=interface.interface_name,
            interface_version=interface.version,
            service_version=request.service_version,
            endpoint="",
            state=ServiceState.REGISTERED,
            registered_at=w.now,
            category=interface.category,
        )
