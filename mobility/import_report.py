"""What an import found: EVSEs that can be served, and every defect with what was done about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from foundation.import_report import DefectReport, Place
from foundation.validation import violations
from gem.charging.v1 import evse_pb2
from mobility.evse_row import evse_key


@dataclass(frozen=True, slots=True)
class ImportedEvse:
    """An EVSE that keeps the rules of the interface, with the name of its operator."""

    operator_name: str
    evse: evse_pb2.Evse


@dataclass(slots=True)
class ImportReport(DefectReport):
    """Everything that came of reading files; its objects are stations or locations."""

    evses: list[ImportedEvse] = field(default_factory=list)
    _keys: set[str] = field(default_factory=set)

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
