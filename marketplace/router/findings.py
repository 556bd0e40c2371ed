"""What is wrong with an interface that somebody wants to publish, all of it at once."""

from __future__ import annotations

from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

#: Findings beyond this many are left out.
FINDINGS_MAX = 100

Element = Descriptor | FieldDescriptor | MethodDescriptor | ServiceDescriptor


class Findings:
    """Collects findings; each names the file, the element and the rule that it breaks."""

    def __init__(self) -> None:
        self._found: dict[FieldViolation, None] = {}

    def add(self, place: str, rule: str, description: str) -> None:
        """Note one finding; `place` must be safe to show, the rest is our own text."""
        if len(self._found) < FINDINGS_MAX:
            self._found[FieldViolation(place, description, rule)] = None

    def about(self, element: Element, rule: str, description: str) -> None:
        """Note one finding about an element of a compiled file, whose names are identifiers."""
        self.add(f"{_file_of(element)}:{element.full_name}", rule, description)

    def __bool__(self) -> bool:
        """Say whether anything was found."""
        return bool(self._found)

    def check(self) -> None:
        """Raise INTERFACE_INVALID with everything found, if anything was."""
        if self._found:
            raise MarketError(
                ErrorReason.ERROR_REASON_INTERFACE_INVALID,
                "The interface's files do not compile or break the rules of the catalogue.",
                violations=tuple(self._found),
            )


def _file_of(element: Element) -> str:
    if isinstance(element, MethodDescriptor):
        return element.containing_service.file.name
    if isinstance(element, FieldDescriptor):
        assert element.containing_type is not None, "no finding is about an extension"
        return element.containing_type.file.name
    return element.file.name
