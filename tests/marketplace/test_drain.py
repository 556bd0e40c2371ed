"""A record that can never be written is put aside, and those around it reach PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from marketplace.drain import drain_chunk
from marketplace.spill import open_own
from marketplace.transaction_batch import Batch
from tests.transaction_log_support import OK, connected, empty_log, entry_of, statuses

pytestmark = pytest.mark.fault
DEFECTS: dict[str, dict[str, Any]] = {
    "nothing where a text belongs": {"requester_id": None},
    "a number where a text belongs": {"method": 5},
    "a list where a text belongs": {"currency_code": []},
    "half a character": {"method": "\ud800"},
    "a character that no column holds": {"method": "a\0b"},
    "nothing where a number belongs": {"item_count": None},
    "a text where a number belongs": {"units": "7"},
    "a number that is too great": {"duration_us": 2**63},
    "a number that is too great for a short one": {"status": 2**15},
    "a fraction where a whole number belongs": {"item_count": 1.5},
    "an instant before the calendar": {"started_ns": -(10**20)},
}


@pytest.mark.parametrize("defect", DEFECTS)
async def test_a_spill_is_drained_around_a_record_with(
    defect: str, log_url: str, tmp_path: Path
) -> None:
    await empty_log(log_url)
    before, after = entry_of(), entry_of()
    spill = await open_own(tmp_path / "spill", uuid4(), 1 << 24)
    await spill.append(Batch(finals=[before, entry_of(**DEFECTS[defect]), after]))
    async with connected(log_url) as connection:
        for _ in range(3):
            await drain_chunk(spill, connection, 100, 10.0)
    assert (spill.count, spill.rejected) == (0, 1)
    assert await statuses(log_url) == {before.transaction_id: OK, after.transaction_id: OK}
    await spill.close()
