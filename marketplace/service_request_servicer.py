"""ServiceRequestService: requests for new services and responses to them (feature 1622)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from foundation.errors import MarketError
from gem.marketplace.v1 import service_request_pb2
from gem.marketplace.v1 import service_request_service_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.notice_service_request import change_notices, response_notices
from marketplace.partner import check_active
from marketplace.rendering import enum_member
from marketplace.service import VISIBLE
from marketplace.service_registry_servicer import new_id
from marketplace.service_request import (
    RequestState,
    RequestStep,
    Response,
    ServiceRequest,
    Wish,
    check_may_open,
    check_may_respond,
    check_revision,
    check_validity,
    check_visible,
    sees_responses,
    take_step,
)
from marketplace.service_request_rendering import (
    STATE,
    instant,
    read_wish,
    render_event,
    render_request,
    render_response,
    render_wish,
)
from marketplace.storage_command import Commands, Work
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_request import RequestFilter, ServiceRequestStorage

#: Texts are long: so many keep a page below the 4 MiB that clients take.
RESPONSES_PAGE_MAX = 200
EVENTS_PAGE_MAX = 50
_OWN = {
    wire.SERVICE_REQUEST_OWNER_UNSPECIFIED: None,
    wire.SERVICE_REQUEST_OWNER_OWN: True,
    wire.SERVICE_REQUEST_OWNER_OTHERS: False,
}


class ServiceRequestServicer:
    """Serves `gem.marketplace.v1.ServiceRequestService`."""

    def __init__(self, commands: Commands, make_id: Callable[[], str] = new_id) -> None:
        self._commands = commands
        self._make_id = make_id

    async def CreateServiceRequest(  # noqa: N802  # the rpc's name
        self, request: wire.CreateServiceRequestRequest, call: Call
    ) -> wire.CreateServiceRequestResponse:
        """Create a request of the caller."""
        wish = read_wish(request.wish)
        valid_until = instant(request.valid_until_time, "valid_until_time")

        async def work(w: Work) -> wire.CreateServiceRequestResponse:
            check_validity(valid_until, w.now)
            author = await PartnerStorage(w.connection).shared(w.actor.subject_id)
            check_active(author)
            storage = ServiceRequestStorage(w.connection)
            check_may_open(await storage.count_open(author.partner_id, w.now))
            created = ServiceRequest(
                service_request_id=self._make_id(),
                author_id=author.partner_id,
                wish=await _classified(w, wish),
                valid_until=valid_until,
                kept_state=RequestState.OPEN,
                revision=1,
                created_at=w.now,
                changed_at=w.now,
            )
            await storage.add(created)
            await _remembered(w, created, RequestStep.CREATED)
            rendered = render_request(created, w.actor, w.now)
            return wire.CreateServiceRequestResponse(service_request=rendered)

        response = wire.CreateServiceRequestResponse
        return await self._commands.run(request, call, response, work)

    async def ChangeServiceRequest(  # noqa: N802  # the rpc's name
        self, request: wire.ChangeServiceRequestRequest, call: Call
    ) -> wire.ChangeServiceRequestResponse:
        """Replace what a request of the caller asks for."""
        wish = read_wish(request.wish)
        valid_until = instant(request.valid_until_time, "valid_until_time")

        async def work(w: Work) -> wire.ChangeServiceRequestResponse:
            storage = ServiceRequestStorage(w.connection)
            # Before the request's row: who creates locks in the same order.
            open_count = await storage.count_open(w.actor.subject_id, w.now)
            before = await storage.locked(request.service_request_id)
            state = take_step(before, RequestStep.CHANGED, w.actor, w.now)
            check_revision(before, request.revision_number)
            check_validity(valid_until, w.now)
            if before.state_at(w.now) is not RequestState.OPEN:
                check_may_open(open_count)
            after = replace(
                before,
                wish=await _classified(w, wish),
                valid_until=valid_until,
                kept_state=state,
                revision=before.revision + 1,
                changed_at=w.now,
            )
            rendered = await _written(w, after, RequestStep.CHANGED)
            return wire.ChangeServiceRequestResponse(service_request=rendered)

        response = wire.ChangeServiceRequestResponse
        return await self._commands.run(request, call, response, work)

    async def CloseServiceRequest(  # noqa: N802  # the rpc's name
        self, request: wire.CloseServiceRequestRequest, call: Call
    ) -> wire.CloseServiceRequestResponse:
        """End that a request of the caller takes responses."""

        async def work(w: Work) -> wire.CloseServiceRequestResponse:
            rendered = await _ended(w, request.service_request_id, RequestStep.CLOSED)
            return wire.CloseServiceRequestResponse(service_request=rendered)

        response = wire.CloseServiceRequestResponse
        return await self._commands.run(request, call, response, work)

    async def DeleteServiceRequest(  # noqa: N802  # the rpc's name
        self, request: wire.DeleteServiceRequestRequest, call: Call
    ) -> wire.DeleteServiceRequestResponse:
        """Hide a request of the caller from others for good."""

        async def work(w: Work) -> wire.DeleteServiceRequestResponse:
            rendered = await _ended(w, request.service_request_id, RequestStep.DELETED)
            return wire.DeleteServiceRequestResponse(service_request=rendered)

        response = wire.DeleteServiceRequestResponse
        return await self._commands.run(request, call, response, work)

    async def RespondToServiceRequest(  # noqa: N802  # the rpc's name
        self, request: wire.RespondToServiceRequestRequest, call: Call
    ) -> wire.RespondToServiceRequestResponse:
        """Respond to another partner's open request."""
        planned = None
        if request.HasField("planned_start_time"):
            planned = instant(request.planned_start_time, "planned_start_time")

        async def work(w: Work) -> wire.RespondToServiceRequestResponse:
            storage = ServiceRequestStorage(w.connection)
            asked = await storage.locked(request.service_request_id)
            take_step(asked, RequestStep.RESPONDED, w.actor, w.now)
            responder = await PartnerStorage(w.connection).shared(w.actor.subject_id)
            check_active(responder)
            asked_id, own_id = asked.service_request_id, responder.partner_id
            own_count = await storage.count_responses_of(asked_id, own_id)
            check_may_respond(asked.response_count, own_count)
            await _check_offered(w, request.service_id)
            made = Response(
                response_id=self._make_id(),
                service_request_id=asked_id,
                responder_id=own_id,
                text=request.text,
                service_id=request.service_id,
                planned_start_at=planned,
                revision=asked.revision,
                created_at=w.now,
            )
            await storage.respond(made)
            await storage.remember(asked, RequestStep.RESPONDED, w.actor, w.now)
            await tell(w.connection, response_notices(asked, made))
            return wire.RespondToServiceRequestResponse(response=render_response(made))

        response = wire.RespondToServiceRequestResponse
        return await self._commands.run(request, call, response, work)

    async def GetServiceRequest(  # noqa: N802  # the rpc's name
        self, request: wire.GetServiceRequestRequest, call: Call
    ) -> wire.GetServiceRequestResponse:
        """Give a request in full."""
        async with self._commands.read(call) as w:
            found = await _visible(w, request.service_request_id)
        rendered = render_request(found, w.actor, w.now)
        return wire.GetServiceRequestResponse(service_request=rendered)

    async def SearchServiceRequests(  # noqa: N802  # the rpc's name
        self, request: wire.SearchServiceRequestsRequest, call: Call
    ) -> wire.SearchServiceRequestsResponse:
        """Find requests, the latest first."""
        page = page_by_number(request.page)
        state = enum_member(
            RequestState, service_request_pb2.ServiceRequestState, STATE, request.state
        )
        condition = RequestFilter(
            words=request.text,
            category=request.category,
            interface_name=request.interface_name,
            country_code=request.country_code,
            state=state,
            author_id=request.author_id,
            own=_OWN[request.owner],
            responded_only=request.responded_only,
        )
        async with self._commands.read(call) as w:
            storage = ServiceRequestStorage(w.connection)
            found, info = await storage.page(page, condition, w.actor, w.now)
        rendered = [render_request(each, w.actor, w.now, in_list=True) for each in found]
        return wire.SearchServiceRequestsResponse(service_requests=rendered, page=info)

    async def ListServiceRequestResponses(  # noqa: N802  # the rpc's name
        self, request: wire.ListServiceRequestResponsesRequest, call: Call
    ) -> wire.ListServiceRequestResponsesResponse:
        """List responses, the oldest first: all to the author and operators, else one's own."""
        page = page_by_number(request.page, RESPONSES_PAGE_MAX)
        async with self._commands.read(call) as w:
            asked = await _visible(w, request.service_request_id)
            responder_id = "" if sees_responses(asked, w.actor) else w.actor.subject_id
            storage = ServiceRequestStorage(w.connection)
            found, info = await storage.responses(page, asked.service_request_id, responder_id)
        return wire.ListServiceRequestResponsesResponse(
            responses=map(render_response, found), page=info
        )

    async def ListServiceRequestEvents(  # noqa: N802  # the rpc's name
        self, request: wire.ListServiceRequestEventsRequest, call: Call
    ) -> wire.ListServiceRequestEventsResponse:
        """List what happened to a request, the oldest first."""
        page = page_by_number(request.page, EVENTS_PAGE_MAX)
        async with self._commands.read(call) as w:
            asked = await _visible(w, request.service_request_id)
            rows, info = await ServiceRequestStorage(w.connection).events(
                page,
                asked.service_request_id,
                w.actor,
                all_responses=sees_responses(asked, w.actor),
            )
        return wire.ListServiceRequestEventsResponse(events=map(render_event, rows), page=info)


