"""The states of services: published, stopped, disabled, deleted (1494, 1255, 1486, 1444)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gem.marketplace.v1 import service_lifecycle_pb2, service_pb2
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from interceptors.call import Call
from marketplace.actor import not_found, party_of
from marketplace.certification import needs_certification
from marketplace.rendering import enum_number, timestamp
from marketplace.service import Service, ServiceState, ServiceStep, disable, take_step
from marketplace.service_change import ServiceParts, changed, locked_own
from marketplace.service_rendering import STATE
from marketplace.service_version import OPEN, VersionState, VersionStep
from marketplace.service_version import take_step as take_version_step
from marketplace.storage_certification import is_certified
from marketplace.storage_command import Work
from marketplace.storage_paging import page_by_number
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_description import ServiceDescriptionStorage
from marketplace.storage_service_version import ServiceVersionStorage

_EVENT = "SERVICE_EVENT_KIND"


class ServiceLifecycleServicer:
    """The part of ServiceRegistryService that changes where a service stands."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._commands = parts.commands

    async def PublishService(  # noqa: N802  # the rpc's name
        self, request: registry.PublishServiceRequest, call: Call
    ) -> registry.PublishServiceResponse:
        """Let a registered service be contracted and called, or ask the operator for it."""

        async def work(w: Work) -> registry.PublishServiceResponse:
            asks = w.actor.is_partner and self._parts.publication_needs_operator
            step = ServiceStep.PUBLICATION_REQUESTED if asks else ServiceStep.PUBLISHED
            service = await _step(w, request.service_id, step)
            needed = self._parts.publication_needs_certification
            if needed and not await is_certified(w.connection, request.service_id):
                raise needs_certification()
            return registry.PublishServiceResponse(service=service)

        return await self._commands.run(request, call, registry.PublishServiceResponse, work)

    async def RefusePublication(  # noqa: N802  # the rpc's name
        self, request: service_lifecycle_pb2.RefusePublicationRequest, call: Call
    ) -> service_lifecycle_pb2.RefusePublicationResponse:
        """Refuse what a provider asked to be published, with the reason."""

        async def work(w: Work) -> service_lifecycle_pb2.RefusePublicationResponse:
            before = await locked_own(w, request.service_id)
            after = await _without_request(w, before)
            service = await changed(w, after, ServiceStep.PUBLICATION_REFUSED, request.reason)
            return service_lifecycle_pb2.RefusePublicationResponse(service=service)

        response = service_lifecycle_pb2.RefusePublicationResponse
        return await self._commands.run(request, call, response, work)

    async def StopService(  # noqa: N802  # the rpc's name
        self, request: registry.StopServiceRequest, call: Call
    ) -> registry.StopServiceResponse:
        """Take a service out of routing for a time; calls in flight are not touched."""

        async def work(w: Work) -> registry.StopServiceResponse:
            service = await _step(w, request.service_id, ServiceStep.STOPPED)
            return registry.StopServiceResponse(service=service)

        return await self._commands.run(request, call, registry.StopServiceResponse, work)

    async def StartService(  # noqa: N802  # the rpc's name
        self, request: registry.StartServiceRequest, call: Call
    ) -> registry.StartServiceResponse:
        """Put a stopped service back into routing."""

        async def work(w: Work) -> registry.StartServiceResponse:
            service = await _step(w, request.service_id, ServiceStep.STARTED)
            return registry.StartServiceResponse(service=service)

        return await self._commands.run(request, call, registry.StartServiceResponse, work)

    async def DisableService(  # noqa: N802  # the rpc's name
        self, request: service_lifecycle_pb2.DisableServiceRequest, call: Call
    ) -> service_lifecycle_pb2.DisableServiceResponse:
        """Disable a stopped service without contracts in force, for good."""

        async def work(w: Work) -> service_lifecycle_pb2.DisableServiceResponse:
            before = await locked_own(w, request.service_id)
            storage = ServiceStorage(w.connection)
            contract_ids, count = await storage.contracts_in_force(before.service_id)
            after = replace(before, state=disable(before.state, contract_ids, count))
            await _withdraw_version(w, after)
            await storage.set_state(after.service_id, after.state)
            service = await changed(w, after, ServiceStep.DISABLED)
            return service_lifecycle_pb2.DisableServiceResponse(service=service)

        response = service_lifecycle_pb2.DisableServiceResponse
        command = self._commands.run(request, call, response, work)
        return await self._parts.telling(call, request.service_id, "disabled", command)

    async def EnableService(  # noqa: N802  # the rpc's name
        self, request: service_lifecycle_pb2.EnableServiceRequest, call: Call
    ) -> service_lifecycle_pb2.EnableServiceResponse:
        """Enable a disabled service; it is stopped then."""

        async def work(w: Work) -> service_lifecycle_pb2.EnableServiceResponse:
            service = await _step(w, request.service_id, ServiceStep.ENABLED)
            return service_lifecycle_pb2.EnableServiceResponse(service=service)

        response = service_lifecycle_pb2.EnableServiceResponse
        return await self._commands.run(request, call, response, work)

    async def DeleteService(  # noqa: N802  # the rpc's name
        self, request: service_lifecycle_pb2.DeleteServiceRequest, call: Call
    ) -> service_lifecycle_pb2.DeleteServiceResponse:
        """Delete a disabled service; what names it stays readable."""

        async def work(w: Work) -> service_lifecycle_pb2.DeleteServiceResponse:
            before = await locked_own(w, request.service_id)
            after = replace(before, state=take_step(before.state, ServiceStep.DELETED))
            storage = ServiceStorage(w.connection)
            await storage.withdraw_offerings(after.service_id, w.now)
            await ServiceDescriptionStorage(w.connection).forget_contact(after.service_id)
            await storage.set_state(after.service_id, after.state)
            service = await changed(w, after, ServiceStep.DELETED)
            return service_lifecycle_pb2.DeleteServiceResponse(service=service)

        response = service_lifecycle_pb2.DeleteServiceResponse
        return await self._commands.run(request, call, response, work)

    async def ListServiceEvents(  # noqa: N802  # the rpc's name
        self, request: service_lifecycle_pb2.ListServiceEventsRequest, call: Call
    ) -> service_lifecycle_pb2.ListServiceEventsResponse:
        """List what happened to a service, the oldest first."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            storage = ServiceStorage(w.connection)
            service = await storage.get(request.service_id)
            if not w.actor.may_see(service.provider_id):
                raise not_found("service")
            rows, info = await storage.events(page, service.service_id)
        return service_lifecycle_pb2.ListServiceEventsResponse(
            events=map(_render_event, rows), page=info
        )


async def _step(w: Work, service_id: str, step: ServiceStep) -> service_pb2.Service:
    """Take a service one step on."""
    before = await locked_own(w, service_id)
    after = replace(before, state=take_step(before.state, step))
    await ServiceStorage(w.connection).set_state(service_id, after.state)
    return await changed(w, after, step)


async def _without_request(w: Work, service: Service) -> Service:
    """Take back what was asked for: the publication of a version, or of the service."""
    versions = ServiceVersionStorage(w.connection)
    version = await versions.find_open(service.service_id)
    if version is not None and version.state is VersionState.REQUESTED:
        state = take_version_step(version.state, VersionStep.REFUSED)
        await versions.set_state(version.version_id, state)
        return service
    after = replace(service, state=take_step(service.state, ServiceStep.PUBLICATION_REFUSED))
    await ServiceStorage(w.connection).set_state(after.service_id, after.state)
    return after


async def _withdraw_version(w: Work, service: Service) -> None:
    versions = ServiceVersionStorage(w.connection)
    version = await versions.find_open(service.service_id)
    if version is not None:
        assert version.state in OPEN
        state = take_version_step(version.state, VersionStep.WITHDRAWN)
        await versions.set_state(version.version_id, state)


def _render_event(row: Any) -> service_lifecycle_pb2.ServiceEvent:
    made: Any = service_lifecycle_pb2.ServiceEvent(
        actor=party_of(row.actor), reason=row.reason, event_time=timestamp(row.occurred_at)
    )
    step, state = ServiceStep(row.kind), ServiceState(row.state)
    made.kind = enum_number(service_lifecycle_pb2.ServiceEventKind, _EVENT, step)
    made.state = enum_number(service_pb2.ServiceState, STATE, state)
    return made  # type: ignore[no-any-return]  # enum fields take plain numbers
