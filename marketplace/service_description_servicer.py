"""What providers state and accept: registration contract, images, texts, cross sale (1477, 566)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gem.marketplace.v1 import service_lifecycle_pb2 as wire
from gem.marketplace.v1 import service_search_pb2 as search
from gem.marketplace.v1.service_pb2 import RelatedService
from interceptors.call import Call
from marketplace.rendering import timestamp
from marketplace.service import ServiceStep, take_step
from marketplace.service_change import ServiceParts, changed, locked_own
from marketplace.service_description import RegistrationContract, check_image, normal_keywords
from marketplace.service_rendering import render_image, render_related
from marketplace.storage_command import Work
from marketplace.storage_paging import page_by_number
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_description import ServiceDescriptionStorage


class ServiceDescriptionServicer:
    """The part of ServiceRegistryService that is about what providers state and accept."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._commands = parts.commands

    async def GetRegistrationContract(  # noqa: N802  # the rpc's name
        self, request: wire.GetRegistrationContractRequest, call: Call
    ) -> wire.GetRegistrationContractResponse:
        """Give a version of the registration contract."""
        async with self._commands.read(call) as w:
            storage = ServiceDescriptionStorage(w.connection)
            current = await storage.current_registration_contract()
            found = await storage.registration_contract(request.version or current)
        return wire.GetRegistrationContractResponse(
            registration_contract=_render_contract(found), current_version=current
        )

    async def PublishRegistrationContract(  # noqa: N802  # the rpc's name
        self, request: wire.PublishRegistrationContractRequest, call: Call
    ) -> wire.PublishRegistrationContractResponse:
        """Put the next version of the registration contract into force."""

        async def work(w: Work) -> wire.PublishRegistrationContractResponse:
            storage = ServiceDescriptionStorage(w.connection)
            made = await storage.publish_registration_contract(
                request.title, request.text, w.actor, w.now
            )
            return wire.PublishRegistrationContractResponse(
                registration_contract=_render_contract(made)
            )

        response = wire.PublishRegistrationContractResponse
        return await self._commands.run(request, call, response, work)

    async def RegisterServiceImage(  # noqa: N802  # the rpc's name
        self, request: wire.RegisterServiceImageRequest, call: Call
    ) -> wire.RegisterServiceImageResponse:
        """Put an image of the caller into the catalogue."""
        reference = check_image(request.reference)

        async def work(w: Work) -> wire.RegisterServiceImageResponse:
            storage = ServiceDescriptionStorage(w.connection)
            image_id, provider_id = self._parts.make_id(), w.actor.subject_id
            row = await storage.add_image(image_id, provider_id, reference, request.title, w.now)
            return wire.RegisterServiceImageResponse(image=render_image(row))

        response = wire.RegisterServiceImageResponse
        return await self._commands.run(request, call, response, work)

    async def ListServiceImages(  # noqa: N802  # the rpc's name
        self, request: wire.ListServiceImagesRequest, call: Call
    ) -> wire.ListServiceImagesResponse:
        """List images of a provider."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            provider_id = w.actor.own_or(request.provider_id)
            storage = ServiceDescriptionStorage(w.connection)
            rows, info = await storage.images(page, provider_id)
        return wire.ListServiceImagesResponse(images=map(render_image, rows), page=info)

    async def ChangeServiceDescription(  # noqa: N802  # the rpc's name
        self, request: wire.ChangeServiceDescriptionRequest, call: Call
    ) -> wire.ChangeServiceDescriptionResponse:
        """Change what is stated of a service."""
        keywords = normal_keywords(request.keywords.words)

        async def work(w: Work) -> wire.ChangeServiceDescriptionResponse:
            before = await locked_own(w, request.service_id)
            step = ServiceStep.DESCRIPTION_CHANGED
            after = replace(
                before,
                state=take_step(before.state, step),
                title=request.title or before.title,
                description=request.description or before.description,
                keywords=keywords if request.HasField("keywords") else before.keywords,
            )
            await ServiceStorage(w.connection).describe(after)
            await host(w, after.service_id, after.provider_id, request)
            service = await changed(w, after, step)
            return wire.ChangeServiceDescriptionResponse(service=service)

        response = wire.ChangeServiceDescriptionResponse
        return await self._commands.run(request, call, response, work)

    async def SetRelatedServices(  # noqa: N802  # the rpc's name
        self, request: search.SetRelatedServicesRequest, call: Call
    ) -> search.SetRelatedServicesResponse:
        """Name other services that are shown beside one."""

        async def work(w: Work) -> search.SetRelatedServicesResponse:
            service = await locked_own(w, request.service_id)
            take_step(service.state, ServiceStep.RELATED_SET)
            storage = ServiceDescriptionStorage(w.connection)
            others = [each for each in request.related_service_ids if each != service.service_id]
            await storage.relate(service.service_id, others, service.provider_id)
            shown = render_related(await storage.related(service.service_id))
            await changed(w, service, ServiceStep.RELATED_SET)
            return search.SetRelatedServicesResponse(related_services=shown)

        response = search.SetRelatedServicesResponse
        return await self._commands.run(request, call, response, work)

    async def SetCrossSaleOptOut(  # noqa: N802  # the rpc's name
        self, request: search.SetCrossSaleOptOutRequest, call: Call
    ) -> search.SetCrossSaleOptOutResponse:
        """Say whether the caller wants to be shown related services."""

        async def work(w: Work) -> search.SetCrossSaleOptOutResponse:
            storage = ServiceDescriptionStorage(w.connection)
            await storage.opt(w.actor.subject_id, out=request.opted_out, now=w.now)
            return search.SetCrossSaleOptOutResponse(opted_out=request.opted_out)

        response = search.SetCrossSaleOptOutResponse
        return await self._commands.run(request, call, response, work)

    async def GetCrossSaleOptOut(  # noqa: N802  # the rpc's name
        self, request: search.GetCrossSaleOptOutRequest, call: Call
    ) -> search.GetCrossSaleOptOutResponse:
        """Tell whether the caller wants to be shown related services."""
        async with self._commands.read(call) as w:
            out = await ServiceDescriptionStorage(w.connection).opted_out(w.actor.subject_id)
        return search.GetCrossSaleOptOutResponse(opted_out=out)


async def host(w: Work, service_id: str, provider_id: str, request: Any) -> None:
    """Write hosting and image of a request that has them; MarketError NOT_FOUND for the image."""
    storage = ServiceDescriptionStorage(w.connection)
    if request.image_id:
        await storage.image(request.image_id, provider_id)
    hosting = request.hosting if request.HasField("hosting") else None
    await storage.host(service_id, hosting, request.image_id or None)


async def related_for(
    w: Work, service_id: str, *, not_contracted: bool = False
) -> list[RelatedService]:
    """Give what else a service's provider offers, as the caller wants to be shown it (566)."""
    storage, caller = ServiceDescriptionStorage(w.connection), w.actor.subject_id
    if w.actor.is_partner and await storage.opted_out(caller):
        return []
    return render_related(await storage.related(service_id, caller if not_contracted else ""))


def _render_contract(contract: RegistrationContract) -> wire.RegistrationContract:
    made = wire.RegistrationContract(
        version=contract.version, title=contract.title, text=contract.text
    )
    if contract.published_at is not None:
        made.publish_time.CopyFrom(timestamp(contract.published_at))
    return made
