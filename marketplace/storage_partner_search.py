"""Search of partners in PostgreSQL (use case 1373)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Select, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.identifiers import owner_key
from gem.common.v1.paging_pb2 import PageInfo, PageRequest
from marketplace.actor import not_found
from marketplace.partner import PartnerState
from marketplace.storage_contract_cover import in_force
from marketplace.storage_paging import DEFAULT_SIZE, refused_token
from marketplace.storage_tables import CONTRACT, OWNED_IDENTIFIER, PARTNER, SERVICE

_COLUMNS: tuple[Column[Any], ...] = (
    PARTNER.c.partner_id,
    PARTNER.c.company_name,
    PARTNER.c.country_code,
    PARTNER.c.roles,
    PARTNER.c.state,
    PARTNER.c.registered_at,
)


class Activity(Enum):
    """What a partner does; the names are those of `PartnerActivity`."""

    SERVICE_PROVIDER = "SERVICE_PROVIDER"
    SERVICE_REQUESTER = "SERVICE_REQUESTER"


class Order(Enum):
    """In which order; the values name the column that comes before the partner id."""

    PARTNER_ID = "partner_id"
    COMPANY_NAME = "company_name"
    LATEST_REGISTERED = "registered_at"


@dataclass(frozen=True, slots=True)
class PartnerCriteria:
    """Conditions of a search, applied together; an empty one does not apply."""

    text: str = ""
    states: tuple[PartnerState, ...] = ()
    roles: tuple[int, ...] = ()
    identifier: str = ""
    country_codes: tuple[str, ...] = ()
    registered_from: datetime | None = None
    registered_before: datetime | None = None
    activity: Activity | None = None


_ACTIVITIES: Mapping[Activity, Any] = {
    Activity.SERVICE_PROVIDER: (
        select(SERVICE.c.service_id)
        .where(SERVICE.c.provider_id == PARTNER.c.partner_id, SERVICE.c.state == "PUBLISHED")
        .exists()
    ),
    Activity.SERVICE_REQUESTER: (
        select(CONTRACT.c.contract_id)
        .where(CONTRACT.c.requester_id == PARTNER.c.partner_id, in_force())
        .exists()
    ),
}


class PartnerSearch:
    """Finds partners inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(
        self, request: PageRequest, criteria: PartnerCriteria, order: Order
    ) -> tuple[list[Row[Any]], PageInfo]:
        """Give one page of a search; MarketError REQUEST_INVALID for a token of another list."""
        size = request.page_size or DEFAULT_SIZE
        after: Row[Any] | None = None
        if request.page_token:
            # Partners are never removed, so the one that ended the page before is there.
            last = PARTNER.c.partner_id == _last_id(request.page_token, order)
            after = (await self._connection.execute(select(*_COLUMNS).where(last))).one_or_none()
            if after is None:
                raise refused_token()
        query = _ordered(_narrowed(select(*_COLUMNS), criteria), order, after)
        rows = list((await self._connection.execute(query.limit(size + 1))).all())
        if len(rows) <= size:
            return rows, PageInfo()
        return rows[:size], PageInfo(next_page_token=_token(rows[size - 1], order))

    async def one(self, partner_id: str, *, active_only: bool) -> Row[Any]:
        """Give one partner; raises MarketError NOT_FOUND."""
        query = select(*_COLUMNS).where(PARTNER.c.partner_id == partner_id)
        if active_only:
            query = query.where(PARTNER.c.state == PartnerState.ACTIVE.value)
        row: Row[Any] | None = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("partner")
        return row


def _narrowed(query: Select[Any], criteria: PartnerCriteria) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = []
    if criteria.text:
        columns = (PARTNER.c.company_name, PARTNER.c.partner_id)
        conditions.append(or_(*(c.icontains(criteria.text, autoescape=True) for c in columns)))
    if criteria.states:
        conditions.append(PARTNER.c.state.in_([state.value for state in criteria.states]))
    if criteria.roles:
        conditions.append(PARTNER.c.roles.overlap(list(criteria.roles)))
    if criteria.identifier:
        owner = select(OWNED_IDENTIFIER.c.partner_id).where(
            OWNED_IDENTIFIER.c.value == owner_key(criteria.identifier)
        )
        conditions.append(PARTNER.c.partner_id.in_(owner))
    if criteria.country_codes:
        conditions.append(PARTNER.c.country_code.in_(criteria.country_codes))
    if criteria.registered_from is not None:
        conditions.append(PARTNER.c.registered_at >= criteria.registered_from)
    if criteria.registered_before is not None:
        conditions.append(PARTNER.c.registered_at < criteria.registered_before)
    if criteria.activity is not None:
        conditions.append(_ACTIVITIES[criteria.activity])
    return query.where(*conditions)


def _ordered(query: Select[Any], order: Order, after: Row[Any] | None) -> Select[Any]:
    columns = (PARTNER.c[order.value], PARTNER.c.partner_id)
    descending = order is Order.LATEST_REGISTERED
    if after is not None:
        key, start = tuple_(*columns), tuple_(getattr(after, order.value), after.partner_id)
        query = query.where(key < start if descending else key > start)
    return query.order_by(*(c.desc() if descending else c for c in columns))


def _token(row: Row[Any], order: Order) -> str:
    return base64.urlsafe_b64encode(f"{order.name}:{row.partner_id}".encode()).decode()


def _last_id(token: str, order: Order) -> str:
    """Read behind which partner a page starts; MarketError REQUEST_INVALID."""
    try:
        name, _, partner_id = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
    except (binascii.Error, ValueError):
        raise refused_token() from None
    if name != order.name or not partner_id or "\0" in partner_id:
        raise refused_token()
    return partner_id