async def _classified(w: Work, wish: Wish) -> Wish:
    """Give a wish with a category: that of its interface unless it has one; NOT_FOUND."""
    if not wish.interface_name:
        return wish
    interface = await InterfaceStorage(w.connection).get(wish.interface_name, 0)
    return replace(wish, category=wish.category or interface.category)


async def _check_offered(w: Work, service_id: str) -> None:
    """Refuse a service that the author could not look at; empty is none.

    Raises:
        MarketError: NOT_FOUND where it is not the responder's own, STATE_NOT_ALLOWED.
    """
    if not service_id:
        return
    service = await ServiceStorage(w.connection).shared(service_id)
    if service.provider_id != w.actor.subject_id:
        raise not_found("service")
    if service.state not in VISIBLE:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The service is not published: say from when on it is planned instead.",
        )


async def _ended(
    w: Work, service_request_id: str, step: RequestStep
) -> service_request_pb2.ServiceRequest:
    """Close or delete a request."""
    before = await ServiceRequestStorage(w.connection).locked(service_request_id)
    state = take_step(before, step, w.actor, w.now)
    return await _written(w, replace(before, kept_state=state, changed_at=w.now), step)


async def _written(
    w: Work, after: ServiceRequest, step: RequestStep
) -> service_request_pb2.ServiceRequest:
    """Write a request after a step of its author's, and tell its responders, as the last part."""
    storage = ServiceRequestStorage(w.connection)
    await storage.set(after)
    await _remembered(w, after, step)
    responders = await storage.responders(after.service_request_id)
    await tell(w.connection, change_notices(after, step, responders, w.now))
    return render_request(after, w.actor, w.now)


async def _remembered(w: Work, after: ServiceRequest, step: RequestStep) -> None:
    wrote = step in (RequestStep.CREATED, RequestStep.CHANGED)
    wish = render_wish(after.wish).SerializeToString(deterministic=True) if wrote else b""
    await ServiceRequestStorage(w.connection).remember(after, step, w.actor, w.now, wish)


async def _visible(w: Work, service_request_id: str) -> ServiceRequest:
    found = await ServiceRequestStorage(w.connection).get(service_request_id)
    check_visible(found, w.actor)
    return found
