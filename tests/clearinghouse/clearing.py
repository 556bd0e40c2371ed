"""A clearing house over a real database, driven piece by piece, and records of known sessions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from clearinghouse.cdr_commands import credit_record, key_of, of_operator, review_record
from clearinghouse.cdr_delivery import CdrDelivery, DeliveryLimits
from clearinghouse.cdr_intake import CdrIntake, Receipt
from clearinghouse.cdr_pipeline import CdrChecker
from clearinghouse.cdr_state import CdrState
from clearinghouse.market_client import MarketAccess, MarketClient
from clearinghouse.storage import Pool, transaction
from clearinghouse.storage_cdr_context import StoredContexts
from clearinghouse.token_hash import TokenHashing
from foundation.identifiers import ContractId, EvseId
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.cdr_clearing_pb2 import CdrReview, CdrVerdict
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse_records import START, plausible
from tests.identities import Identity

HASHING = TokenHashing(b"a key of tests, thirty-two bytes")
OPERATOR, EVSP = "op", "evsp"
NOW = START + timedelta(days=1)
#: Quick to try again, as tests are.
LIMITS = DeliveryLimits(answer_s=2.0, first_wait_s=0.001, longest_wait_s=0.002, strikes_max=3)
AUTHORIZATION_COLUMNS = (
    *("authorization_reference", "operator_id", "request_id", "digest", "session_id"),
    *("operator_session_id", "evse_id", "evse_key", "operator_key", "identity_key", "kind"),
    *("method", "status", "layer", "contract_key", "contract_version", "evsp_id"),
    *("evsp_session_id", "payment_hash", "decision", "decided_at", "valid_until"),
)


def numbered(number: int, start: datetime = START) -> ChargeDetailRecord:
    """Give a plausible record of a session of its own, on an EVSE of its own."""
    made = plausible()
    made.cdr_id, made.operator_session_id = f"CDR-{number}", f"OP-{number}"
    made.session_id, made.authorization_reference = f"CH-{number}", f"AUTH-{number}"
    made.location.evse_id = f"DE*ABC*E{number}"
    if start != START:
        for stamp in (
            *(made.start_time, made.end_time, made.charging_start_time, made.charging_end_time),
            *(period.start_time for period in made.charging_periods),
        ):
            stamp.FromDatetime(stamp.ToDatetime() + (start - START))
    return made


def authorization_row(
    record: ChargeDetailRecord, evsp_id: str = EVSP, operator_id: str = OPERATOR, **changes: Any
) -> tuple[Any, ...]:
    """Give the authorization of a record's session, as the EVSP gave it."""
    evse, start = EvseId.parse(record.location.evse_id), record.start_time.ToDatetime(START.tzinfo)
    contract = ContractId.parse(record.identification.contract_id or "NL-TNM-C00122045-K")
    allowed = AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
    decision = AuthorizationDecision(contract_id=str(contract), status=allowed)
    values = {
        "authorization_reference": record.authorization_reference,
        "operator_id": operator_id,
        "request_id": record.authorization_reference,
        "digest": b"",
        "session_id": record.session_id or None,
        "operator_session_id": record.operator_session_id,
        "evse_id": record.location.evse_id,
        "evse_key": evse.key,
        "operator_key": evse.operator_id,
        "identity_key": contract.key,
        "kind": 1,
        "method": 1,
        "status": allowed,
        "layer": DecidingLayer.DECIDING_LAYER_EVSP,
        "contract_key": contract.key,
        "contract_version": None,
        "evsp_id": evsp_id,
        "evsp_session_id": "",
        "payment_hash": None,
        "decision": decision.SerializeToString(),
        "decided_at": start - timedelta(minutes=1),
        "valid_until": start + timedelta(minutes=5),
        **changes,
    }
    return tuple(values[name] for name in AUTHORIZATION_COLUMNS)


