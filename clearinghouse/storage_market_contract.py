"""What the marketplace told of contracts, and how far it was read; the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from clearinghouse.storage import Connection
from gem.marketplace.v1.contract_watch_pb2 import WatchContractEventsResponse

_ADVANCE = """
UPDATE clearinghouse.market_cursor SET last_event_id = $1 WHERE last_event_id = $1 - 1
RETURNING last_event_id
"""
_EVENT = """
INSERT INTO clearinghouse.market_event (event_id, contract_id, content) VALUES ($1, $2, $3)
"""
_CONTRACT = """
INSERT INTO clearinghouse.market_contract
    (contract_id, requester_id, provider_id, interface_names, currency_code, in_force, ended)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (contract_id) DO UPDATE SET interface_names = excluded.interface_names,
    currency_code = excluded.currency_code, in_force = excluded.in_force, ended = excluded.ended
"""
# What follows from one contract: itself; where it is with the clearing house, all of the partner's.
_TOUCHED = """
SELECT c.contract_id, c.requester_id, c.provider_id, c.currency_code, c.ended,
    c.in_force AND (SELECT count(DISTINCT m.requester_id) = 2 FROM clearinghouse.market_contract m
        WHERE m.provider_id = $3 AND m.in_force
        AND m.requester_id IN (c.requester_id, c.provider_id)) AS in_force
FROM clearinghouse.market_contract c
WHERE $4 = ANY(c.interface_names) AND $3 NOT IN (c.requester_id, c.provider_id)
    AND (c.contract_id = $1 OR $2 IN (c.requester_id, c.provider_id))
ORDER BY c.contract_id
"""


class MarketContractStorage:
    """Reads and writes inside a transaction that the caller owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def cursor(self) -> int:
        """Give the number of the last event that was stored."""
        found: int = await self._connection.fetchval(
            "SELECT last_event_id FROM clearinghouse.market_cursor"
        )
        return found

    async def advance(self, event_id: int) -> bool:
        """Move the cursor on by one; False where another event is the next one."""
        return await self._connection.fetchval(_ADVANCE, event_id) is not None

    async def keep(
        self, event: WatchContractEventsResponse, *, in_force: bool, ended: bool
    ) -> None:
        """Store an event, and how its contract stands now."""
        content = event.SerializeToString()
        await self._connection.execute(_EVENT, event.sequence, event.contract_id, content)
        await self._connection.execute(
            _CONTRACT,
            event.contract_id,
            event.requester_id,
            event.provider_id,
            list(event.interface_names),
            event.currency_code,
            in_force,
            ended,
        )

    async def touched(
        self, contract_id: str, member_id: str, own_id: str, interface: str
    ) -> Sequence[asyncpg.Record]:
        """Give the contracts for an interface whose standing may have changed.

        That is the contract itself, and those of the partner `member_id`, whose own contract with
        the clearing house changed; empty for none. One is in force while both its parties have a
        contract with the clearing house, too.
        """
        rows: list[asyncpg.Record] = await self._connection.fetch(
            _TOUCHED, contract_id, member_id, own_id, interface
        )
        return rows
