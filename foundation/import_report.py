"""What reading files of unknown quality found wrong, where, and what was done about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

#: More defects are counted, not listed.
MOST_DEFECTS = 10_000
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")
_KNOWN_KEY = re.compile(r"[A-Za-z0-9_:.+/@ -]{1,64}")


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


@dataclass(slots=True)
class DefectReport:
    """Every defect that was found while files were read."""

    defects: list[Defect] = field(default_factory=list)
    #: Defects beyond `MOST_DEFECTS`.
    unlisted_defects: int = 0
    #: Objects in the files, good or not.
    objects: int = 0
    #: Objects that were left out, counted also where their defects are no longer listed.
    skipped: int = 0

    def defect(self, at: Place, rule: str, message: str, action: Action) -> None:
        """Note a defect."""
        if len(self.defects) >= MOST_DEFECTS:
            self.unlisted_defects += 1
            return
        self.defects.append(Defect(at.file, at.path, rule, message, action))

    def skip(self, at: Place, rule: str, message: str) -> None:
        """Note that an object was left out."""
        self.skipped += 1
        self.defect(at, rule, message, Action.SKIPPED)

    def keep(self, at: Place, rule: str, message: str) -> None:
        """Note that an object was kept, without or in spite of what is wrong."""
        self.defect(at, rule, message, Action.KEPT)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, for defects."""

    file: str
    path: str = "$"

    def __truediv__(self, key: str | int) -> Place:
        """Give the place of a member or element; a key that could be anything is not repeated."""
        if isinstance(key, int):
            return Place(self.file, f"{self.path}[{key}]")
        if _PLAIN_KEY.fullmatch(key):
            return Place(self.file, f"{self.path}.{key}")
        shown = key if _KNOWN_KEY.fullmatch(key) else "?"
        return Place(self.file, f'{self.path}["{shown}"]')
