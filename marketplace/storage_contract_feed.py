"""The feeds of clearing houses; a trigger writes them when contracts' events are committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

_FOLLOWING = text(
    """
    SELECT f.event_id, f.contract_id, f.state, e.kind, e.actor, e.occurred_at,
        c.requester_id, c.provider_id, c.currency_code,
        ARRAY(SELECT DISTINCT s.interface_name FROM marketplace.service s
            WHERE s.service_id = c.service_id OR s.service_id IN (
                SELECT a.service_id FROM marketplace.contract_added_service a
                WHERE a.contract_id = c.contract_id)
            ORDER BY s.interface_name) AS interface_names
    FROM marketplace.contract_feed_event f
    JOIN marketplace.contract c USING (contract_id)
    LEFT JOIN marketplace.contract_event e ON e.position = f.position
    WHERE f.clearing_house_id = :house AND f.event_id > :after
    ORDER BY f.event_id LIMIT :most
    """
)


def feed_name(clearing_house_id: str) -> str:
    """Give the word by which readers of a feed are woken; no partner's id is like it."""
    return f"contracts/{clearing_house_id}"


async def events_after(
    connection: AsyncConnection, clearing_house_id: str, after: int, most: int
) -> Sequence[Row[Any]]:
    """Give the first events of a feed behind one of them, the oldest first."""
    values = {"house": clearing_house_id, "after": after, "most": most}
    return (await connection.execute(_FOLLOWING, values)).all()
