"""Charge detail records and their steps in PostgreSQL: SQL and nothing else.

The caller owns the transaction. Every step writes the record's row and one of its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from clearinghouse.cdr_state import CdrKey, CdrStep, StoredCdr
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr_intake import stored_of

#: What a `CdrRow` is read from.
COLUMNS = (
    "cdr_ref, operator_partner_id, operator_key, cdr_key, session_id, state, digests, credited_key,"
    " authorization_reference, evse_key, started_at, ended_at, received_at, state_at,"
    " evsp_partner_id, contract_id, decline_text, content, assessment"
)


@dataclass(frozen=True, slots=True)
class CdrRow:
    """A record as it is stored."""

    cdr_ref: int
    operator_partner_id: str
    #: As its states need it.
    stored: StoredCdr
    authorization_reference: str | None
    evse_key: str | None
    started_at: datetime | None
    ended_at: datetime | None
    received_at: datetime
    state_at: datetime
    #: None until it was accepted, and where there is none.
    evsp_partner_id: str | None
    #: The customer's contract, as it became known from the authorization.
    contract_id: str | None
    decline_text: str
    #: A gem.roaming.v1.ChargeDetailRecord, with a hash in the place of the token's id.
    content: bytes
    #: A gem.roaming.v1.ClearedCdr with findings, oddities and rating alone.
    assessment: bytes


@dataclass(frozen=True, slots=True)
class StepTaken:
    """A step of a record, to be written down."""

    cdr_ref: int
    step: CdrStep
    after: StoredCdr
    #: Whose step it was; empty means the clearing house's.
    partner_id: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Booking:
    """What an approved record, or a credit, is worth; amounts in micros."""

    cdr_ref: int
    operator_partner_id: str
    evsp_partner_id: str
    without_tax_micros: int
    with_tax_micros: int
    currency_code: str


async def find(
    connection: Connection, partner_id: str, key: CdrKey, *, lock: bool = False
) -> CdrRow | None:
    """Give a record that the partner sent or is to pay; None where it has none such."""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM clearinghouse.cdr WHERE operator_key = $2"  # noqa: S608  # ours
        " AND cdr_key = $3 AND $1 IN (operator_partner_id, evsp_partner_id)"
        f" ORDER BY cdr_ref LIMIT 1 {'FOR UPDATE' if lock else ''}",
        partner_id,
        key.operator_key,
        key.cdr_id,
    )
    return None if row is None else row_of(row)


async def locked(connection: Connection, cdr_refs: Sequence[int]) -> dict[int, CdrRow]:
    """Give records by their number, and lock them in one order for all."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM clearinghouse.cdr WHERE cdr_ref = ANY($1::bigint[])"  # noqa: S608
        " ORDER BY cdr_ref FOR UPDATE",
        cdr_refs,
    )
    return {row["cdr_ref"]: row_of(row) for row in rows}


async def read_many(connection: Connection, cdr_refs: Sequence[int]) -> dict[int, CdrRow]:
    """Give records by their number."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM clearinghouse.cdr WHERE cdr_ref = ANY($1::bigint[])",  # noqa: S608
        cdr_refs,
    )
    return {row["cdr_ref"]: row_of(row) for row in rows}


async def originals(
    connection: Connection, credits_: Sequence[CdrRow]
) -> dict[tuple[str, CdrKey], CdrRow]:
    """Give the records that credits give back, locked, by partner and key."""
    wanted = [(each.operator_partner_id, each.stored.credited) for each in credits_]
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM clearinghouse.cdr"  # noqa: S608  # our columns
        " WHERE (operator_partner_id, operator_key, cdr_key) IN"
        " (SELECT * FROM unnest($1::text[], $2::text[], $3::text[])) ORDER BY cdr_ref FOR UPDATE",
        [partner_id for partner_id, key in wanted if key],
        [key.operator_key for _, key in wanted if key],
        [key.cdr_id for _, key in wanted if key],
    )
    found = map(row_of, rows)
    return {(each.operator_partner_id, each.stored.key): each for each in found}


async def unchecked(connection: Connection, limit: int) -> list[CdrRow]:
    """Give the oldest records that wait for their check, and lock them; another's are left out."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM clearinghouse.cdr WHERE state IN ('RECEIVED', 'REVISED')"  # noqa: S608
        " AND check_at <= now() ORDER BY cdr_ref LIMIT $1 FOR UPDATE SKIP LOCKED",
        limit,
    )
    return [row_of(row) for row in rows]


async def put_off(connection: Connection, cdr_refs: Sequence[int]) -> None:
    """Leave records whose check met a defect for later: a minute, then ever longer."""
    await connection.execute(
        "UPDATE clearinghouse.cdr SET check_failures = check_failures + 1,"
        " check_at = now() + make_interval(mins => least(1 << least(check_failures, 10), 720))"
        " WHERE cdr_ref = ANY($1::bigint[])",
        cdr_refs,
    )


async def write_steps(connection: Connection, steps: Sequence[StepTaken]) -> None:
    """Write steps that change the state alone, each in its record and its history.

    Of several steps of one record the last one's state stays.
    """
    if not steps:
        return
    last = {step.cdr_ref: step for step in steps}
    await connection.execute(
        "UPDATE clearinghouse.cdr SET state = t.state, state_at = now(),"
        " decline_text = CASE WHEN t.step = 'DECLINE' THEN t.event_text ELSE decline_text END"
        " FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])"
        " AS t (cdr_ref, state, step, event_text) WHERE cdr.cdr_ref = t.cdr_ref",
        list(last),
        [each.after.state.value for each in last.values()],
        [each.step.value for each in last.values()],
        [each.text for each in last.values()],
    )
    await write_events(connection, steps)


async def write_events(connection: Connection, steps: Sequence[StepTaken]) -> None:
    """Write the history of steps whose records were written otherwise."""
    await connection.execute(
        "INSERT INTO clearinghouse.cdr_event"
        " (cdr_ref, step, state, revision_number, partner_id, event_text)"
        " SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::integer[], $5::text[],"
        " $6::text[])",
        [each.cdr_ref for each in steps],
        [each.step.value for each in steps],
        [each.after.state.value for each in steps],
        [each.after.revision_number for each in steps],
        [each.partner_id for each in steps],
        [each.text for each in steps],
    )


async def book(connection: Connection, bookings: Sequence[Booking]) -> None:
    """Book approved records; a second booking of one is a defect and fails."""
    await connection.execute(
        "INSERT INTO clearinghouse.booking (cdr_ref, operator_id, evsp_id,"
        " amount_without_tax_micros, amount_with_tax_micros, currency_code)"
        " SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[],"
        " $6::text[])",
        [each.cdr_ref for each in bookings],
        [each.operator_partner_id for each in bookings],
        [each.evsp_partner_id for each in bookings],
        [each.without_tax_micros for each in bookings],
        [each.with_tax_micros for each in bookings],
        [each.currency_code for each in bookings],
    )


def row_of(row: asyncpg.Record) -> CdrRow:
    """Read a row of `COLUMNS`."""
    return CdrRow(
        row["cdr_ref"],
        row["operator_partner_id"],
        stored_of(row),
        row["authorization_reference"],
        row["evse_key"],
        row["started_at"],
        row["ended_at"],
        row["received_at"],
        row["state_at"],
        row["evsp_partner_id"],
        row["contract_id"],
        row["decline_text"],
        row["content"],
        row["assessment"],
    )
