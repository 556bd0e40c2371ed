"""Requests for new services, their responses and their history, in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import Actor, not_found
from marketplace.service_request import (
    RequestState,
    RequestStep,
    Response,
    ServiceRequest,
    Wish,
)
from marketplace.storage_paging import Page
from marketplace.storage_tables_service_request import (
    SERVICE_REQUEST,
    SERVICE_REQUEST_EVENT,
    SERVICE_REQUEST_RESPONSE,
)

_TABLE, _EVENT, _RESPONSE = SERVICE_REQUEST, SERVICE_REQUEST_EVENT, SERVICE_REQUEST_RESPONSE
#: Exactly what the index is made of.
_WORDS = _TABLE.c.title + text("' '") + _TABLE.c.description
#: More words of a search are left out.
_WORDS_MAX = 10


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Criteria of a search, applied together; an empty one does not apply."""

    words: str = ""
    category: str = ""
    interface_name: str = ""
    country_code: str = ""
    state: RequestState | None = None
    author_id: str = ""
    #: True for the caller's own, False for others'.
    own: bool | None = None
    responded_only: bool = False


class ServiceRequestStorage:
    """Reads and writes requests inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, request: ServiceRequest) -> None:
        """Write a new request."""
        row = {
            "service_request_id": request.service_request_id,
            "author_id": request.author_id,
            "created_at": request.created_at,
            **_written(request),
        }
        await self._connection.execute(insert(_TABLE).values(row))

    async def set(self, request: ServiceRequest) -> None:
        """Write what a change or another step made of a request."""
        statement = update(_TABLE).where(_key(request.service_request_id))
        await self._connection.execute(statement.values(_written(request)))

    async def count_open(self, author_id: str, now: datetime) -> int:
        """Count a partner's open requests; nobody adds one until the transaction ends."""
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        await self._connection.execute(lock, {"name": f"service_request {author_id}"})
        query = select(func.count()).select_from(_TABLE).where(_TABLE.c.author_id == author_id)
        query = query.where(_in_state(RequestState.OPEN, now))
        return int((await self._connection.execute(query)).scalar_one())

    async def get(self, service_request_id: str) -> ServiceRequest:
        """Give a request with the number of its responses; raises MarketError NOT_FOUND."""
        return await self._one(service_request_id, lock=False)

    async def locked(self, service_request_id: str) -> ServiceRequest:
        """Give a request that nobody else changes or answers until the transaction ends."""
        return await self._one(service_request_id, lock=True)

    async def remember(
        self,
        request: ServiceRequest,
        step: RequestStep,
        actor: Actor,
        now: datetime,
        wish: bytes = b"",
    ) -> None:
        """Write one row of the history; `request` is as it is after the step."""
        row = {
            "service_request_id": request.service_request_id,
            "kind": step.value,
            "state": request.kept_state.value,
            "revision": request.revision,
            "wish": wish,
            "actor": actor.name,
            "actor_id": actor.subject_id if actor.is_partner else "",
            "occurred_at": now,
        }
        await self._connection.execute(insert(_EVENT).values(row))

    async def page(
        self, page: Page[int], condition: RequestFilter, actor: Actor, now: datetime
    ) -> tuple[list[ServiceRequest], PageInfo]:
        """Find what the actor may see, the latest first."""
        query = _narrowed(select(_TABLE, _count()), condition, actor, now)
        query = page.of(query, _TABLE.c.position, descending=True)
        rows = (await self._connection.execute(query)).all()
        cut, info = page.cut(rows, lambda row: int(row.position))
        return [_request(row) for row in cut], info

    async def events(
        self, page: Page[int], service_request_id: str, actor: Actor, *, all_responses: bool
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the history, the oldest first; of responses all, or those of the actor."""
        query = select(_EVENT).where(_EVENT.c.service_request_id == service_request_id)
        if not all_responses:
            other = _EVENT.c.kind != RequestStep.RESPONDED.value
            query = query.where(other | (_EVENT.c.actor_id == actor.subject_id))
        rows = (await self._connection.execute(page.of(query, _EVENT.c.position))).all()
        return page.cut(rows, lambda row: int(row.position))

    async def respond(self, response: Response) -> None:
        """Write a response."""
        await self._connection.execute(insert(_RESPONSE).values(asdict(response)))

    async def count_responses_of(self, service_request_id: str, responder_id: str) -> int:
        """Count one partner's responses to a request."""
        query = select(func.count()).select_from(_RESPONSE)
        query = query.where(_RESPONSE.c.service_request_id == service_request_id)
        query = query.where(_RESPONSE.c.responder_id == responder_id)
        return int((await self._connection.execute(query)).scalar_one())

    async def responders(self, service_request_id: str) -> list[str]:
        """Give the partners that responded to a request, each once."""
        query = select(_RESPONSE.c.responder_id).distinct()
        query = query.where(_RESPONSE.c.service_request_id == service_request_id)
        return list(await self._connection.scalars(query.order_by(_RESPONSE.c.responder_id)))

    async def responses(
        self, page: Page[int], service_request_id: str, responder_id: str
    ) -> tuple[list[Response], PageInfo]:
        """List responses, the oldest first; those of one partner unless `responder_id` is empty."""
        query = select(_RESPONSE).where(_RESPONSE.c.service_request_id == service_request_id)
        if responder_id:
            query = query.where(_RESPONSE.c.responder_id == responder_id)
        rows = (await self._connection.execute(page.of(query, _RESPONSE.c.position))).all()
        cut, info = page.cut(rows, lambda row: int(row.position))
        return [_response(row) for row in cut], info

    async def _one(self, service_request_id: str, *, lock: bool) -> ServiceRequest:
        key = _key(service_request_id)
        if lock:
            # Before the responses are counted, so that none is written meanwhile.
            await self._connection.execute(select(_TABLE.c.position).where(key).with_for_update())
        query = select(_TABLE, _count()).where(key)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("service request")
        return _request(row)


def has_words(words: str) -> list[ColumnElement[bool]]:
    """Give the conditions that each word stands in title or description, as the index has them."""
    escaped = (re.sub(r"([\\%_])", r"\\\1", word) for word in words.split()[:_WORDS_MAX])
    return [_WORDS.ilike(f"%{word}%") for word in escaped]


def _narrowed(
    query: Select[Any], condition: RequestFilter, actor: Actor, now: datetime
) -> Select[Any]:
    if actor.is_partner:
        shown = _TABLE.c.state != RequestState.DELETED.value
        query = query.where(shown | (_TABLE.c.author_id == actor.subject_id))
    query = query.where(*has_words(condition.words))
    for name in ("category", "interface_name", "author_id"):
        if value := getattr(condition, name):
            query = query.where(_TABLE.c[name] == value)
    if condition.country_code:
        anywhere = func.cardinality(_TABLE.c.country_codes) == 0
        query = query.where(anywhere | _TABLE.c.country_codes.contains([condition.country_code]))
    if condition.state is not None:
        query = query.where(_in_state(condition.state, now))
    # An operator has none of its own.
    caller_id = actor.subject_id if actor.is_partner else ""
    if condition.own is not None:
        mine = _TABLE.c.author_id == caller_id
        query = query.where(mine if condition.own else ~mine)
    if condition.responded_only:
        answered = select(_RESPONSE.c.service_request_id)
        answered = answered.where(_RESPONSE.c.responder_id == caller_id)
        query = query.where(_TABLE.c.service_request_id.in_(answered))
    return query


def _in_state(state: RequestState, now: datetime) -> ColumnElement[bool]:
    if state is RequestState.OPEN:
        return (_TABLE.c.state == state.value) & (_TABLE.c.valid_until > now)
    if state is RequestState.EXPIRED:
        return (_TABLE.c.state == RequestState.OPEN.value) & (_TABLE.c.valid_until <= now)
    return _TABLE.c.state == state.value


def _key(service_request_id: str) -> ColumnElement[bool]:
    return _TABLE.c.service_request_id == service_request_id


def _count() -> Any:
    query = select(func.count())
    query = query.where(_RESPONSE.c.service_request_id == _TABLE.c.service_request_id)
    return query.scalar_subquery().label("response_count")


def _written(request: ServiceRequest) -> dict[str, Any]:
    return {
        **asdict(request.wish),
        "country_codes": list(request.wish.country_codes),
        "valid_until": request.valid_until,
        "state": request.kept_state.value,
        "revision": request.revision,
        "changed_at": request.changed_at,
    }


def _request(row: Any) -> ServiceRequest:
    return ServiceRequest(
        service_request_id=row.service_request_id,
        author_id=row.author_id,
        wish=Wish(
            title=row.title,
            description=row.description,
            preconditions=row.preconditions,
            postconditions=row.postconditions,
            interface_name=row.interface_name,
            category=row.category,
            country_codes=tuple(row.country_codes),
            region=row.region,
            monthly_call_count=row.monthly_call_count,
            wished_start_at=row.wished_start_at,
        ),
        valid_until=row.valid_until,
        kept_state=RequestState(row.state),
        revision=row.revision,
        created_at=row.created_at,
        changed_at=row.changed_at,
        response_count=row.response_count,
    )


def _response(row: Any) -> Response:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    del values["position"]
    return Response(**values)
