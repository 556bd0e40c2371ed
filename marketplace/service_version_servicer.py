"""New versions of services: prepared, published when the contracts allow it (940, 1494)."""

from __future__ import annotations

from dataclasses import replace

from gem.marketplace.v1 import service_version_pb2 as wire
from gem.marketplace.v1.contract_pb2 import ContractTerms, OfferingTerms
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.partner import check_active
from marketplace.service import (
    REMEMBERED,
    Service,
    ServiceStep,
    blocked,
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
)
from marketplace.service_rendering import render_version
from marketplace.service_version import (
    OPEN,
    ServiceVersion,
    VersionState,
    VersionStep,
    agreed_on,
    check_new,
    is_unchanged,
)
from marketplace.service_version import take_step as take_version_step
from marketplace.storage_command import Work, conflict
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_price import check_price
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_version import ServiceVersionStorage

#: Contracts in the way that an error lists: details travel in trailers of a limited size.
_SHOWN = 40
_UNCHANGED = "Contracts have to be changed or terminated before this version can be published."


class ServiceVersionServicer:
    """The part of ServiceRegistryService that is about later versions."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._commands = parts.commands

    async def PrepareServiceVersion(  # noqa: N802  # the rpc's name
        self, request: wire.PrepareServiceVersionRequest, call: Call
    ) -> wire.PrepareServiceVersionResponse:
        """Prepare a version beside the published one."""
        endpoint = parse_endpoint(request.endpoint) if request.endpoint else ""
        refusal = await self._parts.endpoints.refusal(endpoint) if endpoint else None
        before, number, compatible = await self._compared(request, call)

        async def work(w: Work) -> wire.PrepareServiceVersionResponse:
            if refusal is not None:
                raise refusal
            service = await locked_own(w, request.service_id)
            take_step(service.state, ServiceStep.VERSION_PREPARED)
            check_new(service, request.service_version)
            if service.interface_version != before.interface_version:
                raise conflict()
            given = request.HasField("offering")
            await _check_provider(w, service, number, request.offering if given else None)
            terms = request.offering.SerializeToString(deterministic=True) if given else None
            storage = ServiceVersionStorage(w.connection)
            version = await storage.add(
                ServiceVersion(
                    version_id=self._parts.make_id(),
                    position=0,
                    service_id=service.service_id,
                    service_version=request.service_version,
                    interface_version=number,
                    compatible=compatible,
                    endpoint=endpoint,
                    terms=terms,
                    state=VersionState.PREPARED,
                    prepared_at=w.now,
                )
            )
            _, count = await _unchanged(w, version)
            await changed(w, service, ServiceStep.VERSION_PREPARED)
            made = render_version(version, service, w.actor, count)
            if terms is not None:
                made.offering.CopyFrom(OfferingTerms.FromString(terms))
            return wire.PrepareServiceVersionResponse(version=made)

        response = wire.PrepareServiceVersionResponse
        return await self._commands.run(request, call, response, work)

    async def PublishServiceVersion(  # noqa: N802  # the rpc's name
        self, request: wire.PublishServiceVersionRequest, call: Call
    ) -> wire.PublishServiceVersionResponse:
        """Put the prepared version in the place of the published one, or ask for that."""

        async def work(w: Work) -> wire.PublishServiceVersionResponse:
            before = await locked_own(w, request.service_id)
            asks = w.actor.is_partner and self._parts.publication_needs_operator
            step = ServiceStep.VERSION_REQUESTED if asks else ServiceStep.VERSION_PUBLISHED
            take_step(before.state, step)
            storage = ServiceVersionStorage(w.connection)
            version = await storage.open(before.service_id)
            contract_ids, count = await _unchanged(w, version)
            if count:
                raise blocked(_UNCHANGED, contract_ids, count)
            own_step = VersionStep.REQUESTED if asks else VersionStep.PUBLISHED
            version = replace(version, state=take_version_step(version.state, own_step))
            await storage.set_state(version.version_id, version.state)
            after = before if asks else await self._renewed(w, before, version)
            service = await changed(w, after, step)
            made = render_version(version, after, w.actor)
            return wire.PublishServiceVersionResponse(service=service, version=made)

        response = wire.PublishServiceVersionResponse
        command = self._commands.run(request, call, response, work)
        what = "brought to its new version"
        return await self._parts.telling(call, request.service_id, what, command)

    async def WithdrawServiceVersion(  # noqa: N802  # the rpc's name
        self, request: wire.WithdrawServiceVersionRequest, call: Call
    ) -> wire.WithdrawServiceVersionResponse:
        """Withdraw the prepared version."""

        async def work(w: Work) -> wire.WithdrawServiceVersionResponse:
            service = await locked_own(w, request.service_id)
            take_step(service.state, ServiceStep.VERSION_WITHDRAWN)
            storage = ServiceVersionStorage(w.connection)
            version = await storage.open(service.service_id)
            state = take_version_step(version.state, VersionStep.WITHDRAWN)
            await storage.set_state(version.version_id, state)
            await changed(w, service, ServiceStep.VERSION_WITHDRAWN)
            made = render_version(replace(version, state=state), service, w.actor)
            return wire.WithdrawServiceVersionResponse(version=made)

        response = wire.WithdrawServiceVersionResponse
        return await self._commands.run(request, call, response, work)

    async def ListServiceVersions(  # noqa: N802  # the rpc's name
        self, request: wire.ListServiceVersionsRequest, call: Call
    ) -> wire.ListServiceVersionsResponse:
        """List the later versions of a service, the oldest first."""
        page = page_by_number(request.page, PAGE_MAX)
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            if service.state not in REMEMBERED:
                check_visible(service, w.actor)
            own = w.actor.may_see(service.provider_id)
            if not own and service.state in REMEMBERED:
                raise not_found("service")
            storage = ServiceVersionStorage(w.connection)
            versions, info = await storage.page(page, service.service_id, all_states=own)
            made = [await _counted(w, version, service) for version in versions]
        return wire.ListServiceVersionsResponse(versions=made, page=info)

    async def _compared(
        self, request: wire.PrepareServiceVersionRequest, call: Call
    ) -> tuple[Service, int, bool]:
        """Give the service, the interface version that is meant, and whether it breaks nothing.

        Outside the command: comparing takes a child process a second or two.
        """
        earlier: bytes = b""
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            if not w.actor.may_see(service.provider_id):
                raise not_found("service")
            storage = InterfaceStorage(w.connection)
            name = service.interface_name
            now = await storage.get(name, service.interface_version)
            meant = await storage.get(name, request.interface_version)
            if meant.version > now.version:
                earlier = await storage.descriptor_set(now.publication_id)
                later = await storage.descriptor_set(meant.publication_id)
        compatible = bool(meant.version == now.version)
        if earlier:
            found = await self._parts.compiler.compare(later, [(name, earlier)])
            compatible = not found
        return service, int(meant.version), compatible

    async def _renewed(self, w: Work, before: Service, version: ServiceVersion) -> Service:
        """Write what the version changes of its service."""
        storage = ServiceStorage(w.connection)
        after = replace(
            before,
            interface_version=version.interface_version,
            service_version=version.service_version,
            endpoint=version.endpoint or before.endpoint,
        )
        await storage.renew(after)
        if version.terms is not None:
            await storage.withdraw_offerings(after.service_id, w.now)
            await storage.offer(self._parts.make_id(), after.service_id, version.terms, w.now)
        return after


async def _check_provider(
    w: Work, service: Service, interface_version: int, offering: OfferingTerms | None = None
) -> None:
    provider = await PartnerStorage(w.connection).shared(service.provider_id)
    check_active(provider)
    interfaces = InterfaceStorage(w.connection)
    interface = await interfaces.get(service.interface_name, interface_version)
    check_role(provider.roles, interface.implemented_by, "implement")
    if offering is not None:
        await check_price(w.connection, interface, offering.price, "offering.price")


async def _unchanged(w: Work, version: ServiceVersion) -> tuple[list[str], int]:
    """Give the first ids and the number of the contracts that have to change first."""
    first: list[str] = []
    count = 0
    if version.compatible:
        return first, count
    storage = ServiceStorage(w.connection)
    async for contract_id, raw in storage.agreed_in_force(version.service_id):
        agreed = agreed_on(ContractTerms.FromString(raw), version.service_id)
        if is_unchanged(version, agreed.interface_version, agreed.service_version):
            count += 1
            if len(first) < _SHOWN:
                first.append(contract_id)
    return first, count


async def _counted(w: Work, version: ServiceVersion, service: Service) -> wire.ServiceVersion:
    count = 0
    if version.state in OPEN and w.actor.may_see(service.provider_id):
        _, count = await _unchanged(w, version)
    return render_version(version, service, w.actor, count)
