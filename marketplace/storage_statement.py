"""Adding up a contract's entries, in PostgreSQL."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.statement import Statement, StatementLine
from marketplace.storage_transaction_filter import ENTRY, Period

_PERCENTILES = (0.5, 0.95, 0.99)


async def statement_of(connection: AsyncConnection, contract_id: str, period: Period) -> Statement:
    """Add up the entries of a contract that started within a period.

    The transaction sees one snapshot, so that lines and percentiles are of the same entries. Raises
    ValueError where a sum is beyond what an amount of money can be.
    """
    columns = ENTRY.c
    meant = (columns.contract_id == contract_id, period.of(columns.started_at))
    key = (columns.status, columns.currency_code)
    sums = select(*key, func.count().label("count"), func.sum(columns.value_micros).label("value"))
    found = await connection.execute(sums.where(*meant).group_by(*key).order_by(*key))
    lines = [StatementLine(row.status, row.currency_code, row[2], int(row.value)) for row in found]
    # percentile_disc gives a value that occurs: the nearest rank, exact.
    ranks = [func.percentile_disc(p).within_group(columns.duration_us) for p in _PERCENTILES]
    is_ok = columns.status == AnswerStatus.ANSWER_STATUS_OK
    times = (await connection.execute(select(*ranks).where(*meant, is_ok))).one()
    return Statement(lines, None if times[0] is None else (times[0], times[1], times[2]))
