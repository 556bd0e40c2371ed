"""The feeds of clearing houses; a trigger writes them when contracts' events are committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.storage_tables import CONTRACT, CONTRACT_EVENT, SERVICE
from marketplace.storage_tables_contract import CONTRACT_SERVICE
from marketplace.storage_tables_contract_feed import CONTRACT_FEED_EVENT

_ADDED = (
    select(CONTRACT_SERVICE.c.service_id)
    .where(CONTRACT_SERVICE.c.contract_id == CONTRACT.c.contract_id)
    .correlate(CONTRACT)
)
_INTERFACES = (
    select(func.array_agg(SERVICE.c.interface_name.distinct()))
    .where((SERVICE.c.service_id == CONTRACT.c.service_id) | SERVICE.c.service_id.in_(_ADDED))
    .correlate(CONTRACT)
    .scalar_subquery()
    .label("interface_names")
)
_EVENTS: Select[Any] = (
    select(
        *CONTRACT_FEED_EVENT.c["event_id", "contract_id", "state"],
        *CONTRACT_EVENT.c["kind", "actor", "occurred_at"],
        *CONTRACT.c["requester_id", "provider_id", "currency_code"],
        _INTERFACES,
    )
    .join(CONTRACT, CONTRACT.c.contract_id == CONTRACT_FEED_EVENT.c.contract_id)
    .outerjoin(CONTRACT_EVENT, CONTRACT_EVENT.c.position == CONTRACT_FEED_EVENT.c.position)
    .order_by(CONTRACT_FEED_EVENT.c.event_id)
)


def feed_name(clearing_house_id: str) -> str:
    """Give the word by which readers of a feed are woken; no partner's id is like it."""
    return f"contracts/{clearing_house_id}"


async def events_after(
    connection: AsyncConnection, clearing_house_id: str, after: int, most: int
) -> Sequence[Row[Any]]:
    """Give the first events of a feed behind one of them, the oldest first."""
    query = _EVENTS.where(
        CONTRACT_FEED_EVENT.c.clearing_house_id == clearing_house_id,
        CONTRACT_FEED_EVENT.c.event_id > after,
    )
    found: Sequence[Row[Any]] = (await connection.execute(query.limit(most))).all()
    return found
