"""Requests for new services: their states, and who may do what (feature 1622)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.transition import advance

#: Requests of one partner that are open at a time.
OPEN_MAX = 50
#: Responses to one request, and those of one partner among them.
RESPONSES_MAX = 200
RESPONSES_OF_ONE_MAX = 5
#: How far ahead a request may be valid.
VALIDITY_MAX = timedelta(days=731)


class RequestState(StrEnum):
    """Where a request stands; the names are those of the proto enum."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    #: Never stored: the instant of `valid_until` makes it so.
    EXPIRED = "EXPIRED"
    DELETED = "DELETED"


class RequestStep(StrEnum):
    """What can happen to a request; the names are those of the proto enum."""

    CREATED = "CREATED"
    CHANGED = "CHANGED"
    RESPONDED = "RESPONDED"
    CLOSED = "CLOSED"
    DELETED = "DELETED"


_S, _T = RequestState, RequestStep
TRANSITIONS: Mapping[tuple[RequestState, RequestStep], RequestState] = {
    (_S.OPEN, _T.CHANGED): _S.OPEN,
    (_S.OPEN, _T.RESPONDED): _S.OPEN,
    (_S.OPEN, _T.CLOSED): _S.CLOSED,
    (_S.OPEN, _T.DELETED): _S.DELETED,
    # A change says until when it is valid, and so prolongs it.
    (_S.EXPIRED, _T.CHANGED): _S.OPEN,
    (_S.EXPIRED, _T.DELETED): _S.DELETED,
    (_S.CLOSED, _T.DELETED): _S.DELETED,
}
_REFUSALS = {
    _T.CREATED: "A request is created once.",
    _T.CHANGED: "A request that is closed or deleted cannot be changed.",
    _T.RESPONDED: "The request takes no response any more.",
    _T.CLOSED: "Only an open request can be closed.",
    _T.DELETED: "The request is deleted already.",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    title: str
    description: str
    preconditions: str
    postconditions: str
    interface_name: str
    category: str
    country_codes: tuple[str, ...]
    region: str
    #: Zero where it is not known.
    monthly_call_count: int
    wished_start_at: datetime | None


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """A request for a new service."""

    service_request_id: str
    author_id: str
    wish: Wish
    #: The first instant at which it takes no response.
    valid_until: datetime
    #: As it is kept: OPEN also where its time has passed.
    kept_state: RequestState
    revision: int
    created_at: datetime
    changed_at: datetime
    response_count: int = 0

    def state_at(self, now: datetime) -> RequestState:
        """Give where it stands at an instant."""
        if self.kept_state is RequestState.OPEN and now >= self.valid_until:
            return RequestState.EXPIRED
        return self.kept_state


@dataclass(frozen=True, slots=True)
class Response:
    """What a partner says to a request."""

    response_id: str
    service_request_id: str
    responder_id: str
    text: str
    #: Empty where there is no service yet.
    service_id: str
    planned_start_at: datetime | None
    #: That of the request when it was answered.
    revision: int
    created_at: datetime


def is_own(request: ServiceRequest, actor: Actor) -> bool:
    """Say whether the actor acts for the author."""
    return actor.is_partner and actor.subject_id == request.author_id


def sees_responses(request: ServiceRequest, actor: Actor) -> bool:
    """Say whether the actor sees what others respond."""
    return actor.may_see(request.author_id)


def check_visible(request: ServiceRequest, actor: Actor) -> None:
    """Raise MarketError NOT_FOUND for another partner's request that is deleted."""
    if request.kept_state is RequestState.DELETED and not actor.may_see(request.author_id):
        raise not_found("service request")


def take_step(
    request: ServiceRequest, step: RequestStep, actor: Actor, now: datetime
) -> RequestState:
    """Give the state after a step that somebody asks for.

    Raises:
        MarketError: NOT_FOUND where the actor may not see it; ROLE_NOT_ALLOWED for a response to
            an own request and for any other step on another's; STATE_NOT_ALLOWED.
    """
    check_visible(request, actor)
    if (step is RequestStep.RESPONDED) == is_own(request, actor):
        who = "not its author" if step is RequestStep.RESPONDED else "only its author"
        raise MarketError(
            ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED, f"A request: {who} takes this step."
        )
    return advance(TRANSITIONS, request.state_at(now), step, _REFUSALS[step])


def check_revision(request: ServiceRequest, revision: int) -> None:
    """Refuse a change of what the caller has not read; 0 takes any. MarketError CONFLICT."""
    if revision not in (0, request.revision):
        raise MarketError(
            ErrorReason.ERROR_REASON_CONFLICT,
            "The request was changed meanwhile: read it again.",
            metadata={"revision": str(request.revision)},
        )


def check_validity(valid_until: datetime, now: datetime) -> None:
    """Refuse a time that has passed, or is too far ahead; MarketError REQUEST_INVALID."""
    if not now < valid_until <= now + VALIDITY_MAX:
        text = f"must lie ahead, by {VALIDITY_MAX.days} days at most"
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The request cannot be valid until then.",
            violations=(FieldViolation("valid_until_time", text, "valid_until_time"),),
        )


def check_may_open(open_count: int) -> None:
    """Refuse a partner with too many open requests; MarketError STATE_NOT_ALLOWED."""
    if open_count >= OPEN_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            f"{OPEN_MAX} requests of the partner are open: close or delete one first.",
        )


def check_may_respond(count: int, own_count: int) -> None:
    """Refuse responses beyond the limits; MarketError STATE_NOT_ALLOWED."""
    if own_count >= RESPONSES_OF_ONE_MAX:
        text = f"The partner has responded {RESPONSES_OF_ONE_MAX} times already."
    elif count >= RESPONSES_MAX:
        text = f"The request has {RESPONSES_MAX} responses already."
    else:
        return
    raise MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, text)
