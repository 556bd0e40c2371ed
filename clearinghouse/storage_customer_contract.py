"""Reads customers' contracts as of now or of any instant; the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg

from clearinghouse.customer_contract import HeldTokenRow, HeldVersion
from clearinghouse.instants import stored
from clearinghouse.storage import Connection

_COLUMNS = (
    "evsp_id, contract_key, version_number, active, content, limits, recorded_at, secret_hash,"
    " sequence"
)
_SELECT = f"SELECT {_COLUMNS} FROM clearinghouse.customer_contract"  # noqa: S608  # our names
_NOW = "replaced_at = 'infinity'"
_TOKENS_NOW = f"""
SELECT contract_key, token_hash, kind, visual_number, status, expires_at, blocked_by_customer
FROM clearinghouse.token WHERE contract_key = ANY($1) AND evsp_id = $2 AND {_NOW}
ORDER BY token_hash
"""  # noqa: S608  # our names
_TOKENS_THEN = """
SELECT contract_key, token_hash, kind, visual_number, status, expires_at, blocked_by_customer
FROM clearinghouse.token WHERE contract_key = ANY($1) AND evsp_id = $2
    AND recorded_at <= $3 AND replaced_at > $3
ORDER BY token_hash
"""
_FAILED = """
INSERT INTO clearinghouse.own_change_failure AS known (contract_key, partner_id, failure_count,
    last_at) VALUES ($1, $2, 1, clock_timestamp())
ON CONFLICT (contract_key, partner_id) DO UPDATE SET last_at = clock_timestamp(), failure_count =
    CASE WHEN known.last_at < clock_timestamp() - $3::interval THEN 1
    ELSE known.failure_count + 1 END
"""
_FAILURES = """
SELECT failure_count FROM clearinghouse.own_change_failure
WHERE contract_key = $1 AND partner_id = $2 AND last_at >= clock_timestamp() - $3::interval
"""


class CustomerContractStorage:
    """Reads one database's contracts inside a transaction that the caller owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, evsp_id: str, contract_key: str) -> HeldVersion | None:
        """Give the current version of an EVSP's contract; None where it has no such contract."""
        text = f"{_SELECT} WHERE contract_key = $1 AND evsp_id = $2 AND {_NOW}"
        return await self._one(text, contract_key, evsp_id)

    async def of_key(self, contract_key: str) -> HeldVersion | None:
        """Give the current version of whosever contract it is."""
        return await self._one(f"{_SELECT} WHERE contract_key = $1 AND {_NOW}", contract_key)

    async def page(
        self, evsp_id: str, after: str, size: int, *, with_disabled: bool
    ) -> tuple[HeldVersion, ...]:
        """Give one contract more than the page, by contract id."""
        text = (
            f"{_SELECT} WHERE evsp_id = $1 AND contract_key > $2 AND (active OR $4) AND {_NOW}"
            " ORDER BY contract_key LIMIT $3 + 1"
        )
        rows = await self._connection.fetch(text, evsp_id, after, size, with_disabled)
        return await self._with_tokens(evsp_id, rows)

    async def following(self, evsp_id: str, sequence: int, most: int) -> tuple[HeldVersion, ...]:
        """Give current versions behind a sequence, in the order of their changes."""
        text = (
            f"{_SELECT} WHERE evsp_id = $1 AND sequence > $2 AND {_NOW} ORDER BY sequence LIMIT $3"
        )
        rows = await self._connection.fetch(text, evsp_id, sequence, most)
        return await self._with_tokens(evsp_id, rows)

    async def last_sequence(self, evsp_id: str) -> int:
        """Give the sequence of the EVSP's latest change; zero where there was none."""
        text = "SELECT last_sequence FROM clearinghouse.evsp WHERE evsp_id = $1"
        return int(await self._connection.fetchval(text, evsp_id) or 0)

    async def settle(self, evsp_id: str) -> datetime:
        """Wait for changes that are being written; give an instant behind all of them."""
        text = "SELECT FROM clearinghouse.evsp WHERE evsp_id = $1 FOR SHARE"
        await self._connection.execute(text, evsp_id)
        now: datetime = await self._connection.fetchval("SELECT clock_timestamp()")
        return now

    async def in_force_at(
        self, evsp_id: str, at: datetime, after: str, most: int
    ) -> tuple[HeldVersion, ...]:
        """Give the contracts that were in force at an instant, by contract id."""
        text = (
            f"{_SELECT} WHERE evsp_id = $1 AND contract_key > $3 AND active"
            " AND recorded_at <= $2 AND replaced_at > $2 AND valid_from <= $2 AND valid_until > $2"
            " ORDER BY contract_key LIMIT $4"
        )
        rows = await self._connection.fetch(text, evsp_id, at, after, most)
        return await self._with_tokens(evsp_id, rows, at)

    async def mark_customers_block(self, contract_key: str, token_hash: bytes) -> None:
        """Remember that the customer blocked a token himself, so that he may unblock it."""
        text = (
            "UPDATE clearinghouse.token SET blocked_by_customer = true"
            " WHERE contract_key = $1 AND token_hash = $2 AND replaced_at = 'infinity'"
        )
        await self._connection.execute(text, contract_key, token_hash)

    async def failures(self, contract_key: str, partner_id: str, within: Any) -> int:
        """Count the wrong secrets that a partner sent for a contract lately."""
        found = await self._connection.fetchval(_FAILURES, contract_key, partner_id, within)
        return int(found or 0)

    async def count_failure(self, contract_key: str, partner_id: str, within: Any) -> None:
        """Count one more."""
        await self._connection.execute(_FAILED, contract_key, partner_id, within)

    async def _one(self, text: str, *arguments: object) -> HeldVersion | None:
        rows = await self._connection.fetch(text, *arguments)
        if not rows:
            return None
        (held,) = await self._with_tokens(rows[0]["evsp_id"], rows)
        return held

    async def _with_tokens(
        self, evsp_id: str, rows: Sequence[asyncpg.Record], at: datetime | None = None
    ) -> tuple[HeldVersion, ...]:
        """Give contracts with their tokens of an instant; None is now."""
        tokens: dict[str, list[HeldTokenRow]] = {row["contract_key"]: [] for row in rows}
        query, then = (_TOKENS_NOW, ()) if at is None else (_TOKENS_THEN, (at,))
        for row in await self._connection.fetch(query, list(tokens), evsp_id, *then):
            values = {**row, "expires_at": stored(row["expires_at"])}
            tokens[values.pop("contract_key")].append(HeldTokenRow(**values))
        return tuple(HeldVersion(**row, tokens=tuple(tokens[row["contract_key"]])) for row in rows)
