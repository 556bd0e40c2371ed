"""Clearing runs, statements and net positions in PostgreSQL: SQL and nothing else.

A viewer is a partner id; None is the clearing house, which sees everything. What a viewer has no
part in does not exist for him.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from clearinghouse.netting import Debt, Position
from clearinghouse.storage import Connection, Pool

#: A run of millions of bookings takes a while; who runs it waits.
BULK_TIMEOUT_S = 600.0
#: Positions that one answer holds; the interface's limit.
MOST_POSITIONS = 10_000
#: Runs wait for each other at most so long.
_LOCK_TIMEOUT = "30s"
_LOCK_KEY = 0x67656D_636C72
_RUN = (
    "r.run_ref, r.run_id, r.period_start, r.period_end, r.netting, r.closed_at,"
    " CASE WHEN {viewer}::text IS NULL THEN r.cdr_count ELSE coalesce((SELECT sum(s.line_count)"
    " FROM clearinghouse.settlement_statement s WHERE s.run_ref = r.run_ref"
    " AND {viewer} IN (s.evsp_id, s.operator_id)), 0)::bigint END AS cdr_count"
)
_SEES_RUN = (
    "({viewer}::text IS NULL OR EXISTS (SELECT FROM clearinghouse.settlement_statement s"
    " WHERE s.run_ref = r.run_ref AND {viewer} IN (s.evsp_id, s.operator_id)))"
)
_STATEMENT = (
    "s.statement_ref, s.statement_id, s.run_ref, r.run_id, r.period_start, r.period_end,"
    " r.closed_at, s.evsp_id, s.operator_id, s.currency_code, s.without_tax_micros,"
    " s.with_tax_micros, s.line_count FROM clearinghouse.settlement_statement s"
    " JOIN clearinghouse.clearing_run r USING (run_ref)"
)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be written."""

    run_id: str
    requester_id: str
    request_id: str
    digest: bytes
    period_start: datetime
    period_end: datetime
    netting: int
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class RunRow:
    """A closed run."""

    run_ref: int
    run_id: str
    period_start: datetime
    period_end: datetime
    netting: int
    closed_at: datetime
    #: Of the records in which the viewer has part.
    cdr_count: int


@dataclass(frozen=True, slots=True)
class StatementRow:
    """What one EVSP owes one operator for one run in one currency."""

    statement_ref: int
    statement_id: str
    run_ref: int
    run_id: str
    period_start: datetime
    period_end: datetime
    closed_at: datetime
    evsp_id: str
    operator_id: str
    currency_code: str
    without_tax_micros: int
    with_tax_micros: int
    line_count: int


@dataclass(frozen=True, slots=True)
class LineRow:
    """One record in a statement."""

    record_operator_id: str
    cdr_id: str
    started_at: datetime
    energy_milli_wh: int
    amount_without_tax_micros: int
    amount_with_tax_micros: int
    credited_cdr_id: str


async def wait_for_turn(connection: Connection) -> None:
    """Wait until no other transaction makes a run; raises LockNotAvailableError after 30 s."""
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_KEY, timeout=BULK_TIMEOUT_S)


async def run_of_request(
    connection: Connection, requester_id: str, request_id: str
) -> tuple[RunRow, bytes] | None:
    """Give the run that a command made, with the command's digest."""
    row = await connection.fetchrow(
        f"SELECT {_RUN.format(viewer='NULL')}, r.digest"  # noqa: S608  # our names
        " FROM clearinghouse.clearing_run r WHERE requester_id = $1 AND request_id = $2",
        requester_id,
        request_id,
    )
    return None if row is None else (_run(row), row["digest"])


async def open_run(connection: Connection, new: NewRun) -> RunRow:
    """Write a run and let it take every booking that ended before it and that no run took."""
    run_ref: int = await connection.fetchval(
        "INSERT INTO clearinghouse.clearing_run (run_id, requester_id, request_id, digest,"
        " period_start, period_end, netting, closed_at, cdr_count)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) RETURNING run_ref",
        *(new.run_id, new.requester_id, new.request_id, new.digest),
        *(new.period_start, new.period_end, new.netting, new.closed_at),
    )
    status: str = await connection.execute(
        "UPDATE clearinghouse.booking SET run_ref = $1 WHERE run_ref IS NULL AND ended_at < $2",
        run_ref,
        new.period_end,
        timeout=BULK_TIMEOUT_S,
    )
    count = int(status.rpartition(" ")[2])
    await connection.execute(
        "UPDATE clearinghouse.clearing_run SET cdr_count = $2 WHERE run_ref = $1", run_ref, count
    )
    ends = new.period_start, new.period_end
    return RunRow(run_ref, new.run_id, *ends, new.netting, new.closed_at, count)


async def make_statements(connection: Connection, run_ref: int) -> None:
    """Add the run's bookings up by EVSP, operator and currency."""
    await connection.execute(
        "INSERT INTO clearinghouse.settlement_statement (statement_id, run_ref, evsp_id,"
        " operator_id, currency_code, without_tax_micros, with_tax_micros, line_count)"
        " SELECT gen_random_uuid()::text, $1, evsp_id, operator_id, currency_code,"
        " sum(amount_without_tax_micros)::bigint, sum(amount_with_tax_micros)::bigint, count(*)"
        " FROM clearinghouse.booking WHERE run_ref = $1"
        " GROUP BY evsp_id, operator_id, currency_code"
        " ORDER BY evsp_id, operator_id, currency_code",
        run_ref,
        timeout=BULK_TIMEOUT_S,
    )


