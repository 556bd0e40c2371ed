"""Reading heads and chains of the log for partners: what is not theirs stays in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.log_chain import DAY_NS, REGISTER_START, number_of, timestamp
from marketplace.router.target import TransactionEntry
from marketplace.storage_paging import Page, refused_token

_FETCHED = 500
_TOKEN = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\|([0-9a-f-]{36})")
_STARTED = TransactionEntry._fields.index("started_ns")
#: Columns of an entry in the order of its fields, and what is hashed beside them.
ENTRY_COLUMNS = (
    *TransactionEntry._fields[:_STARTED],
    "started_at",
    *TransactionEntry._fields[_STARTED + 1 :],
    *("worker_id", "recorded_at", "nonce"),
)

_HEADS = text("""
SELECT opened.chain_id, opened.day, coalesce(last.sequence, 0) AS sequence,
  coalesce(last.chain_hash, opened.head_hash) AS chain_hash
FROM marketplace.transaction_chain_register AS opened LEFT JOIN LATERAL (
  SELECT sequence, chain_hash FROM (
    (SELECT sequence, chain_hash FROM marketplace.service_transaction AS entry
     WHERE entry.chain_id = opened.chain_id
     AND started_at >= opened.day::timestamp AT TIME ZONE 'UTC'
     AND started_at < (opened.day + 1)::timestamp AT TIME ZONE 'UTC'
     ORDER BY sequence DESC LIMIT 1)
    UNION ALL
    (SELECT sequence, chain_hash FROM marketplace.transaction_superseded AS entry
     WHERE entry.chain_id = opened.chain_id ORDER BY sequence DESC LIMIT 1)
  ) AS either ORDER BY sequence DESC LIMIT 1
) AS last ON true
WHERE opened.kind = 'OPENED' AND opened.day >= :first AND opened.day <= :last
AND (opened.day, opened.chain_id) > (:after_day, :after_id)
ORDER BY opened.day, opened.chain_id LIMIT :size
""")

_REGISTER = text("""
SELECT number, hash FROM marketplace.transaction_chain_register ORDER BY number DESC LIMIT 1
""")

_STARTS = text("""
SELECT chain_id, head_hash FROM marketplace.transaction_chain_register
WHERE kind = 'OPENED' AND day = :day ORDER BY chain_id
""")

_OWN = "(requester_id = :partner OR provider_id = :partner)"
_SHOWN = ", ".join(f"CASE WHEN {_OWN} THEN {name} END AS {name}" for name in ENTRY_COLUMNS)
_PLACES = f"chain_id, sequence, record_hash, {_OWN} AS is_own, {_SHOWN}"
_CHAINS = text(f"""
SELECT {_PLACES}, false AS is_superseded FROM marketplace.service_transaction
WHERE started_at >= :start AND started_at < :end AND chain_id IS NOT NULL
UNION ALL
SELECT {_PLACES}, true FROM marketplace.transaction_superseded
WHERE started_at >= :start AND started_at < :end AND chain_id IS NOT NULL
ORDER BY chain_id, sequence
""")  # noqa: S608  # names of columns
_NO_CHAIN = UUID(int=0)


class LogEvidenceStorage:
    """The log's chains; the caller owns the connection and its transaction, one snapshot."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def heads(
        self, page: Page[str], first: date, last: date
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """Give a page of heads by day and chain; MarketError for a token of another list."""
        after_day, after_id = date.min, _NO_CHAIN
        if page.after is not None:
            match = _TOKEN.fullmatch(page.after)
            try:
                assert match is not None
                after_day, after_id = date.fromisoformat(match[1]), UUID(match[2])
            except (AssertionError, ValueError):
                raise refused_token() from None
        wanted = {"first": first, "last": last, "after_day": after_day, "after_id": after_id}
        found = await self._connection.execute(_HEADS, {**wanted, "size": page.size + 1})
        return page.cut(found.all(), lambda row: f"{row.day.isoformat()}|{row.chain_id}")

    async def register(self) -> tuple[int, bytes]:
        """Give the number of the register's last record, and its hash."""
        row = (await self._connection.execute(_REGISTER)).one_or_none()
        return (0, REGISTER_START) if row is None else (row.number, row.hash)

    async def starts(self, day: date) -> dict[UUID, bytes]:
        """Give the chains of a day in order, with the hash before the first entry of each."""
        rows = await self._connection.execute(_STARTS, {"day": day})
        return {row.chain_id: row.head_hash for row in rows}

    async def places(self, day: date, partner_id: str) -> AsyncIterator[Sequence[Row[Any]]]:
        """Give all places of a day's chains in order; what is not the partner's without content."""
        start = timestamp(number_of(day) * DAY_NS)
        wanted = {"partner": partner_id, "start": start, "end": start + timedelta(days=1)}
        options = {"yield_per": _FETCHED}
        found = await self._connection.stream(_CHAINS, wanted, execution_options=options)
        try:
            async for rows in found.partitions():
                yield rows
        finally:
            await found.close()
