"""What COPY is given by the log's own encoding comes out of PostgreSQL as it went in."""

from __future__ import annotations

import asyncio
import struct
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.chain_session import Placed
from marketplace.copy_rows import COLUMNS, copied
from marketplace.log_chain import HASH_BYTES, NONCE_BYTES
from marketplace.storage_transaction_write import CHAINED_COLUMNS, placed_row
from tests.marketplace.test_log_chain import ENTRIES
from tests.transaction_log_support import connected, entry_of

_MICROSECONDS = st.integers(0, 4 * 10**15)
_HASH = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)
_NONCE = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
_SEQUENCE = st.integers(1, 2**63 - 1)
PLACED = st.tuples(ENTRIES, _MICROSECONDS, st.uuids(), _SEQUENCE, _NONCE, _HASH, _HASH).map(
    lambda made: Placed(made[0], made[0].started_ns // 1000, *made[1:])
)


async def stored(url: str, placed: list[Placed], worker_id: UUID) -> list[tuple[Any, ...]]:
    """Put the entries into a table like the log's, and give what it then has."""
    names = ", ".join(CHAINED_COLUMNS)
    async with connected(url) as connection:
        await connection.execute(
            "CREATE TEMPORARY TABLE copied (LIKE marketplace.service_transaction)"
        )
        source: Any = copied(placed, worker_id)  # the stubs know nothing of buffers
        await connection.copy_to_table("copied", source=source, columns=COLUMNS, format="binary")
        return [tuple(row) for row in await connection.fetch(f"SELECT {names} FROM copied")]


def test_the_columns_are_those_of_a_chained_entry() -> None:
    assert sorted(COLUMNS) == sorted(CHAINED_COLUMNS)


# Each example has a table of its own.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PLACED, max_size=8), st.uuids())
def test_entries_come_out_as_they_went_in(
    log_url: str, placed: list[Placed], worker_id: UUID
) -> None:
    found = asyncio.run(stored(log_url, placed, worker_id))
    assert found == [placed_row(each, worker_id) for each in placed]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"status": 2**15}, struct.error),
        ({"duration_us": 2**63}, struct.error),
        ({"units": "7"}, struct.error),
        ({"answer_digest": None}, TypeError),
        ({"method": None}, TypeError),
        ({"contract_id": 5}, TypeError),
        ({"currency_code": []}, TypeError),
        ({"method": "\ud800"}, UnicodeEncodeError),
        ({"call_id": "an id"}, AttributeError),
    ],
)
def test_what_no_column_holds_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    entry = entry_of()._replace(**wrong)
    placed = Placed(
        entry, 1, 2, uuid4(), 1, bytes(NONCE_BYTES), bytes(HASH_BYTES), bytes(HASH_BYTES)
    )
    with pytest.raises(error):
        copied([placed], uuid4())
