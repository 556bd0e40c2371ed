"""The catalogue's descriptors, walked element by element: what the rules of `rules.py` look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    OneofDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.message import Message

#: Options are read from descriptors when an interface is compiled; they never travel in a call.
NEVER_ON_THE_WIRE = "gem.options.v1"


@dataclass(frozen=True)
class Element:
    """One named thing of a file: its descriptor, its full name and its place in the source info."""

    proto: Message
    name: str
    path: tuple[int, ...]
    file: FileDescriptorProto


#: The lists of named things that a descriptor of a file, message, enum or service has.
_CHILDREN = (
    *("message_type", "enum_type", "service", "extension"),
    *("field", "nested_type", "oneof_decl", "value", "method"),
)


def _written_by_compiler(parent: Message, child: Message) -> bool:
    """Tell map entries and the oneofs of `optional` fields: nobody wrote them."""
    if isinstance(child, DescriptorProto):
        return child.options.map_entry
    if isinstance(parent, DescriptorProto) and isinstance(child, OneofDescriptorProto):
        place = list(parent.oneof_decl).index(child)
        return any(f.proto3_optional and f.oneof_index == place for f in parent.field)
    return False


def elements_of(file: FileDescriptorProto) -> Iterator[Element]:
    """Walk everything that has a name in a file, outer elements first."""

    def walk(parent: Message, name: str, path: tuple[int, ...]) -> Iterator[Element]:
        for label in _CHILDREN:
            described = parent.DESCRIPTOR.fields_by_name.get(label)
            if described is None:
                continue
            for index, child in enumerate(getattr(parent, label)):
                if _written_by_compiler(parent, child):
                    continue
                place = (*path, described.number, index)
                yield Element(child, f"{name}.{child.name}", place, file)
                yield from walk(child, f"{name}.{child.name}", place)

    yield from walk(file, file.package, ())


@dataclass(frozen=True, repr=False)
class Catalogue:
    """The files under check, with what their parts refer to."""

    files: tuple[FileDescriptorProto, ...]
    elements: tuple[Element, ...]
    messages: dict[str, DescriptorProto]

    @classmethod
    def of(cls, files: Iterable[FileDescriptorProto]) -> Catalogue:
        """Read files; every message is known by its full name with a leading dot."""
        kept = tuple(files)
        elements = tuple(element for file in kept for element in elements_of(file))
        messages: dict[str, DescriptorProto] = {}

        def note(prefix: str, message: DescriptorProto) -> None:
            messages[f"{prefix}.{message.name}"] = message
            for nested in message.nested_type:
                note(f"{prefix}.{message.name}", nested)

        for file in kept:
            for message in file.message_type:
                note(f".{file.package}", message)
        return cls(kept, elements, messages)

    def fields(self) -> Iterator[tuple[Element, FieldDescriptorProto]]:
        """Give every field that travels in calls."""
        for element in self.elements:
            if (
                isinstance(element.proto, FieldDescriptorProto)
                and element.file.package != NEVER_ON_THE_WIRE
            ):
                yield element, element.proto

    def methods(self) -> Iterator[tuple[Element, MethodDescriptorProto]]:
        """Give every rpc."""
        for element in self.elements:
            if isinstance(element.proto, MethodDescriptorProto):
                yield element, element.proto

    def services(self) -> Iterator[tuple[Element, ServiceDescriptorProto]]:
        """Give every service."""
        for element in self.elements:
            if isinstance(element.proto, ServiceDescriptorProto):
                yield element, element.proto
