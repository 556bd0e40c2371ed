"""Adding up a contract's entries, in PostgreSQL."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.marketplace.v1.contract_pb2 import PriceModel
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.price_days import days_by_price
from marketplace.statement import Statement, StatementLine
from marketplace.statement_charges import Charge, PricedEntries, charges_of
from marketplace.storage_price import PriceStorage
from marketplace.storage_transaction_filter import ENTRY, Period

_PERCENTILES = (0.5, 0.95, 0.99)


async def charges_for(
    connection: AsyncConnection, contract_id: str, period: Period, now: datetime
) -> tuple[list[Charge], dict[int, PriceModel]]:
    """Give what a contract's month costs, and the models of the prices that were in force.

    Raises ValueError where a count is beyond what the catalogue can say.
    """
    assert period.start is not None
    assert period.end is not None
    columns, prices = ENTRY.c, PriceStorage(connection)
    key = (columns.price_id, columns.currency_code)
    is_ok = columns.status == AnswerStatus.ANSWER_STATUS_OK
    sums = (func.count().filter(is_ok), func.sum(columns.units), func.sum(columns.value_micros))
    meant = (columns.contract_id == contract_id, period.of(columns.started_at))
    found = (await connection.execute(select(*key, *sums).where(*meant).group_by(*key))).all()
    entries = [
        PricedEntries(row[0], row[1], row[2], None if row[3] is None else int(row[3]), int(row[4]))
        for row in found
    ]
    of_services = await prices.prices_of(contract_id)
    days: Counter[int] = Counter()
    if of_services:
        intervals = await prices.in_force(contract_id)
        begun = min(period.end, now.astimezone(UTC) + timedelta(days=1))
        for since in of_services:
            days.update(days_by_price(intervals, since, period.start, begun))
    ids = {each.price_id for each in entries if each.price_id is not None} | days.keys()
    models = await prices.models(ids) if ids else {}
    length = (period.end - period.start).days
    return charges_of(entries, models, days, length), models


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
