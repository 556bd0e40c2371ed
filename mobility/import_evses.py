"""Writes what was imported into the database, each operator's EVSEs to that operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobility.evse_row import EvseRow, locality, row_of
from mobility.import_report import ImportReport
from mobility.operator_name import OperatorIds, name_key, partner_id_of
from mobility.storage import EvseStorage

#: Charging stations of Germany in 2015, © OpenStreetMap contributors, ODbL (see ATTRIBUTION.md there).
SAMPLE_FILE = Path(__file__).parent / "sample" / "charging-stations-germany-2015.geojson"
_BATCH = 2_000
#: From so many rows on, the planner's knowledge of the table is renewed.
_MANY = 1_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What an import changed."""

    added: int
    updated: int
    operators: int


async def known_operator_ids(storage: EvseStorage) -> OperatorIds:
    """Give the operator ids that the database holds, for an import that may need new ones."""
    operators = await storage.operators()
    return OperatorIds({name_key(each.operator_name): each.operator_ids for each in operators})


async def store(
    storage: EvseStorage,
    report: ImportReport,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Stored:
    """Write all EVSEs of a report; those that are known are written over.

    `progress` is called with the EVSEs written so far and their total. Every batch is a transaction:
    an import that is broken off can simply be repeated.
    """
    rows: dict[str, list[EvseRow]] = defaultdict(list)
    names: dict[str, str] = {}
    for imported in report.evses:
        key = name_key(imported.operator_name)
        names.setdefault(key, imported.operator_name)
        rows[key].append(row_of(imported.evse))
    await storage.register(
        [
            (key, name, partner_id_of(name), sorted({_operator_id(row) for row in rows[key]}))
            for key, name in sorted(names.items())
        ]
    )
    added = done = 0
    for key, of_operator in sorted(rows.items()):
        operator = await storage.operator(key, None)
        assert operator is not None, "it was registered just before"
        of_operator.sort(key=lambda row: locality(row.latitude_e7, row.longitude_e7))
        for start in range(0, len(of_operator), _BATCH):
            batch = of_operator[start : start + _BATCH]
            added += await storage.upsert(operator.operator_ref, batch)
            done += len(batch)
            progress(done, len(report.evses))
    if done >= _MANY:
        await storage.analyze()
    return Stored(added, done - added, len(names))


def _operator_id(row: EvseRow) -> str:
    """Give the operator id of an EVSE, for instance `DE*ABC`."""
    return f"{row.evse_key[:2]}*{row.evse_key[2:5]}"
