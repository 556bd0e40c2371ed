"""What an import found: EVSEs that can be served, and every defect with what was done about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from foundation.validation import violations
from gem.charging.v1 import evse_pb2
from mobility.evse_row import evse_key

#: More defects are counted, not listed.
MOST_DEFECTS = 10_000


class Action(Enum):
    """What was done about a defect."""

    #: The object was left out.
    SKIPPED = "skipped"
    #: The object was kept, without or in spite of the part that is wrong.
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Defect:
    """One broken rule. The message is ours and repeats nothing of the file."""

    file: str
    #: JSON path of the place, for instance `$.data[3].evses[0].connectors`.
    path: str
    #: For instance `operator.missing`.
    rule: str
    message: str
    action: Action


@dataclass(frozen=True, slots=True)
class ImportedEvse:
    """An EVSE that keeps the rules of the interface, with the name of its operator."""

    operator_name: str
    evse: evse_pb2.Evse


@dataclass(slots=True)
class ImportReport:
    """Everything that came of reading files."""

    evses: list[ImportedEvse] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    #: Defects beyond `MOST_DEFECTS`.
    unlisted_defects: int = 0
    #: Stations or locations in the files, good or not.
    objects: int = 0
    _keys: set[str] = field(default_factory=set)

    def defect(self, at: Place, rule: str, message: str, action: Action) -> None:
        """Note a defect."""
        if len(self.defects) >= MOST_DEFECTS:
            self.unlisted_defects += 1
            return
        self.defects.append(Defect(at.file, at.path, rule, message, action))

    def skip(self, at: Place, rule: str, message: str) -> None:
        """Note that an object was left out."""
        self.defect(at, rule, message, Action.SKIPPED)

    def keep(self, at: Place, rule: str, message: str) -> None:
        """Note that an object was kept, without or in spite of what is wrong."""
        self.defect(at, rule, message, Action.KEPT)

    def add(self, at: Place, operator_name: str, evse: evse_pb2.Evse) -> None:
        """Take an EVSE, unless it breaks a rule of the interface: then that is noted instead."""
        broken = violations(evse)
        for violation in broken:
            rule = f"evse.{violation.field}: {violation.rule}"
            self.skip(at, rule, "the EVSE breaks a rule of the interface")
        if broken:
            return
        key = evse_key(evse.evse_id)
        if key in self._keys:
            self.skip(at, "evse_id.duplicate", "an EVSE before this one has the same id")
            return
        self._keys.add(key)
        self.evses.append(ImportedEvse(operator_name, evse))


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, for defects."""

    file: str
    path: str = "$"

    def __truediv__(self, key: str | int) -> Place:
        """Give the place of a member or element; keys are names that the importer knows."""
        if isinstance(key, int):
            return Place(self.file, f"{self.path}[{key}]")
        plain = key.replace("_", "").isalnum() and key.isascii()
        return Place(self.file, f"{self.path}.{key}" if plain else f'{self.path}["{key}"]')
