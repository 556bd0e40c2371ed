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

#: Charging stations of Germany in 2015, © OpenStreetMap contributors, ODbL (ATTRIBUTION.md there).
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
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Stored:
    """Write all EVSEs of a report; those that are known are written over.

    `progress` is called with the EVSEs written so far and their total. Every batch is one
    transaction: an import that is broken off can simply be repeated.
    """
    rows: list[tuple[str, EvseRow]] = []
    names: dict[str, str] = {}
    ids: dict[str, set[str]] = defaultdict(set)
    for imported in report.evses:
        key, row = name_key(imported.operator_name), row_of(imported.evse)
        names.setdefault(key, imported.operator_name)
        ids[key].add(_operator_id(row))
        rows.append((key, row))
    await storage.register(
        [(key, name, partner_id_of(name), sorted(ids[key])) for key, name in sorted(names.items())]
    )
    numbers = {
        name_key(operator.operator_name): operator.operator_ref
        for operator in await storage.operators()
    }
    rows.sort(key=lambda each: (each[0], locality(each[1].latitude_e7, each[1].longitude_e7)))
    added = done = 0
    for start in range(0, len(rows), _BATCH):
        batch = [(numbers[key], row) for key, row in rows[start : start + _BATCH]]
        added += await storage.upsert(batch)
        done += len(batch)
        progress(done, len(rows))
    if done >= _MANY:
        await storage.analyze()
    return Stored(added, done - added, len(names))


def _operator_id(row: EvseRow) -> str:
    """Give the operator id of an EVSE, for instance `DE*ABC`."""
    return f"{row.evse_key[:2]}*{row.evse_key[2:5]}"
