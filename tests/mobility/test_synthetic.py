"""The generator for benchmarks: valid, repeatable, in the order that the pages of a table like."""

from __future__ import annotations

import statistics
from itertools import pairwise

from foundation.validation import violations
from gem.charging.v1 import evse_pb2
from mobility.area import distance_of, vector_of
from mobility.evse_row import EvseRow, fill, row_of
from mobility.storage import EvseStorage
from mobility.synthetic import SyntheticOperator, generate, synthetic_rows
from tests.mobility.test_search import around, searched

OPERATOR = SyntheticOperator("Synthetic", "DE*SYN")


def evse_of(row: EvseRow) -> evse_pb2.Evse:
    evse = evse_pb2.Evse()
    fill(evse, row.message, row.status, row.status_time, 0)
    return evse


def test_equal_seeds_give_equal_rows_and_others_do_not() -> None:
    first = list(synthetic_rows(OPERATOR, 50, seed=1))
    assert first == list(synthetic_rows(OPERATOR, 50, seed=1))
    assert first != list(synthetic_rows(OPERATOR, 50, seed=2))


def test_every_row_is_that_of_a_valid_evse_with_an_id_of_its_own() -> None:
    rows = list(synthetic_rows(OPERATOR, 300))
    assert len({row.evse_key for row in rows}) == 300
    for row in rows:
        evse = evse_of(row)
        assert not violations(evse)
        # The patched pattern is what the whole EVSE would have given.
        made = row_of(evse)
        assert evse_pb2.Evse.FromString(made.message) == evse_pb2.Evse.FromString(row.message)
        columns = [column for column in EvseRow.__slots__ if column != "message"]
        assert [getattr(made, name) for name in columns] == [getattr(row, name) for name in columns]


def test_neighbours_in_the_table_are_neighbours_on_the_ground() -> None:
    rows = list(synthetic_rows(OPERATOR, 2_000))
    places = [vector_of(row.latitude_e7, row.longitude_e7) for row in rows]
    steps = [
        distance_of(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5)
        for first, second in pairwise(places)
    ]
    assert statistics.median(steps) < 10_000


async def test_a_generated_table_is_searched_like_any(storage: EvseStorage) -> None:
    await storage.register([("synthetic", "Synthetic", "synthetic", ["DE*SYN"])])
    operator = await storage.operator("synthetic", None)
    assert operator is not None
    calls: list[tuple[int, int]] = []
    await generate(
        storage, operator.operator_ref, OPERATOR, 300, progress=lambda *call: calls.append(call)
    )
    assert calls == [(300, 300)]
    assert len(await searched(storage, operator.operator_ref, around(51, 10.5, 500_000))) > 250
