"""What the clearing house's operator does about records that their EVSPs do not take."""

from __future__ import annotations

from clearinghouse.cdr_state import CdrStep, take_step
from clearinghouse.plausibility_context import Finding
from clearinghouse.storage import Pool, transaction
from clearinghouse.storage_cdr import StepTaken, locked
from clearinghouse.storage_cdr_check import CheckedCdr, write_checked
from clearinghouse.storage_delivery import hand_back, revive
from gem.roaming.v1.cdr_clearing_pb2 import ClearedCdr, PlausibilityReason

_FINDING = Finding(
    PlausibilityReason.PLAUSIBILITY_REASON_NOT_DELIVERABLE,
    "",
    "nothing is wrong with the record: the EVSP does not take it",
)


async def release_letter(pool: Pool, delivery_ref: int) -> bool:
    """Let a dead letter be tried again as if it were new; False where it is none."""
    async with transaction(pool) as connection:
        return await revive(connection, delivery_ref)


async def give_back(pool: Pool, delivery_ref: int) -> bool:
    """Return the record of a dead letter to its operator; False where it is none.

    Raises:
        MarketError: STATE_NOT_ALLOWED for a credit: what it gives back is given back already.
    """
    async with transaction(pool) as connection:
        cdr_ref = await hand_back(connection, delivery_ref)
        if cdr_ref is None:
            return False
        row = (await locked(connection, [cdr_ref]))[cdr_ref]
        step = StepTaken(cdr_ref, CdrStep.HAND_BACK, take_step(row.stored, CdrStep.HAND_BACK))
        assessment = ClearedCdr.FromString(row.assessment)
        assessment.findings.append(_FINDING.message())
        content = assessment.SerializeToString()
        await write_checked(connection, [CheckedCdr(row, step, (_FINDING,), content)])
        return True