class Clearing:
    """The clearing house's work, one piece at a time."""

    def __init__(self, pool: Pool, market: MarketClient, limits: DeliveryLimits = LIMITS) -> None:
        self.pool = pool
        self.now = NOW
        self.intake = CdrIntake(pool, HASHING)
        self.checker = CdrChecker(pool, StoredContexts(HASHING), lambda: self.now)
        self.delivery = CdrDelivery(pool, market, lambda: self.now, limits)

    async def authorize(self, *records: ChargeDetailRecord, **changes: Any) -> None:
        """Let the sessions of records have been authorized."""
        await self.pool.copy_records_to_table(
            "authorization",
            schema_name="clearinghouse",
            columns=AUTHORIZATION_COLUMNS,
            records=[authorization_row(record, **changes) for record in records],
        )

    async def submit(self, *records: ChargeDetailRecord, sender: str = OPERATOR) -> list[Receipt]:
        """Submit records as their operator."""
        return await self.intake.submit(sender, records)

    async def check(self) -> int:
        """Check until nothing waits."""
        return await _all(self.checker.check_batch)

    async def deliver(self, rounds: int = 100) -> int:
        """Deliver until nothing is due, whatever time is still to be waited."""
        done = 0
        for _ in range(rounds):
            await self.pool.execute("UPDATE clearinghouse.receiver SET next_at = now()")
            await self.pool.execute(
                "UPDATE clearinghouse.delivery SET next_at = now() WHERE state = 'WAITING'"
            )
            batch = await self.delivery.deliver_batch()
            done += batch
            if not batch:
                break
        return done

    async def clear(self) -> None:
        """Check and deliver everything."""
        await self.check()
        await self.deliver()

    async def states(self) -> dict[str, str]:
        """Give the states of all records by their ids in lower case."""
        rows = await self.pool.fetch("SELECT cdr_key, state FROM clearinghouse.cdr")
        return {row["cdr_key"]: row["state"] for row in rows}

    async def reasons(self) -> dict[str, set[int]]:
        """Give the reasons for which records were returned."""
        rows = await self.pool.fetch(
            "SELECT cdr_key, reason FROM clearinghouse.cdr JOIN clearinghouse.cdr_reason"
            " USING (cdr_ref)"
        )
        found: dict[str, set[int]] = {}
        for row in rows:
            found.setdefault(row["cdr_key"], set()).add(row["reason"])
        return found

    async def bookings(self) -> dict[str, int]:
        """Give what was booked with tax, by record."""
        rows = await self.pool.fetch(
            "SELECT cdr_id, amount_with_tax_micros FROM clearinghouse.booking"
        )
        return {row["cdr_id"].lower(): row["amount_with_tax_micros"] for row in rows}

    async def review(self, cdr_id: str, verdict: str, revision: int = 0) -> CdrState:
        """Say something about a record as its EVSP."""
        said = CdrReview(
            cdr_id=cdr_id,
            operator_id="DE*ABC",
            revision_number=revision,
            verdict=CdrVerdict.Value(f"CDR_VERDICT_{verdict}"),
        )
        async with transaction(self.pool) as connection:
            return await review_record(connection, EVSP, said, self.now)

    async def credit(self, cdr_id: str, credit_cdr_id: str) -> None:
        """Credit a record as its operator."""
        async with transaction(self.pool) as connection:
            row = await of_operator(connection, OPERATOR, key_of("DE*ABC", cdr_id))
            await credit_record(connection, HASHING, OPERATOR, row, credit_cdr_id, "")


async def _all(work: Any) -> int:
    done = 0
    while batch := await work():
        done += batch
    return done


def market_client(port: int, identity: Identity, folder: Path) -> MarketClient:
    """Give the clearing house's way to a market on this machine."""
    files = {"key": identity.key_pem, "certificate": identity.chain_pem, "ca": identity.root_pem}
    for name, pem in files.items():
        (folder / f"{name}.pem").write_bytes(pem)
    key, certificate, roots = (folder / f"{name}.pem" for name in files)
    return MarketClient(MarketAccess(f"127.0.0.1:{port}", key, certificate, roots))


async def accounts(
    pool: Pool, acknowledged: Iterable[str], *, revisions: bool = False
) -> dict[str, int]:
    """Hold the accounting identity: each acknowledged record once, with one effect.

    Gives how many records ended in which state; only with revisions one is delivered twice.
    """
    rows = await pool.fetch(
        "SELECT c.cdr_key, c.state, b.cdr_ref IS NOT NULL AS booked,"
        " (SELECT count(*) FROM clearinghouse.delivery AS d WHERE d.cdr_ref = c.cdr_ref)"
        "  AS deliveries,"
        " (SELECT count(*) FROM clearinghouse.cdr_event AS e WHERE e.cdr_ref = c.cdr_ref"
        "  AND e.step = 'APPROVE') AS approvals"
        " FROM clearinghouse.cdr AS c LEFT JOIN clearinghouse.booking AS b USING (cdr_ref)"
    )
    found = [row["cdr_key"] for row in rows]
    assert len(found) == len(set(found)), "a record is stored once"
    lost = {each.lower() for each in acknowledged} - set(found)
    assert not lost, f"{len(lost)} acknowledged records are gone"
    counts: dict[str, int] = {}
    for row in rows:
        settled = row["state"] in {"APPROVED", "CREDITED"}
        assert row["booked"] is settled, row
        assert row["approvals"] == (1 if settled else 0), row
        assert revisions or row["deliveries"] <= 1, row
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return counts


async def total(connection: asyncpg.Connection | Pool, table: str) -> int:
    """Count the rows of a table of the clearing house."""
    count: int = await connection.fetchval(f"SELECT count(*) FROM clearinghouse.{table}")
    return count
