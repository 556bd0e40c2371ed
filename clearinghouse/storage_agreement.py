"""Versions of agreements in PostgreSQL; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from clearinghouse.agreement import Agreement, AgreementDetails
from clearinghouse.instants import stored
from clearinghouse.storage import Connection

_DETAILS = (
    *("currency_code", "valid_from", "valid_until"),
    *("operator_ids", "operator_keys", "broadcast_allowed"),
)
_OWN = (
    *("agreement_ref", "version_number", "agreement_id", "operator_id", "evsp_id"),
    *("market_contract_id", "active", "market_active", "detailed", "changed_by"),
)
_COLUMNS = ", ".join((*_OWN, *_DETAILS))
_VALUES = ", ".join(f"${number}" for number in range(1, len(_OWN) + len(_DETAILS) + 1))
_CURRENT = f"SELECT {_COLUMNS}, recorded_at FROM clearinghouse.agreement"  # noqa: S608  # our names
_NOW = "replaced_at = 'infinity'"
# A version begins when the one before ends.
_ADD = f"""
INSERT INTO clearinghouse.agreement ({_COLUMNS}, recorded_at)
VALUES ({_VALUES}, coalesce((SELECT max(replaced_at) FROM clearinghouse.agreement
                             WHERE agreement_ref = $1), clock_timestamp()))
ON CONFLICT DO NOTHING RETURNING recorded_at
"""  # noqa: S608  # our names
_REPLACE = f"""
UPDATE clearinghouse.agreement
SET replaced_at = greatest(clock_timestamp(), recorded_at + interval '1 microsecond')
WHERE agreement_ref = $1 AND {_NOW}
"""  # noqa: S608  # our names


class AgreementStorage:
    """Reads and writes agreements inside a transaction that the caller owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def new_ref(self) -> int:
        """Give a number for a new agreement."""
        found: int = await self._connection.fetchval(
            "SELECT nextval('clearinghouse.agreement_ref')"
        )
        return found

    async def get(self, agreement_id: str, *, lock: bool = False) -> Agreement | None:
        """Give the current version; `lock` keeps it the current one until the commit."""
        if lock:
            await self._lock("agreement_id = $1", agreement_id)
        row = await self._connection.fetchrow(
            f"{_CURRENT} WHERE agreement_id = $1 AND {_NOW}", agreement_id
        )
        return None if row is None else agreement_of(row)

    async def of_market_contract(self, contract_id: str) -> Agreement | None:
        """Give the agreement that follows a contract, locked; None where there is none."""
        await self._lock("market_contract_id = $1", contract_id)
        row = await self._connection.fetchrow(
            f"{_CURRENT} WHERE market_contract_id = $1 AND {_NOW}", contract_id
        )
        return None if row is None else agreement_of(row)

    async def active_of(self, operator_id: str, evsp_id: str) -> list[Agreement]:
        """Give the agreements of two partners that are not disabled, the oldest first, locked."""
        await self._lock("operator_id = $1 AND evsp_id = $2", operator_id, evsp_id)
        text = (
            f"{_CURRENT} WHERE operator_id = $1 AND evsp_id = $2 AND active AND {_NOW}"
            " ORDER BY agreement_ref LIMIT 100"
        )
        rows = await self._connection.fetch(text, operator_id, evsp_id)
        return [agreement_of(row) for row in rows]

    async def _lock(self, condition: str, *arguments: str) -> None:
        """Lock agreements by their first version, which stays, unlike the current one."""
        where = f"WHERE {condition} AND version_number = 1 ORDER BY agreement_ref FOR UPDATE"
        text = f"SELECT FROM clearinghouse.agreement {where}"  # our names
        await self._connection.execute(text, *arguments)

    async def page(self, partner_id: str, after: int, size: int) -> Sequence[asyncpg.Record]:
        """Give one row more than the page of a partner's agreements, in order of creation."""
        text = (
            f"{_CURRENT} WHERE (operator_id = $1 OR evsp_id = $1) AND {_NOW}"
            " AND agreement_ref > $2 ORDER BY agreement_ref LIMIT $3 + 1"
        )
        rows: list[asyncpg.Record] = await self._connection.fetch(text, partner_id, after, size)
        return rows

    async def add(self, agreement: Agreement) -> Agreement | None:
        """Write a new version; None where a first one is there already for its contract."""
        if agreement.version_number > 1:
            await self._connection.execute(_REPLACE, agreement.agreement_ref)
        own = [getattr(agreement, name) for name in _OWN]
        details = [getattr(agreement.details, name) for name in _DETAILS]
        added = await self._connection.fetchrow(_ADD, *own, *details)
        if added is None:
            return None
        return replace(agreement, recorded_at=added["recorded_at"])


def agreement_of(row: asyncpg.Record) -> Agreement:
    """Read a row."""
    values = {name: row[name] for name in _DETAILS}
    lists = {name: tuple(row[name]) for name in ("operator_ids", "operator_keys")}
    times = {name: stored(row[name]) for name in ("valid_from", "valid_until")}
    details = AgreementDetails(**{**values, **lists, **times})
    own = {name: row[name] for name in _OWN}
    return Agreement(**own, details=details, recorded_at=row["recorded_at"])
