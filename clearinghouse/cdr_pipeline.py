"""Checking and rating the records that came in, by any number of processes at once.

A batch is one transaction: a process that dies in the middle leaves every record as it was.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import asyncpg
import structlog

from clearinghouse.cdr_context import ContextSource, SessionKnowledge, UncheckedCdr
from clearinghouse.cdr_state import CdrKey, CdrState, CdrStep, take_step
from clearinghouse.plausibility import Assessment, check_record
from clearinghouse.plausibility_context import OtherSession
from clearinghouse.storage import Connection, Pool, transaction
from clearinghouse.storage_cdr import CdrRow, StepTaken, originals, put_off, unchecked, write_steps
from clearinghouse.storage_cdr_check import CheckedCdr, lock_evses, write_checked
from gem.roaming.v1.cdr_clearing_pb2 import ClearedCdr
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

#: Records of one transaction; some 100 ms of work.
BATCH = 100
#: Errors that say nothing about the records of a batch.
_PASSING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.QueryCanceledError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_log = structlog.get_logger("clearinghouse")

Originals = Mapping[tuple[str, CdrKey], CdrRow]


class CdrChecker:
    """Checks what waits."""

    def __init__(
        self,
        pool: Pool,
        source: ContextSource,
        clock: Callable[[], datetime],
        on_accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._source = source
        self._clock = clock
        self._on_accepted = on_accepted
        #: Of the next batch; after a defect the records are checked one by one.
        self._size = BATCH

    async def check_batch(self) -> int:
        """Check the oldest records that wait and that nobody else checks; give how many."""
        rows: list[CdrRow] = []
        try:
            async with transaction(self._pool) as connection:
                rows = await unchecked(connection, self._size)
                if rows:
                    await self._check(connection, rows)
        except _PASSING:
            raise
        except Exception:  # noqa: BLE001  # a record that nobody thought of must not stop the others
            _log.exception("a check failed", records=len(rows))
            if len(rows) == 1:
                async with transaction(self._pool) as connection:
                    await put_off(connection, [rows[0].cdr_ref])
            self._size = 1
            return len(rows)
        self._size = min(2 * self._size, BATCH)
        if rows:
            self._on_accepted()
        return len(rows)

    async def _check(self, connection: Connection, rows: Sequence[CdrRow]) -> None:
        batch = [UncheckedCdr(row, ChargeDetailRecord.FromString(row.content)) for row in rows]
        await lock_evses(connection, [row.evse_key for row in rows if row.evse_key])
        now = self._clock()
        known = await self._source.load(connection, batch, now)
        credits_ = [row for row in rows if row.stored.credited is not None]
        given_back = await originals(connection, credits_) if credits_ else {}
        checked: list[CheckedCdr] = []
        beside: defaultdict[tuple[str, str | None], list[OtherSession]] = defaultdict(list)
        for each, knowledge in zip(batch, known, strict=True):
            # Callers wait for the same thread.
            await asyncio.sleep(0)
            place = each.row.operator_partner_id, each.row.evse_key
            found = _checked(each, knowledge, beside[place], given_back)
            checked.append(found)
            if found.step.after.state is CdrState.ACCEPTED and each.row.stored.credited is None:
                assert each.row.started_at is not None, "a record without times is not plausible"
                assert each.row.ended_at is not None, "a record without times is not plausible"
                session = OtherSession(each.row.started_at, each.row.ended_at)
                beside[place].append(session)
        await write_checked(connection, checked)
        await write_steps(connection, _credited(checked, given_back))


def _checked(
    each: UncheckedCdr,
    knowledge: SessionKnowledge,
    beside: Sequence[OtherSession],
    given_back: Originals,
) -> CheckedCdr:
    """Check one record; `beside` are sessions on its EVSE that the batch accepted before."""
    row, original = each.row, None
    context = knowledge.context
    if row.stored.credited is not None:
        original = given_back.get((row.operator_partner_id, row.stored.credited))
        if original is not None and original.stored.state is CdrState.APPROVED:
            credited = ChargeDetailRecord.FromString(original.content)
            context = replace(context, credited=credited)
    elif beside:
        context = replace(context, other_sessions=[*context.other_sessions, *beside])
    assessment = check_record(each.record, context)
    step = CdrStep.ACCEPT if assessment.is_plausible else CdrStep.RETURN
    taken = StepTaken(row.cdr_ref, step, take_step(row.stored, step))
    content = assessment_message(assessment).SerializeToString()
    if not assessment.is_plausible:
        return CheckedCdr(row, taken, assessment.findings, content)
    if original is not None:
        evsp, contract = original.evsp_partner_id, original.contract_id
    else:
        evsp, contract = knowledge.evsp_partner_id, knowledge.contract_id
    return CheckedCdr(row, taken, (), content, evsp, contract)


def assessment_message(assessment: Assessment) -> ClearedCdr:
    """Give what is thought of a record, as it is stored beside the record."""
    message = ClearedCdr(
        findings=[finding.message() for finding in assessment.findings],
        oddities=assessment.oddities,
    )
    if assessment.rating is not None:
        message.rating.CopyFrom(assessment.rating)
    return message


def _credited(checked: Sequence[CheckedCdr], given_back: Originals) -> list[StepTaken]:
    """Give the steps of the records that accepted credits give back."""
    steps = []
    for each in checked:
        credited = each.row.stored.credited
        if credited is not None and each.step.after.state is CdrState.ACCEPTED:
            original = given_back[each.row.operator_partner_id, credited]
            after = take_step(original.stored, CdrStep.CREDIT)
            steps.append(StepTaken(original.cdr_ref, CdrStep.CREDIT, after))
    return steps
