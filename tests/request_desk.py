"""ServiceRequestService as tests call it, over a database without a transport."""

from __future__ import annotations

from typing import Any

from gem.marketplace.v1 import notification_pb2
from gem.marketplace.v1 import service_request_pb2 as messages
from tests.control_plane import ControlPlane
from tests.service_requests import later, wish

SERVICE = "ServiceRequestService"


async def create(plane: ControlPlane, who: str = "author", **fields: Any) -> Any:
    """Create a request; fields are those of the wish or of the call."""
    call = {name: fields.pop(name) for name in ("request_id", "valid_until_time") if name in fields}
    call.setdefault("valid_until_time", later())
    response = await plane.ask(who, f"{SERVICE}/CreateServiceRequest", wish=wish(**fields), **call)
    return response.service_request


async def change(plane: ControlPlane, request: Any, who: str = "author", **fields: Any) -> Any:
    """Change a request."""
    names = ("request_id", "valid_until_time", "revision_number")
    call = {name: fields.pop(name) for name in names if name in fields}
    call.setdefault("valid_until_time", later())
    response = await plane.ask(
        who,
        f"{SERVICE}/ChangeServiceRequest",
        service_request_id=request.service_request_id,
        wish=wish(**fields),
        **call,
    )
    return response.service_request


async def respond(plane: ControlPlane, request: Any, who: str = "seller", **fields: Any) -> Any:
    """Respond to a request."""
    values = {"text": "We can do that.", **fields}
    answer = await step(plane, "RespondToServiceRequest", request, who, **values)
    return answer.response


async def step(
    plane: ControlPlane, rpc: str, request: Any, who: str = "author", **fields: Any
) -> Any:
    """Make a call that names a request."""
    request_id = request.service_request_id
    return await plane.ask(who, f"{SERVICE}/{rpc}", service_request_id=request_id, **fields)


async def search(plane: ControlPlane, who: str = "seller", **fields: Any) -> list[str]:
    """Search; gives the titles."""
    answer = await plane.ask(who, f"{SERVICE}/SearchServiceRequests", **fields)
    return [each.wish.title for each in answer.service_requests]


async def events(plane: ControlPlane, request: Any, who: str = "author") -> list[str]:
    """Give the kinds of a history."""
    answer = await step(plane, "ListServiceRequestEvents", request, who)
    names = (messages.ServiceRequestEventKind.Name(each.kind) for each in answer.events)
    return [name.removeprefix("SERVICE_REQUEST_EVENT_KIND_") for name in names]


async def told(plane: ControlPlane, who: str) -> list[tuple[str, str]]:
    """Give kind and title of the notices of requests, the oldest first."""
    answer = await plane.ask(who, "NotificationService/ListNotifications")
    found = [
        (notification_pb2.NotificationKind.Name(each.kind)[18:], each.title)
        for each in answer.notifications
    ]
    return [each for each in reversed(found) if each[0].startswith("SERVICE_REQUEST")]
