"""Readers of how many units an answer has, compiled once for each method and path."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from marketplace.router.paths import DEPTH_MAX, INTEGERS, is_map

#: Gives the units of one message; -1 where one of the values that are added up is negative.
UnitReader = Callable[[Any], int]
#: Paths whose readers one method remembers; when there are more, all are forgotten.
READERS_MAX = 256


class UnitReaders(dict[str, UnitReader | None]):
    """The readers of one response by path, compiled when first asked for; None for a bad path."""

    def __init__(self, response: Descriptor, answers_field: str | None) -> None:
        super().__init__()
        self._response = response
        self._answers_field = answers_field

    def __missing__(self, dotted: str) -> UnitReader | None:
        """Compile a path."""
        if len(self) >= READERS_MAX:
            self.clear()
        try:
            self[dotted] = compile_units(self._response, dotted, self._answers_field)
        except ValueError:
            # A version of the interface without the field: its calls are not priced.
            self[dotted] = None
        return self[dotted]


def compile_units(
    response: Descriptor, dotted: str, answers_field: str | None = None
) -> UnitReader:
    """Give what reads the units at a path: elements of a list, or the sum of an integer.

    Raises:
        ValueError: with our own words, where the path ends at nothing that can be counted.
    """
    names = dotted.split(".")
    if len(names) > DEPTH_MAX:
        raise ValueError(f"a path has at most {DEPTH_MAX} names")
    if names[0] == answers_field:
        raise ValueError("the marketplace writes the provider answers; they are not counted")
    fields: list[FieldDescriptor] = []
    inside: Descriptor | None = response
    for name in names:
        field = inside.fields_by_name.get(name) if inside is not None else None
        if field is None:
            raise ValueError("the answer of a method that is priced has no such field")
        if is_map(field):
            raise ValueError("maps are not counted")
        fields.append(field)
        inside = field.message_type
    return _reader(fields)


def _reader(fields: list[FieldDescriptor]) -> UnitReader:
    """Give the reader of a path, from its end to its beginning."""
    leaf = fields[-1]
    read = attrgetter(leaf.name)
    if leaf.is_repeated:
        found: UnitReader = lambda message: len(read(message))  # noqa: E731  # one of a chain
    elif leaf.cpp_type in INTEGERS:
        found = lambda message: max(-1, read(message))  # noqa: E731  # as above
    else:
        raise ValueError("units are the elements of a list, or an integer")
    for field in reversed(fields[:-1]):
        found = _inside(field, found)
    return found


def _inside(field: FieldDescriptor, found: UnitReader) -> UnitReader:
    """Give the reader of what lies inside a field."""
    read = attrgetter(field.name)
    if not field.is_repeated:
        return lambda message: found(read(message))

    def added(message: Any) -> int:
        values = [found(element) for element in read(message)]
        return -1 if values and min(values) < 0 else sum(values)

    return added
