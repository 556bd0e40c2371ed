"""What checking charge detail records writes, many at once, in PostgreSQL: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clearinghouse.plausibility_context import Finding
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import CdrRow, StepTaken, write_events


@dataclass(frozen=True, slots=True)
class CheckedCdr:
    """A record after its check."""

    row: CdrRow
    step: StepTaken
    findings: tuple[Finding, ...]
    #: As `CdrRow.assessment`.
    assessment: bytes
    #: Both None unless it was accepted; without an EVSP it is not forwarded.
    evsp_partner_id: str | None = None
    contract_id: str | None = None


def lane_of(row: CdrRow) -> str:
    """Name the session of a record: what belongs to one is delivered in order."""
    return f"{row.operator_partner_id} {row.stored.key.operator_key} {row.stored.session_id}"


async def lock_evses(connection: Connection, evse_keys: Sequence[str]) -> None:
    """Let nobody else check records of these EVSEs until the transaction ends.

    Of two overlapping sessions that are checked at once, neither would see the other.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT hashtextextended(evse_key, 1511)"
        " AS key FROM unnest($1::text[]) AS evse_key ORDER BY key) AS keys",
        evse_keys,
    )


async def write_checked(connection: Connection, checked: Sequence[CheckedCdr]) -> None:
    """Write states, findings, and what is to be delivered."""
    await connection.execute(
        "UPDATE clearinghouse.cdr SET state = t.state, state_at = now(),"
        " evsp_partner_id = t.evsp, contract_id = t.contract, assessment = t.assessment"
        " FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[])"
        " AS t (cdr_ref, state, evsp, contract, assessment) WHERE cdr.cdr_ref = t.cdr_ref",
        [each.row.cdr_ref for each in checked],
        [each.step.after.state.value for each in checked],
        [each.evsp_partner_id for each in checked],
        [each.contract_id for each in checked],
        [each.assessment for each in checked],
    )
    await write_events(connection, [each.step for each in checked])
    await write_reasons(connection, checked)
    await write_deliveries(connection, [each for each in checked if each.evsp_partner_id])


async def write_reasons(connection: Connection, checked: Sequence[CheckedCdr]) -> None:
    """Write every reason for which records are returned."""
    rows = [
        (each.row.cdr_ref, each.step.after.revision_number, ordinal, finding.reason, finding.field)
        for each in checked
        for ordinal, finding in enumerate(each.findings)
    ]
    if rows:
        await connection.execute(
            "INSERT INTO clearinghouse.cdr_reason"
            " (cdr_ref, revision_number, ordinal, reason, field)"
            " SELECT * FROM unnest($1::bigint[], $2::integer[], $3::integer[], $4::smallint[],"
            " $5::text[]) ON CONFLICT DO NOTHING",
            *map(list, zip(*rows, strict=True)),
        )


async def write_deliveries(connection: Connection, accepted: Sequence[CheckedCdr]) -> None:
    """Put accepted records into the outbox, the oldest first."""
    in_order = sorted(accepted, key=lambda each: each.row.cdr_ref)
    if not in_order:
        return
    await connection.execute(
        "INSERT INTO clearinghouse.receiver (evsp_partner_id)"
        " SELECT DISTINCT evsp FROM unnest($1::text[]) AS evsp ORDER BY evsp"
        " ON CONFLICT DO NOTHING",
        [each.evsp_partner_id for each in in_order],
    )
    await connection.execute(
        "INSERT INTO clearinghouse.delivery (cdr_ref, revision_number, evsp_partner_id, lane)"
        " SELECT cdr_ref, revision, evsp, lane"
        " FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[]) WITH ORDINALITY"
        " AS t (cdr_ref, revision, evsp, lane, ordinal) ORDER BY ordinal",
        [each.row.cdr_ref for each in in_order],
        [each.step.after.revision_number for each in in_order],
        [each.evsp_partner_id for each in in_order],
        [lane_of(each.row) for each in in_order],
    )
