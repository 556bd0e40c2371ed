"""The blacklist in PostgreSQL; the caller owns the transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from clearinghouse.storage import Connection

_COLUMNS = (
    *("entry_id", "evsp_id", "contract_key", "contract_id"),
    *("token_hash", "kind", "reason", "ends_at"),
)
_NAMES = ", ".join(_COLUMNS)
_ADD = f"""
INSERT INTO clearinghouse.blacklist ({_NAMES}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING entry_ref, {_NAMES}, recorded_at
"""  # noqa: S608  # our names
_REMOVE = """
UPDATE clearinghouse.blacklist
SET replaced_at = greatest(clock_timestamp(), recorded_at + interval '1 microsecond')
WHERE entry_id = $1 AND evsp_id = $2 AND replaced_at = 'infinity' RETURNING entry_id
"""
_PAGE = f"""
SELECT entry_ref, {_NAMES}, recorded_at FROM clearinghouse.blacklist
WHERE evsp_id = $1 AND entry_ref < $2 AND replaced_at = 'infinity'
ORDER BY entry_ref DESC LIMIT $3 + 1
"""  # noqa: S608  # our names
_OWNS = """
SELECT ($2::text IS NULL OR EXISTS (
        SELECT FROM clearinghouse.customer_contract WHERE contract_key = $2 AND evsp_id = $1
        AND replaced_at = 'infinity'))
    AND ($3::bytea IS NULL OR EXISTS (
        SELECT FROM clearinghouse.token WHERE token_hash = $3 AND evsp_id = $1
        AND replaced_at = 'infinity'))
"""


@dataclass(frozen=True, slots=True)
class BlacklistDraft:
    """An identity that an EVSP wants denied."""

    entry_id: str
    evsp_id: str
    contract_key: str | None
    contract_id: str
    token_hash: bytes | None
    kind: int
    reason: int
    ends_at: datetime


class BlacklistStorage:
    """Reads and writes entries inside a transaction that the caller owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def owns(self, draft: BlacklistDraft) -> bool:
        """Say whether the identity is one of the EVSP's customers."""
        found: bool = await self._connection.fetchval(
            _OWNS, draft.evsp_id, draft.contract_key, draft.token_hash
        )
        return found

    async def add(self, draft: BlacklistDraft) -> asyncpg.Record:
        """Write an entry and give it as it is stored."""
        values = [getattr(draft, name) for name in _COLUMNS]
        row: asyncpg.Record = await self._connection.fetchrow(_ADD, *values)
        return row

    async def remove(self, entry_id: str, evsp_id: str) -> bool:
        """End an entry; False where the EVSP has no such one."""
        return await self._connection.fetchval(_REMOVE, entry_id, evsp_id) is not None

    async def page(self, evsp_id: str, before: int, size: int) -> list[asyncpg.Record]:
        """Give one entry more than the page, the latest first."""
        rows: list[asyncpg.Record] = await self._connection.fetch(_PAGE, evsp_id, before, size)
        return rows