async def debts(connection: Connection, run_ref: int) -> list[Debt]:
    """Give what the statements of a run say who owes whom."""
    rows = await connection.fetch(
        "SELECT evsp_id, operator_id, currency_code, with_tax_micros"
        " FROM clearinghouse.settlement_statement WHERE run_ref = $1",
        run_ref,
    )
    return [Debt(*row) for row in rows]


async def ledger_of_run(connection: Connection, run_ref: int) -> dict[tuple[str, str], int]:
    """Give by partner and currency what the ledger leaves him of the bookings of a run."""
    rows = await connection.fetch(
        "SELECT partner_id, p.currency_code, -sum(amount_micros)"
        " FROM clearinghouse.ledger_posting p JOIN clearinghouse.booking b USING (cdr_ref)"
        " WHERE b.run_ref = $1 GROUP BY partner_id, p.currency_code",
        run_ref,
        timeout=BULK_TIMEOUT_S,
    )
    return {(row[0], row[1]): int(row[2]) for row in rows}


async def write_positions(
    connection: Connection, run_ref: int, positions: Sequence[Position]
) -> None:
    """Write what netting leaves."""
    columns = [
        [getattr(position, name) for position in positions]
        for name in ("partner_id", "counterpart_id", "currency_code", "net_micros")
    ]
    await connection.execute(
        "INSERT INTO clearinghouse.net_position"
        " SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[])",
        run_ref,
        *columns,
        timeout=BULK_TIMEOUT_S,
    )


class SettlementStorage:
    """Reads settlements through a pool; what is closed never changes."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def run(self, run_id: str, viewer: str | None) -> RunRow | None:
        """Give a run."""
        row = await self.pool.fetchrow(
            f"SELECT {_RUN.format(viewer='$2')} FROM clearinghouse.clearing_run r"  # noqa: S608  # our names
            f" WHERE run_id = $1 AND {_SEES_RUN.format(viewer='$2')}",
            run_id,
            viewer,
        )
        return None if row is None else _run(row)

    async def runs(self, viewer: str | None, before: int, limit: int) -> list[RunRow]:
        """Give runs, the latest first."""
        rows = await self.pool.fetch(
            f"SELECT {_RUN.format(viewer='$1')} FROM clearinghouse.clearing_run r"  # noqa: S608  # our names
            f" WHERE {_SEES_RUN.format(viewer='$1')} AND run_ref < $2"
            " ORDER BY run_ref DESC LIMIT $3",
            *(viewer, before, limit),
        )
        return [_run(row) for row in rows]

    async def statements(
        self, viewer: str | None, run_id: str, after: int, limit: int
    ) -> list[StatementRow]:
        """Give statements in the order in which they were made; an empty run id means any."""
        rows = await self.pool.fetch(
            f"SELECT {_STATEMENT} WHERE ($1::text IS NULL OR $1 IN (s.evsp_id, s.operator_id))"
            " AND ($2 = '' OR r.run_id = $2) AND s.statement_ref > $3"
            " ORDER BY s.statement_ref LIMIT $4",
            *(viewer, run_id, after, limit),
        )
        return [StatementRow(*row) for row in rows]

    async def statement(self, statement_id: str, viewer: str | None) -> StatementRow | None:
        """Give a statement."""
        row = await self.pool.fetchrow(
            f"SELECT {_STATEMENT} WHERE s.statement_id = $1"
            " AND ($2::text IS NULL OR $2 IN (s.evsp_id, s.operator_id))",
            statement_id,
            viewer,
        )
        return None if row is None else StatementRow(*row)

    async def lines(
        self, statement: StatementRow, after: tuple[str, str], limit: int
    ) -> list[LineRow]:
        """Give lines by operator id and id of the record, behind such a key."""
        rows = await self.pool.fetch(
            "SELECT record_operator_id, cdr_id, started_at, energy_milli_wh,"
            " amount_without_tax_micros, amount_with_tax_micros, credited_cdr_id"
            " FROM clearinghouse.booking WHERE run_ref = $1 AND evsp_id = $2 AND operator_id = $3"
            " AND currency_code = $4 AND (record_operator_id, cdr_id) > ($5, $6)"
            " ORDER BY record_operator_id, cdr_id LIMIT $7",
            *(statement.run_ref, statement.evsp_id, statement.operator_id),
            *(statement.currency_code, *after, limit),
        )
        return [LineRow(*row) for row in rows]

    async def positions(self, run_ref: int, viewer: str | None, limit: int) -> list[Position]:
        """Give net positions by partner, currency and other side."""
        rows = await self.pool.fetch(
            "SELECT partner_id, counterpart_id, currency_code, net_micros"
            " FROM clearinghouse.net_position"
            " WHERE run_ref = $1 AND ($2::text IS NULL OR partner_id = $2)"
            " ORDER BY partner_id, currency_code, counterpart_id LIMIT $3",
            *(run_ref, viewer, limit),
        )
        return [Position(*row) for row in rows]


def _run(row: asyncpg.Record) -> RunRow:
    return RunRow(*(row[name] for name in RunRow.__slots__))
