"""Lists of charge detail records in PostgreSQL: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import COLUMNS, CdrRow, row_of
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

# Operators and EVSPs each have an index of their own; one query for both would use neither.
_PAGE = """
SELECT {columns} FROM clearinghouse.cdr WHERE {whose} = $1 AND cdr_ref < $2
    AND (state = ANY($3::text[]) OR cardinality($3::text[]) = 0)
    AND ($4::timestamptz IS NULL OR started_at >= $4)
    AND ($5::timestamptz IS NULL OR started_at < $5)
    AND ($6 = '' OR given_session_id = $6)
ORDER BY cdr_ref DESC LIMIT $7
"""
_WHOSE = ("operator_partner_id", "evsp_partner_id")

_CREDITS = """
SELECT t.cdr_ref, c.content
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
    AS t (cdr_ref, partner, operator_key, session_id, cdr_key)
JOIN clearinghouse.cdr AS c ON c.operator_partner_id = t.partner
    AND c.operator_key = t.operator_key AND c.session_id = t.session_id
    AND c.credited_key = t.cdr_key
"""


@dataclass(frozen=True, slots=True)
class CdrFilter:
    """Which records are asked for; empty and None are any."""

    states: Sequence[str] = ()
    started_from: datetime | None = None
    started_until: datetime | None = None
    #: As the clearing house named it.
    session_id: str = ""


async def page(
    connection: Connection, partner_id: str, wanted: CdrFilter, before: int, limit: int
) -> list[CdrRow]:
    """Give the latest records before one that a partner sent or is to pay."""
    found: dict[int, CdrRow] = {}
    for whose in _WHOSE:
        rows = await connection.fetch(
            _PAGE.format(columns=COLUMNS, whose=whose),
            partner_id,
            before,
            wanted.states,
            wanted.started_from,
            wanted.started_until,
            wanted.session_id,
            limit,
        )
        found |= {row["cdr_ref"]: row_of(row) for row in rows}
    return [found[ref] for ref in sorted(found, reverse=True)[:limit]]


async def credit_ids(connection: Connection, rows: Sequence[CdrRow]) -> dict[int, str]:
    """Give the ids of the credits of records, as their operators wrote them."""
    found = await connection.fetch(
        _CREDITS,
        [row.cdr_ref for row in rows],
        [row.operator_partner_id for row in rows],
        [row.stored.key.operator_key for row in rows],
        [row.stored.session_id for row in rows],
        [row.stored.key.cdr_id for row in rows],
    )
    return {ref: ChargeDetailRecord.FromString(content).cdr_id for ref, content in found}
