"""An import ends in the database, each operator's EVSEs with that operator."""

from __future__ import annotations

import pytest

from mobility.import_evses import SAMPLE_FILE, known_operator_ids, store
from mobility.import_osm import read_osm
from mobility.import_report import ImportReport
from mobility.storage import EvseStorage

pytestmark = pytest.mark.usecase(1527)


async def _read_sample(storage: EvseStorage) -> ImportReport:
    report = ImportReport()
    ids = await known_operator_ids(storage)
    read_osm(SAMPLE_FILE.read_bytes(), SAMPLE_FILE.name, report, ids)
    return report


async def test_a_second_import_of_the_sample_adds_nothing(storage: EvseStorage) -> None:
    calls: list[tuple[int, int]] = []
    first = await store(storage, await _read_sample(storage), lambda *call: calls.append(call))
    again = await store(storage, await _read_sample(storage))
    assert (first.added, first.updated) == (73, 0)
    assert (again.added, again.updated) == (0, 73)
    assert first.operators == again.operators
    assert calls[-1] == (73, 73)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


async def test_an_operator_of_the_sample_has_a_partner_id_and_its_operator_id(
    storage: EvseStorage,
) -> None:
    await store(storage, await _read_sample(storage))
    operators = {each.partner_id: each for each in await storage.operators()}
    for partner_id in ("enbw", "rwe", "tesla-motors-inc", "cez"):
        assert len(operators[partner_id].operator_ids) == 1
    taken = [each.operator_ids for each in operators.values()]
    assert len(set(taken)) == len(taken), "no two operators share an operator id"


async def test_an_empty_report_changes_nothing(storage: EvseStorage) -> None:
    assert (await store(storage, ImportReport())).added == 0
    assert await storage.operators() == []
