"""Requests for new services between wire and domain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1 import service_request_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, party_of
from marketplace.rendering import enum_number, timestamp
from marketplace.service_request import (
    RequestState,
    RequestStep,
    Response,
    ServiceRequest,
    Wish,
    sees_responses,
)

STATE = "SERVICE_REQUEST_STATE"
_EVENT = "SERVICE_REQUEST_EVENT_KIND"


def instant(message: Timestamp, field: str) -> datetime:
    """Read a time to the microsecond; MarketError REQUEST_INVALID beyond the calendar."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        violation = FieldViolation(field, "must lie between the years 1 and 9999", "calendar")
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The request has a time beyond the calendar.",
            violations=(violation,),
        ) from None


def read_wish(message: wire.ServiceWish) -> Wish:
    """Read what is asked for; the category may still be that of the interface."""
    start = None
    if message.HasField("wished_start_time"):
        start = instant(message.wished_start_time, "wish.wished_start_time")
    return Wish(
        title=message.title.strip(),
        description=message.description,
        preconditions=message.preconditions,
        postconditions=message.postconditions,
        interface_name=message.interface_name,
        category=message.category.strip(),
        country_codes=tuple(message.country_codes),
        region=message.region,
        monthly_call_count=message.monthly_call_count,
        wished_start_at=start,
    )


def render_wish(wish: Wish) -> wire.ServiceWish:
    """Give what is asked for in full."""
    return wire.ServiceWish(
        title=wish.title,
        description=wish.description,
        preconditions=wish.preconditions,
        postconditions=wish.postconditions,
        interface_name=wish.interface_name,
        category=wish.category,
        country_codes=wish.country_codes,
        region=wish.region,
        monthly_call_count=wish.monthly_call_count,
        wished_start_time=_time(wish.wished_start_at),
    )


def render_request(
    request: ServiceRequest, actor: Actor, now: datetime, *, in_list: bool = False
) -> wire.ServiceRequest:
    """Give a request as the actor may see it, where it stands now."""
    wish = request.wish
    rendered: Any = wire.ServiceRequest(
        service_request_id=request.service_request_id,
        author_id=request.author_id,
        wish=render_wish(wish),
        valid_until_time=timestamp(request.valid_until),
        revision_number=request.revision,
        create_time=timestamp(request.created_at),
        change_time=timestamp(request.changed_at),
    )
    if in_list:
        rendered.wish.CopyFrom(
            wire.ServiceWish(
                title=wish.title,
                interface_name=wish.interface_name,
                category=wish.category,
                country_codes=wish.country_codes,
            )
        )
    rendered.state = enum_number(wire.ServiceRequestState, STATE, request.state_at(now))
    if sees_responses(request, actor):
        rendered.response_count = request.response_count
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_response(response: Response) -> wire.ServiceRequestResponse:
    """Give what a partner responded."""
    return wire.ServiceRequestResponse(
        response_id=response.response_id,
        service_request_id=response.service_request_id,
        responder_id=response.responder_id,
        text=response.text,
        service_id=response.service_id,
        planned_start_time=_time(response.planned_start_at),
        revision_number=response.revision,
        create_time=timestamp(response.created_at),
    )


def render_event(row: Any) -> wire.ServiceRequestEvent:
    """Give one step of a history."""
    rendered: Any = wire.ServiceRequestEvent(
        revision_number=row.revision,
        actor=party_of(row.actor),
        event_time=timestamp(row.occurred_at),
        wish=wire.ServiceWish.FromString(row.wish) if row.wish else None,
    )
    kind, state = RequestStep(row.kind), RequestState(row.state)
    rendered.kind = enum_number(wire.ServiceRequestEventKind, _EVENT, kind)
    rendered.state = enum_number(wire.ServiceRequestState, STATE, state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def _time(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else timestamp(moment)
