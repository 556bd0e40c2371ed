"""The framework and offerings of ContractService (use cases 1482, 1470, 1624)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foundation.errors import MarketError
from gem.marketplace.v1 import contract_framework_pb2 as framework_pb2
from gem.marketplace.v1.contract_pb2 import OfferingTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.contract_framework import check_framework, check_offering
from marketplace.contract_rendering import render_offering
from marketplace.service_registry_servicer import check_visible, new_id
from marketplace.storage_command import Commands, Work
from marketplace.storage_framework import FrameworkStorage, OfferingStorage
from marketplace.storage_paging import page_by_number
from marketplace.storage_service import ServiceStorage

#: Offerings of a service that can be accepted at a time.
OFFERINGS_MAX = 20
#: Sections may be long: so many offerings keep a page below the 4 MiB that clients take.
PAGE_MAX = 3


class ContractOfferingServicer:
    """Serves the part of `gem.marketplace.v1.ContractService` that is about what is on offer."""

    def __init__(self, commands: Commands, make_id: Callable[[], str] = new_id) -> None:
        self._commands = commands
        self._make_id = make_id

    async def GetContractFramework(  # noqa: N802  # the rpc's name
        self, request: framework_pb2.GetContractFrameworkRequest, call: Call
    ) -> framework_pb2.GetContractFrameworkResponse:
        """Give a version of the framework with all its sections."""
        async with self._commands.read(call) as w:
            storage = FrameworkStorage(w.connection)
            framework = await storage.get(request.version)
            newest = await storage.newest_version()
        return framework_pb2.GetContractFrameworkResponse(
            framework=framework, newest_version=newest
        )

    async def PublishContractFramework(  # noqa: N802  # the rpc's name
        self, request: framework_pb2.PublishContractFrameworkRequest, call: Call
    ) -> framework_pb2.PublishContractFrameworkResponse:
        """Publish the next version of the framework; the older ones stay."""
        check_framework(request.framework)

        async def work(w: Work) -> framework_pb2.PublishContractFrameworkResponse:
            storage = FrameworkStorage(w.connection)
            following = await storage.newest_version() + 1
            if request.framework.version not in (0, following):
                raise _not_allowed("Only the next version can be published.")
            framework = framework_pb2.ContractFramework()
            framework.CopyFrom(request.framework)
            framework.version = following
            framework.ClearField("publish_time")
            await storage.publish(framework, w.actor, w.now)
            published = await storage.get(following)
            return framework_pb2.PublishContractFrameworkResponse(framework=published)

        response = framework_pb2.PublishContractFrameworkResponse
        return await self._commands.run(request, call, response, work)

    async def CreateOffering(  # noqa: N802  # the rpc's name
        self, request: framework_pb2.CreateOfferingRequest, call: Call
    ) -> framework_pb2.CreateOfferingResponse:
        """Offer a service of the caller."""

        async def work(w: Work) -> framework_pb2.CreateOfferingResponse:
            await _own_service(w, request.service_id)
            await _check_terms(w, request.terms)
            storage = OfferingStorage(w.connection)
            if await storage.count(request.service_id) >= OFFERINGS_MAX:
                raise _not_allowed(f"The service has {OFFERINGS_MAX} offerings already.")
            terms = request.terms.SerializeToString(deterministic=True)
            row = await storage.add(self._make_id(), request.service_id, terms, w.now)
            return framework_pb2.CreateOfferingResponse(offering=render_offering(row))

        return await self._commands.run(request, call, framework_pb2.CreateOfferingResponse, work)

    async def ChangeOffering(  # noqa: N802  # the rpc's name
        self, request: framework_pb2.ChangeOfferingRequest, call: Call
    ) -> framework_pb2.ChangeOfferingResponse:
        """Replace an offering of the caller by its next revision."""

        async def work(w: Work) -> framework_pb2.ChangeOfferingResponse:
            storage = OfferingStorage(w.connection)
            before = await _withdrawn(w, request.offering_id, request.terms)
            terms = request.terms.SerializeToString(deterministic=True)
            row = await storage.add(
                self._make_id(), before.service_id, terms, w.now, previous=before
            )
            return framework_pb2.ChangeOfferingResponse(offering=render_offering(row))

        return await self._commands.run(request, call, framework_pb2.ChangeOfferingResponse, work)

    async def WithdrawOffering(  # noqa: N802  # the rpc's name
        self, request: framework_pb2.WithdrawOfferingRequest, call: Call
    ) -> framework_pb2.WithdrawOfferingResponse:
        """Take an offering of the caller back; contracts by it go on."""

        async def work(w: Work) -> framework_pb2.WithdrawOfferingResponse:
            row = await _withdrawn(w, request.offering_id, None)
            return framework_pb2.WithdrawOfferingResponse(offering=render_offering(row))

        return await self._commands.run(request, call, framework_pb2.WithdrawOfferingResponse, work)

    async def ListOfferings(  # noqa: N802  # the rpc's name
        self, request: framework_pb2.ListOfferingsRequest, call: Call
    ) -> framework_pb2.ListOfferingsResponse:
        """List the offerings of a service; others see only what can be accepted."""
        page = page_by_number(request.page, PAGE_MAX)
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            check_visible(service, w.actor)
            own = w.actor.may_see(service.provider_id)
            rows, info = await OfferingStorage(w.connection).page(
                page, request.service_id, withdrawn_too=own and request.withdrawn_too
            )
        offerings = map(render_offering, rows)
        return framework_pb2.ListOfferingsResponse(offerings=offerings, page=info)


async def _check_terms(w: Work, terms: OfferingTerms) -> None:
    check_offering(terms, await FrameworkStorage(w.connection).get())


async def _own_service(w: Work, service_id: str) -> None:
    """Lock a service of the caller against contracts; NOT_FOUND for another's."""
    service = await ServiceStorage(w.connection).locked(service_id)
    if w.actor.subject_id != service.provider_id:
        raise not_found("service")


async def _withdrawn(w: Work, offering_id: str, terms: OfferingTerms | None) -> Any:
    """Withdraw an offering of the caller, where it can be accepted, for other terms or none."""
    storage = OfferingStorage(w.connection)
    found = await storage.get(offering_id)
    service = await ServiceStorage(w.connection).locked(found.service_id)
    if w.actor.subject_id != service.provider_id:
        raise not_found("offering")
    if terms is not None:
        await _check_terms(w, terms)
    row = await storage.withdraw(offering_id, w.now)
    if row is None:
        raise _not_allowed("The offering is withdrawn or changed already.")
    return row


def _not_allowed(text: str) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, text)
