"""Who is told of requests for new services and of responses to them (use cases 1629, 1626)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from marketplace.notice import Notice, NoticeKind
from marketplace.service_request import RequestStep, Response, ServiceRequest

_WORDS = {
    RequestStep.CHANGED: "changed",
    RequestStep.CLOSED: "closed",
    RequestStep.DELETED: "deleted",
}


def response_notices(request: ServiceRequest, response: Response) -> tuple[Notice, ...]:
    """Tell the author of a request that somebody responded."""
    text = f"{response.responder_id} responded to your request {request.service_request_id}."
    if response.service_id:
        text += f" It offers service {response.service_id}."
    notice = Notice(
        recipient_id=request.author_id,
        kind=NoticeKind.SERVICE_REQUEST_RESPONDED,
        title="Response to a request for a new service",
        text=text,
        occurred_at=response.created_at,
        service_id=response.service_id,
        interface_name=request.wish.interface_name,
        sender_id=response.responder_id,
    )
    return (notice,)


def change_notices(
    request: ServiceRequest, step: RequestStep, responder_ids: Iterable[str], now: datetime
) -> tuple[Notice, ...]:
    """Tell those who responded what the author did to its request."""
    words = _WORDS[step]
    text = (
        f"Request {request.service_request_id} of {request.author_id}, to which you responded, was"
        f" {words}. Its revision is {request.revision}."
    )
    return tuple(
        Notice(
            recipient_id=responder_id,
            kind=NoticeKind.SERVICE_REQUEST_CHANGED,
            title=f"Request for a new service {words}",
            text=text,
            occurred_at=now,
            interface_name=request.wish.interface_name,
            sender_id=request.author_id,
        )
        for responder_id in responder_ids
    )
