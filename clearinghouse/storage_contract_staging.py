"""Contracts on their way in: staged by COPY, checked against what is stored, written as versions.

One way for a single contract and for a load of a hundred thousand. The caller owns the transaction;
`apply` holds the EVSP's row until its commit. `outcome` is a LoadStatus, 0 while undecided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from clearinghouse.customer_contract import ContractDraft, RefusedDraft
from clearinghouse.storage import Connection

#: Of a statement over a whole load.
BULK_TIMEOUT_S = 120.0
#: From so many contracts on the planner is told what was staged.
_ANALYZE_FROM = 2000
_UNCHANGED, _REFUSED = 3, 5

_CONTRACT = (
    *("contract_key", "contract_id", "active", "policy", "valid_from", "valid_until"),
    *("roaming_allowed", "content", "limits", "secret_hash", "digest"),
)
_TOKEN = ("token_hash", "kind", "visual_number", "status", "expires_at")
_STAGED_CONTRACT = ("load_id", "item_index", *_CONTRACT, "outcome", "field", "description")
_STAGED_TOKEN = ("load_id", "item_index", *_TOKEN, "kept")
_C = ", ".join(_CONTRACT)
_T = ", ".join(_TOKEN)
_BATCH = "s.load_id = $1 AND s.item_index BETWEEN $2 AND $3"
_NOW = "replaced_at = 'infinity'"

# A plan that was made while little was staged would serve a large load badly, and the other way
# round: each statement is planned for what is there, and looks for rows by their keys.
_BY_KEY = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('enable_seqscan', 'off', true)
"""
_WRITE_POINT = """
INSERT INTO clearinghouse.evsp AS known (evsp_id, last_recorded_at) VALUES ($1, clock_timestamp())
ON CONFLICT (evsp_id) DO UPDATE SET last_recorded_at =
    greatest(clock_timestamp(), known.last_recorded_at + interval '1 microsecond')
RETURNING last_recorded_at
"""
_CLAIM = f"""
INSERT INTO clearinghouse.provider_id (provider_key, evsp_id)
SELECT DISTINCT left(s.contract_key, 5), $4 FROM clearinghouse.staged_contract s
WHERE {_BATCH} AND s.outcome = 0 AND s.active ORDER BY 1
ON CONFLICT DO NOTHING
"""  # noqa: S608  # our names
# In the order in which a human would ask; the first that applies is reported.
_CLASSIFY = f"""
UPDATE clearinghouse.staged_contract s SET
    outcome = CASE WHEN x.refusal <> '' THEN {_REFUSED}
        WHEN x.version_number IS NULL THEN CASE WHEN s.active THEN 1 ELSE 3 END
        WHEN NOT s.active THEN CASE WHEN x.was_active THEN 4 ELSE 3 END
        WHEN x.same THEN 3 ELSE 2 END,
    field = CASE x.refusal WHEN '' THEN '' WHEN 'kept' THEN 'tokens' WHEN 'disabled' THEN 'state'
        ELSE 'contract_id' END,
    description = CASE x.refusal WHEN '' THEN ''
        WHEN 'twice' THEN 'the load names it before'
        WHEN 'provider' THEN 'its provider id is not of this EVSP'
        WHEN 'disabled' THEN 'it was disabled and is never in force again'
        ELSE 'a token that is given by its hash alone is not one of the contract' END,
    version_number = coalesce(x.version_number, 0) + 1
FROM (
    SELECT s.item_index, c.version_number, c.active AS was_active,
        c.digest = s.digest AND (s.secret_hash IS NULL OR s.secret_hash = c.secret_hash) AS same,
        CASE
            WHEN EXISTS (SELECT FROM clearinghouse.staged_contract b WHERE b.load_id = $1
                AND b.contract_key = s.contract_key AND b.item_index < s.item_index) THEN 'twice'
            WHEN p.evsp_id <> $4 THEN 'provider'
            WHEN s.active AND NOT c.active THEN 'disabled'
            WHEN EXISTS (SELECT FROM clearinghouse.staged_token k WHERE k.load_id = $1
                AND k.item_index = s.item_index AND k.kept AND NOT EXISTS (
                    SELECT FROM clearinghouse.token t WHERE t.contract_key = s.contract_key
                    AND t.token_hash = k.token_hash AND t.{_NOW})) THEN 'kept'
            ELSE '' END AS refusal
    FROM clearinghouse.staged_contract s
    LEFT JOIN clearinghouse.provider_id p ON p.provider_key = left(s.contract_key, 5)
    LEFT JOIN clearinghouse.customer_contract c
        ON c.contract_key = s.contract_key AND c.evsp_id = $4 AND c.{_NOW}
    WHERE {_BATCH} AND s.outcome = 0
) x
WHERE s.load_id = $1 AND s.item_index = x.item_index
"""  # noqa: S608  # our names
# A token of another contract of the EVSP that is not disabled.
_TOKENS_TAKEN = f"""
UPDATE clearinghouse.staged_contract s SET outcome = {_REFUSED}, field = 'tokens',
    description = 'a token is one of another contract'
WHERE {_BATCH} AND s.outcome IN (1, 2) AND EXISTS (
    SELECT FROM clearinghouse.staged_token k WHERE k.load_id = $1 AND k.item_index = s.item_index
    AND EXISTS (
        SELECT FROM clearinghouse.token t JOIN clearinghouse.customer_contract c
            ON c.contract_key = t.contract_key AND c.{_NOW} AND c.active
        LEFT JOIN clearinghouse.staged_contract o
            ON o.load_id = $1 AND o.contract_key = t.contract_key AND o.outcome = 4
                AND o.item_index BETWEEN $2 AND $3
        WHERE t.token_hash = k.token_hash AND t.evsp_id = $4 AND t.{_NOW}
            AND t.contract_key <> s.contract_key AND o.load_id IS NULL
    )
)
"""  # noqa: S608  # our names
# Which of those that name one token get it is decided one by one, in their order: who was refused
# keeps nobody else from it.
_CONTESTED = """
SELECT token_hash FROM clearinghouse.staged_token
WHERE load_id = $1 AND item_index BETWEEN $2 AND $3 GROUP BY token_hash HAVING count(*) > 1
"""
_CONTENDERS = f"""
SELECT s.item_index, s.outcome, array_agg(k.token_hash) AS hashes
FROM clearinghouse.staged_token k JOIN clearinghouse.staged_contract s USING (load_id, item_index)
WHERE {_BATCH} AND s.outcome IN (1, 2, 3) AND k.token_hash = ANY($4::bytea[])
GROUP BY s.item_index, s.outcome ORDER BY s.item_index
"""  # noqa: S608  # our names
_REFUSE_TOKENS = f"""
UPDATE clearinghouse.staged_contract SET outcome = {_REFUSED}, field = 'tokens',
    description = 'a token is one of another contract'
WHERE load_id = $1 AND item_index = ANY($2::bigint[])
"""  # noqa: S608  # our names
_CLOSE_CONTRACTS = f"""
UPDATE clearinghouse.customer_contract c SET replaced_at = $5
FROM clearinghouse.staged_contract s
WHERE {_BATCH} AND s.outcome IN (2, 4) AND c.contract_key = s.contract_key AND c.evsp_id = $4
    AND c.{_NOW}
"""  # noqa: S608  # our names
_OF_STAGED = ", ".join(
    f"CASE WHEN s.active THEN s.{name} ELSE o.{name} END"
    for name in _CONTRACT
    if name not in ("contract_key", "active", "limits", "secret_hash")
)
_OPEN_CONTRACTS = f"""
WITH counted AS (
    SELECT s.*, row_number() OVER (ORDER BY s.item_index) AS place
    FROM clearinghouse.staged_contract s WHERE {_BATCH} AND s.outcome IN (1, 2, 4)
), numbered AS (
    UPDATE clearinghouse.evsp SET last_sequence = last_sequence + (SELECT count(*) FROM counted)
    WHERE evsp_id = $4 RETURNING last_sequence - (SELECT count(*) FROM counted) AS before
)
INSERT INTO clearinghouse.customer_contract (evsp_id, contract_key, active, contract_id, policy,
    valid_from, valid_until, roaming_allowed, content, digest, limits, secret_hash,
    version_number, sequence, recorded_at)
SELECT $4, s.contract_key, s.active, {_OF_STAGED}, coalesce(s.limits, o.limits),
    coalesce(s.secret_hash, o.secret_hash), s.version_number, numbered.before + s.place, $5
FROM numbered, counted s LEFT JOIN clearinghouse.customer_contract o
    ON o.contract_key = s.contract_key AND o.version_number = s.version_number - 1
"""  # noqa: S608  # our names
_CLOSE_TOKENS = f"""
UPDATE clearinghouse.token t SET replaced_at = $4 FROM clearinghouse.staged_contract s
WHERE {_BATCH} AND s.outcome = 2 AND t.contract_key = s.contract_key AND t.{_NOW} AND NOT EXISTS (
    SELECT FROM clearinghouse.staged_token k WHERE k.load_id = $1 AND k.item_index = s.item_index
    AND (k.token_hash, k.kind, k.visual_number, k.status, k.expires_at)
        = (t.token_hash, t.kind, t.visual_number, t.status, t.expires_at))
"""  # noqa: S608  # our names
# A card of a disabled contract may be given to another customer.
_MOVE_TOKENS = f"""
UPDATE clearinghouse.token t SET replaced_at = $5
FROM clearinghouse.staged_contract s JOIN clearinghouse.staged_token k USING (load_id, item_index)
WHERE {_BATCH} AND s.outcome IN (1, 2) AND t.token_hash = k.token_hash AND t.evsp_id = $4
    AND t.contract_key <> s.contract_key AND t.{_NOW}
"""  # noqa: S608  # our names
_OPEN_TOKENS = f"""
INSERT INTO clearinghouse.token (evsp_id, contract_key, {_T}, recorded_at)
SELECT $4, s.contract_key, {", ".join(f"k.{name}" for name in _TOKEN)}, $5
FROM clearinghouse.staged_contract s JOIN clearinghouse.staged_token k USING (load_id, item_index)
WHERE {_BATCH} AND s.outcome IN (1, 2) AND NOT EXISTS (
    SELECT FROM clearinghouse.token t WHERE t.contract_key = s.contract_key
    AND t.token_hash = k.token_hash AND t.{_NOW})
ORDER BY s.item_index
"""  # noqa: S608  # our names
_CLOSE_UNNAMED = f"""
UPDATE clearinghouse.customer_contract c SET replaced_at = $3
WHERE c.evsp_id = $2 AND c.active AND c.{_NOW} AND NOT EXISTS (
    SELECT FROM clearinghouse.staged_contract s
    WHERE s.load_id = $1 AND s.contract_key = c.contract_key)
"""  # noqa: S608  # our names
_DISABLE_UNNAMED = f"""
WITH ended AS (
    SELECT c.*, row_number() OVER (ORDER BY contract_key) AS place
    FROM clearinghouse.customer_contract c WHERE evsp_id = $1 AND replaced_at = $2
), numbered AS (
    UPDATE clearinghouse.evsp SET last_sequence = last_sequence + (SELECT count(*) FROM ended)
    WHERE evsp_id = $1 RETURNING last_sequence - (SELECT count(*) FROM ended) AS before
)
INSERT INTO clearinghouse.customer_contract (evsp_id, {_C},
    version_number, sequence, recorded_at)
SELECT evsp_id, {_C.replace("active", "false")}, version_number + 1, before + place, $2
FROM ended, numbered
"""  # noqa: S608  # our names
_REPORTS = """
SELECT item_index, outcome, field, description, contract_key FROM clearinghouse.staged_contract
WHERE load_id = $1 AND item_index BETWEEN $2 AND $3 ORDER BY item_index
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Staged contracts, from the first to the last index."""

    load_id: UUID
    evsp_id: str
    first: int
    last: int


