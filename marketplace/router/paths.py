"""Dotted paths of fields inside messages, resolved once against descriptors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

#: Messages that compare like one value: their seconds and nanoseconds.
INSTANTS = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})
#: A path deeper than this is refused.
DEPTH_MAX = 16

INTEGERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
FLOATS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})


@dataclass(frozen=True, slots=True)
class FieldPath:
    """The fields from a message down to one singular field."""

    fields: tuple[FieldDescriptor, ...]

    @property
    def dotted(self) -> str:
        """The path as it is written in options."""
        return ".".join(field.name for field in self.fields)

    @property
    def leaf(self) -> FieldDescriptor:
        """The field that the path ends at."""
        return self.fields[-1]

    @property
    def may_be_unset(self) -> bool:
        """Whether a message can say that there is no value, as opposed to zero or empty."""
        return any(field.has_presence for field in self.fields)


def resolve(message: Descriptor, dotted: str) -> FieldPath:
    """Find the fields that a dotted path names; every one of them singular.

    Raises:
        ValueError: with our own words, where the path names nothing or runs through a list.
    """
    names = dotted.split(".")
    if len(names) > DEPTH_MAX:
        raise ValueError(f"a path has at most {DEPTH_MAX} names")
    found: list[FieldDescriptor] = []
    inside: Descriptor | None = message
    for name in names:
        field = inside.fields_by_name.get(name) if inside is not None else None
        if field is None:
            raise ValueError("the path names no field")
        if field.is_repeated:
            raise ValueError("the path runs through a repeated field")
        found.append(field)
        inside = field.message_type
    return FieldPath(tuple(found))


def is_instant(field: FieldDescriptor) -> bool:
    """Whether a field is a Timestamp or Duration."""
    return field.message_type is not None and field.message_type.full_name in INSTANTS


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def instant_of(value: Any) -> tuple[int, int]:
    """Give a Timestamp or Duration as seconds and nanoseconds, which compare as it does."""
    return value.seconds, value.nanos


def reader(path: FieldPath) -> Callable[[Any], Any]:
    """Give a function that reads the value at a path: None where a field on it is unset.

    Instants come as (seconds, nanoseconds). A field without presence is never unset.
    """
    if not path.may_be_unset:
        return attrgetter(path.dotted)
    steps = tuple((field.name, field.has_presence) for field in path.fields)
    instant = is_instant(path.leaf)

    def read(message: Any) -> Any:
        for name, has_presence in steps:
            if has_presence and not message.HasField(name):
                return None
            message = getattr(message, name)
        return instant_of(message) if instant else message

    return read
