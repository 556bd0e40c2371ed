"""Storing charge detail records, and what is answered about each: never before it is durable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from clearinghouse.cdr_content import IncomingCdr, read_incoming, refusals
from clearinghouse.cdr_state import CdrKey, CdrState, Submission, submitted
from clearinghouse.plausibility_context import Finding
from clearinghouse.storage import Pool, transaction
from clearinghouse.storage_cdr_context import claimed
from clearinghouse.storage_cdr_intake import KnownCdr, insert_new, related
from clearinghouse.token_hash import TokenHashing
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason, SubmissionStatus
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

#: Transactions that stood in each other's way; the one that is told so tries again.
CONTENTION = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
#: Records that others change at this very moment are looked at again, so often at most.
_ROUNDS_MAX = 8


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one record that was sent."""

    cdr_id: str
    #: None is: it cannot be stored, see the findings.
    submission: Submission | None
    #: Of the record with this id; None where none is stored.
    state: CdrState | None = None
    received_at: datetime | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def status(self) -> SubmissionStatus.ValueType:
        """The status as the interface has it."""
        if self.submission is None:
            return SubmissionStatus.SUBMISSION_STATUS_REFUSED
        return SubmissionStatus.Value(f"SUBMISSION_STATUS_{self.submission}")


class CdrIntake:
    """Takes records of operators."""

    def __init__(
        self, pool: Pool, hashing: TokenHashing, on_stored: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._hashing = hashing
        self._on_stored = on_stored

    async def submit(self, partner_id: str, records: Sequence[ChargeDetailRecord]) -> list[Receipt]:
        """Store records of a partner in one transaction; give a receipt for each, in their order.

        Raises:
            MarketError: CONFLICT where others keep changing the same records at this moment.
        """
        receipts: dict[int, Receipt] = {}
        open_: dict[int, IncomingCdr] = {}
        for number, record in enumerate(records):
            found = tuple(refusals(record))
            if found:
                receipts[number] = Receipt(record.cdr_id, None, findings=found)
            else:
                open_[number] = read_incoming(record, self._hashing)
        for _ in range(_ROUNDS_MAX):
            if not open_:
                break
            try:
                decided = await self._round(partner_id, open_)
            except CONTENTION:
                continue
            receipts |= decided
            open_ = {number: each for number, each in open_.items() if number not in decided}
        else:
            raise MarketError(
                ErrorReason.ERROR_REASON_CONFLICT, "The same records are being changed right now."
            )
        return [receipts[number] for number in range(len(records))]

    async def _round(self, partner_id: str, open_: dict[int, IncomingCdr]) -> dict[int, Receipt]:
        """Store what can be and decide about the rest; what is still open is not in the result."""
        first: dict[CdrKey, int] = {}
        for number, each in open_.items():
            first.setdefault(each.key, number)
        async with transaction(self._pool) as connection:
            owners = await claimed(connection, [each.key.operator_key for each in open_.values()])
            refused = _of_others(partner_id, open_, owners)
            news = [open_[number] for number in first.values() if number not in refused]
            stored = await insert_new(connection, partner_id, news)
            rest = {
                number: each
                for number, each in open_.items()
                if number not in refused and (each.key not in stored or first[each.key] != number)
            }
            known = await related(connection, partner_id, list(rest.values())) if rest else []
        if stored:
            self._on_stored()
        decided = {
            number: Receipt(each.cdr_id, Submission.STORED, CdrState.RECEIVED, stored[each.key])
            for number, each in open_.items()
            if number not in rest and number not in refused
        }
        return decided | refused | _decide(rest, known)


def _of_others(
    partner_id: str, open_: dict[int, IncomingCdr], owners: Mapping[str, str]
) -> dict[int, Receipt]:
    """Refuse records whose operator id is known to be another partner's."""
    reason = PlausibilityReason.PLAUSIBILITY_REASON_EVSE_OPERATOR
    finding = Finding(reason, "operator_id", "not an operator id of who sent the record")
    return {
        number: Receipt(each.cdr_id, None, findings=(finding,))
        for number, each in open_.items()
        if owners.get(each.key.operator_key, partner_id) != partner_id
    }


def _decide(rest: dict[int, IncomingCdr], known: Iterable[KnownCdr]) -> dict[int, Receipt]:
    """Say why records were not stored; one that could be by now is left out."""
    by_key = {each.stored.key: each for each in known}
    of_session = defaultdict(list)
    for each in by_key.values():
        of_session[each.stored.key.operator_key, each.stored.session_id].append(each.stored)
    decided = {}
    for number, incoming in rest.items():
        same = by_key.get(incoming.key)
        session = incoming.key.operator_key, incoming.stored.session_id
        found = submitted(incoming.stored, same.stored if same else None, of_session[session])
        if found is not Submission.STORED:
            state, since = (same.stored.state, same.received_at) if same else (None, None)
            decided[number] = Receipt(incoming.cdr_id, found, state, since)
    return decided