class ContractStaging:
    """Stages, checks and writes contracts inside a transaction that the caller owns."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def stage(self, batch: Batch, drafts: Sequence[ContractDraft | RefusedDraft]) -> None:
        """Put contracts where they are checked, in their order."""
        key = (batch.load_id,)
        contracts = [
            (*key, batch.first + place, *_contract_row(draft)) for place, draft in enumerate(drafts)
        ]
        tokens = [
            (*key, batch.first + place, *row)
            for place, draft in enumerate(drafts)
            for row in _token_rows(draft)
        ]
        await self._copy("staged_contract", _STAGED_CONTRACT, contracts)
        await self._copy("staged_token", _STAGED_TOKEN, tokens)

    async def hold(self, evsp_id: str) -> datetime:
        """Hold the EVSP's contracts until the commit; give the time of what is written now."""
        found: datetime = await self.connection.fetchval(_WRITE_POINT, evsp_id)
        return found

    async def apply(self, batch: Batch) -> None:
        """Decide what becomes of staged contracts, and write those that are new or changed."""
        span = (batch.load_id, batch.first, batch.last)
        await self._run(_BY_KEY)
        if batch.last - batch.first >= _ANALYZE_FROM:
            for table in ("staged_contract", "staged_token"):
                await self._run(f"ANALYZE clearinghouse.{table}")
        at = await self.hold(batch.evsp_id)
        await self._run(_CLAIM, *span, batch.evsp_id)
        await self._run(_CLASSIFY, *span, batch.evsp_id)
        await self._run(_TOKENS_TAKEN, *span, batch.evsp_id)
        await self._share_out(span)
        await self._run(_CLOSE_CONTRACTS, *span, batch.evsp_id, at)
        await self._run(_OPEN_CONTRACTS, *span, batch.evsp_id, at)
        await self._run(_CLOSE_TOKENS, *span, at)
        await self._run(_MOVE_TOKENS, *span, batch.evsp_id, at)
        await self._run(_OPEN_TOKENS, *span, batch.evsp_id, at)

    async def _share_out(self, span: tuple[UUID, int, int]) -> None:
        """Refuse contracts with a token that one before them in the load got."""
        rows = await self.connection.fetch(_CONTESTED, *span, timeout=BULK_TIMEOUT_S)
        if not rows:
            return
        given: set[bytes] = set()
        refused = []
        contested = [row["token_hash"] for row in rows]
        for row in await self.connection.fetch(
            _CONTENDERS, *span, contested, timeout=BULK_TIMEOUT_S
        ):
            if row["outcome"] != _UNCHANGED and not given.isdisjoint(row["hashes"]):
                refused.append(row["item_index"])
            else:
                given.update(row["hashes"])
        if refused:
            await self._run(_REFUSE_TOKENS, span[0], refused)

    async def disable_unnamed(self, load_id: UUID, evsp_id: str) -> int:
        """Disable what the load did not name; gives how many that were."""
        await self._run(_BY_KEY)
        at = await self.hold(evsp_id)
        await self._run(_CLOSE_UNNAMED, load_id, evsp_id, at)
        done = await self._run(_DISABLE_UNNAMED, evsp_id, at)
        return int(done.rpartition(" ")[2])

    async def reports(self, batch: Batch) -> list[asyncpg.Record]:
        """Give what became of staged contracts, in their order."""
        rows: list[asyncpg.Record] = await self.connection.fetch(
            _REPORTS, batch.load_id, batch.first, batch.last
        )
        return rows

    async def refused(self, load_id: UUID) -> bool:
        """Say whether any contract of a load was refused."""
        text = (
            "SELECT EXISTS (SELECT FROM clearinghouse.staged_contract"
            " WHERE load_id = $1 AND outcome = $2)"
        )
        found: bool = await self.connection.fetchval(text, load_id, _REFUSED)
        return found

    async def forget_tokens(self, load_id: UUID) -> None:
        """Take away the staged tokens of what was written."""
        await self._run("DELETE FROM clearinghouse.staged_token WHERE load_id = $1", load_id)

    async def forget(self, load_id: UUID) -> None:
        """Take away what was staged, and what loads left that broke off a day ago."""
        old = "load_id IN (SELECT load_id FROM clearinghouse.staged_contract"
        old += " WHERE staged_at < now() - interval '1 day')"
        for table in ("staged_token", "staged_contract"):
            text = f"DELETE FROM clearinghouse.{table} WHERE load_id = $1"  # noqa: S608  # ours
            await self._run(text, load_id)
        for table in ("staged_token", "staged_contract"):
            await self._run(f"DELETE FROM clearinghouse.{table} WHERE {old}")  # noqa: S608  # ours

    async def _run(self, text: str, *arguments: object) -> str:
        done: str = await self.connection.execute(text, *arguments, timeout=BULK_TIMEOUT_S)
        return done

    async def _copy(
        self, table: str, columns: Sequence[str], records: Iterable[Sequence[object]]
    ) -> None:
        await self.connection.copy_records_to_table(
            table,
            schema_name="clearinghouse",
            columns=columns,
            records=records,
            timeout=BULK_TIMEOUT_S,
        )


def _contract_row(draft: ContractDraft | RefusedDraft) -> tuple[object, ...]:
    if isinstance(draft, RefusedDraft):
        nothing = [None] * (len(_CONTRACT) - 1)
        key = draft.contract_key or None
        return (key, *nothing, _REFUSED, draft.field, draft.description)
    return (*(getattr(draft, name) for name in _CONTRACT), 0, "", "")


def _token_rows(draft: ContractDraft | RefusedDraft) -> list[tuple[object, ...]]:
    if isinstance(draft, RefusedDraft):
        return []
    return [
        (*(getattr(token, name) for name in _TOKEN), token.kept)
        for token in draft.tokens
        if draft.active
    ]
