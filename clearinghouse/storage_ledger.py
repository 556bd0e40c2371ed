"""Bookings and the ledger's postings in PostgreSQL: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from clearinghouse.ledger import Account, AccountKey, Booking, postings
from clearinghouse.storage import Connection

#: Bookings in one statement, so that its arguments stay small.
MOST_BOOKINGS = 1000
_COLUMNS = (
    *("cdr_ref", "operator_id", "evsp_id", "amount_without_tax_micros"),
    *("amount_with_tax_micros", "currency_code", "booked_at", "started_at", "ended_at"),
    *("record_operator_id", "cdr_id", "energy_milli_wh", "credit_of", "credited_cdr_id"),
)
_TYPES = (
    *("bigint", "text", "text", "bigint", "bigint", "text", "timestamptz", "timestamptz"),
    *("timestamptz", "text", "text", "bigint", "bigint", "text"),
)
_ARRAYS = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_TYPES, 1))
# A record that is booked already stays as it is: the repetition of an approval books nothing.
_BOOK = (
    f"INSERT INTO clearinghouse.booking ({', '.join(_COLUMNS)})"  # noqa: S608  # our names
    f" SELECT * FROM unnest({_ARRAYS}) ON CONFLICT (cdr_ref) DO NOTHING RETURNING cdr_ref"
)
_POST = (
    "INSERT INTO clearinghouse.ledger_posting"
    " (cdr_ref, partner_id, account, currency_code, amount_micros) SELECT * FROM"
    " unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[])"
)


async def book(connection: Connection, bookings: Sequence[Booking]) -> int:
    """Book approved records and credits with their postings; gives how many were not booked yet.

    It belongs into the transaction that approves them: either both happen or neither. A credit is
    booked after what it takes back.

    Raises:
        ValueError: a credit is not the exact opposite of a booking, or a second one of it; or the
            operator booked another record of this id. The transaction is then of no use.
    """
    assert len(bookings) <= MOST_BOOKINGS, "the caller cuts"
    arrays = [[getattr(each, name) for each in bookings] for name in _COLUMNS]
    try:
        new = {row[0] for row in await connection.fetch(_BOOK, *arrays)}
    except (asyncpg.ForeignKeyViolationError, asyncpg.UniqueViolationError):
        raise ValueError("the booking contradicts another") from None
    lines = [
        (each.cdr_ref, line.partner_id, line.account.value, line.currency_code, line.amount_micros)
        for each in bookings
        if each.cdr_ref in new
        for line in postings(each)
    ]
    await connection.execute(_POST, *([line[i] for line in lines] for i in range(5)))
    return len(new)


async def ledger_balances(
    connection: Connection, partner_id: str | None = None
) -> Mapping[AccountKey, int]:
    """Give the balance of every account, or of every account of one partner."""
    rows = await connection.fetch(
        "SELECT partner_id, account, currency_code, sum(amount_micros) AS balance"
        " FROM clearinghouse.ledger_posting WHERE $1::text IS NULL OR partner_id = $1"
        " GROUP BY partner_id, account, currency_code LIMIT 100000",
        partner_id,
    )
    return {
        (row["partner_id"], Account(row["account"]), row["currency_code"]): int(row["balance"])
        for row in rows
    }
