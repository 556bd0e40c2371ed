"""Records from their operator to their EVSP: stored, checked, rated, forwarded, booked (1511)."""

from __future__ import annotations

import pytest

from tests.clearinghouse.clearing import Clearing, accounts, numbered
from tests.clearinghouse.contract_holder import ContractHolder

pytestmark = pytest.mark.usecase(1511)


async def test_a_record_is_stored_checked_forwarded_and_booked(
    clearing: Clearing, holder: ContractHolder
) -> None:
    record = numbered(1)
    await clearing.authorize(record)
    (receipt,) = await clearing.submit(record)
    assert (receipt.submission, await clearing.states()) == ("STORED", {"cdr-1": "RECEIVED"})
    await clearing.check()
    assert await clearing.reasons() == {}
    assert await clearing.states() == {"cdr-1": "ACCEPTED"}
    await clearing.deliver()
    assert await clearing.states() == {"cdr-1": "APPROVED"}
    assert await clearing.bookings() == {"cdr-1": 7_200_000}
    (kept,) = holder.kept.values()
    assert kept.rating.within_tolerance
    assert await accounts(clearing.pool, ["CDR-1"]) == {"APPROVED": 1}
