"""Writes `.proto` files from descriptors: a tree that `buf` builds as it is (use case 1487).

What was published is a descriptor set; a source that is written from it cannot differ from it. The
files compile to the same descriptors, comments stand before their elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, text_encoding, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

#: Every compiler of protobuf has these.
_BUILT_IN = "google/protobuf/"
_BUF_YAML = "version: v2\nlint:\n  ignore:\n    - buf\n    - gem\n"
_SYNTAX = (12,)
_FIELD_MAX = 536_870_912
_ENUM_MAX = 2**31 - 1
_Path = tuple[int, ...]
_TEXT = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}


def source_tree(descriptor_set: bytes) -> dict[str, str]:
    """Give the texts of all files of a set that compiles, and a `buf.yaml`, by path."""
    files = FileDescriptorSet.FromString(descriptor_set).file
    pool = DescriptorPool()
    for file in files:
        pool.Add(file)
    tree = {
        file.name: _File(file, pool).text() for file in files if not file.name.startswith(_BUILT_IN)
    }
    return {"buf.yaml": _BUF_YAML, **tree}


class _File:
    """Writes one file."""

    def __init__(self, file: FileDescriptorProto, pool: DescriptorPool) -> None:
        self._file = file
        self._pool = pool
        self._old = file.syntax in ("", "proto2")
        self._prefix = f".{file.package}."
        self._inner = set(_inner_names(file.message_type))
        self._comments = {tuple(each.path): each for each in file.source_code_info.location}

    def text(self) -> str:
        """Give the whole text."""
        file = self._file
        lines = [*self._comment(_SYNTAX), f'syntax = "{file.syntax or "proto2"}";', ""]
        if file.package:
            lines += [*self._comment((2,)), f"package {file.package};", ""]
        public = set(file.public_dependency)
        for place, name in enumerate(file.dependency):
            lines.append(f'import {"public " if place in public else ""}"{name}";')
        lines += ["", *self._option_lines(file.options), ""]
        for place, service in enumerate(file.service):
            lines += [*self._service(service, (6, place)), ""]
        for place, message in enumerate(file.message_type):
            lines += [*self._message(message, (4, place)), ""]
        for place, enum in enumerate(file.enum_type):
            lines += [*self._enum(enum, (5, place)), ""]
        lines += self._extensions(file.extension, (7,))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"

    def _service(self, service: ServiceDescriptorProto, path: _Path) -> Iterator[str]:
        yield from self._comment(path)
        yield f"service {service.name} {{"
        yield from _indented(self._option_lines(service.options))
        for place, method in enumerate(service.method):
            yield from _indented(self._comment((*path, 2, place)))
            takes = f"{'stream ' * method.client_streaming}{self._type(method.input_type)}"
            gives = f"{'stream ' * method.server_streaming}{self._type(method.output_type)}"
            yield f"  rpc {method.name}({takes}) returns ({gives}) {{"
            yield from _indented(_indented(self._option_lines(method.options)))
            yield "  }"
        yield "}"

    def _message(self, message: DescriptorProto, path: _Path) -> Iterator[str]:
        yield from self._comment(path)
        yield f"message {message.name} {{"
        yield from _indented(self._inside(message, path))
        yield "}"

    def _inside(self, message: DescriptorProto, path: _Path) -> Iterator[str]:
        yield from self._option_lines(message.options)
        maps = {inner.name: inner for inner in message.nested_type if inner.options.map_entry}
        for place, inner in enumerate(message.nested_type):
            if inner.name not in maps:
                yield from self._message(inner, (*path, 3, place))
        for place, enum in enumerate(message.enum_type):
            yield from self._enum(enum, (*path, 4, place))
        written: set[int] = set()
        for place, field in enumerate(message.field):
            if not field.HasField("oneof_index") or field.proto3_optional:
                yield from self._field(field, (*path, 2, place), maps)
            elif field.oneof_index not in written:
                written.add(field.oneof_index)
                yield from self._oneof(message, field.oneof_index, path)
        yield from self._extensions(message.extension, (*path, 6))
        for span in message.extension_range:
            yield f"extensions {_span(span.start, span.end - 1, _FIELD_MAX - 1)};"
        yield from _reserved(message, 1, _FIELD_MAX - 1)

    def _oneof(self, message: DescriptorProto, index: int, path: _Path) -> Iterator[str]:
        oneof = message.oneof_decl[index]
        yield from self._comment((*path, 8, index))
        yield f"oneof {oneof.name} {{"
        yield from _indented(self._option_lines(oneof.options))
        for place, field in enumerate(message.field):
            if field.HasField("oneof_index") and field.oneof_index == index:
                yield from _indented(self._field(field, (*path, 2, place), {}, label=False))
        yield "}"

    def _field(
        self,
        field: FieldDescriptorProto,
        path: _Path,
        maps: dict[str, DescriptorProto],
        *,
        label: bool = True,
    ) -> Iterator[str]:
        yield from self._comment(path)
        entry = maps.get(field.type_name.rpartition(".")[2]) if field.type_name else None
        if entry is not None:
            key, value = entry.field
            said = f"map<{self._field_type(key)}, {self._field_type(value)}>"
        else:
            said = (self._label(field) if label else "") + self._field_type(field)
        options = [*_own_options(field), *self._options(field.options)]
        listed = f" [{', '.join(options)}]" if options else ""
        yield f"{said} {field.name} = {field.number}{listed};"

    def _label(self, field: FieldDescriptorProto) -> str:
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return "repeated "
        if field.label == FieldDescriptorProto.LABEL_REQUIRED:
            return "required "
        return "optional " if self._old or field.proto3_optional else ""

    def _enum(self, enum: EnumDescriptorProto, path: _Path) -> Iterator[str]:
        yield from self._comment(path)
        yield f"enum {enum.name} {{"
        yield from _indented(self._option_lines(enum.options))
        for place, value in enumerate(enum.value):
            options = list(self._options(value.options))
            listed = f" [{', '.join(options)}]" if options else ""
            yield from _indented(self._comment((*path, 2, place)))
            yield f"  {value.name} = {value.number}{listed};"
        yield from _indented(_reserved(enum, 0, _ENUM_MAX))
        yield "}"

    def _extensions(self, extensions: Iterable[FieldDescriptorProto], path: _Path) -> Iterator[str]:
        for place, field in enumerate(extensions):
            yield f"extend {field.extendee} {{"
            yield from _indented(self._field(field, (*path, place), {}))
            yield "}"

    def _field_type(self, field: FieldDescriptorProto) -> str:
        if field.type_name:
            return self._type(field.type_name)
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()

    def _type(self, name: str) -> str:
        """Give a type's name without the package where that can mean no other."""
        short = name.removeprefix(self._prefix)
        return short if short.partition(".")[0] not in self._inner and short != name else name

    def _option_lines(self, options: Any) -> Iterator[str]:
        for option in self._options(options):
            yield f"option {option};"

    def _options(self, options: Any) -> Iterator[str]:
        """Give the options of an element as `name = value`, the author's own among them."""
        for field, value in _resolved(options, self._pool).ListFields():
            name = f"(.{field.full_name})" if field.is_extension else field.name
            for each in value if field.is_repeated else (value,):
                yield f"{name} = {_value(field, each)}"

    def _comment(self, path: _Path) -> Iterator[str]:
        said = self._comments.get(path)
        if said is None:
            return
        for detached in said.leading_detached_comments:
            yield from _commented(detached)
            yield ""
        yield from _commented(said.leading_comments + said.trailing_comments)


def _resolved(options: Any, pool: DescriptorPool) -> Any:
    """Read options with the extensions of the set itself."""
    name = options.DESCRIPTOR.full_name
    try:
        found = GetMessageClass(pool.FindMessageTypeByName(name))
    except KeyError:
        found = getattr(descriptor_pb2, options.DESCRIPTOR.name)
    return found.FromString(options.SerializeToString())


def _value(field: FieldDescriptor, value: Any) -> str:
    if field.message_type is not None:
        return f"{{ {text_format.MessageToString(value, as_one_line=True)} }}"
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if field.type in _TEXT:
        return _quoted(value)
    return str(value).lower()


def _own_options(field: FieldDescriptorProto) -> Iterator[str]:
    """Give what looks like options and is none."""
    if field.HasField("default_value"):
        text = field.default_value
        yield f"default = {_quoted(text) if field.type in _TEXT else text}"
    if field.json_name not in ("", _camel(field.name)) and not field.extendee:
        yield f"json_name = {_quoted(field.json_name)}"


def _quoted(value: str | bytes) -> str:
    raw = value.encode() if isinstance(value, str) else value
    return f'"{text_encoding.CEscape(raw, as_utf8=False)}"'


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _reserved(owner: Any, exclusive: int, most: int) -> Iterator[str]:
    """Give the reserved numbers and names; only messages' ranges end before their end."""
    for span in owner.reserved_range:
        yield f"reserved {_span(span.start, span.end - exclusive, most)};"
    for name in owner.reserved_name:
        yield f'reserved "{name}";'


def _span(first: int, last: int, most: int) -> str:
    return str(first) if first == last else f"{first} to {'max' if last >= most else last}"


def _inner_names(messages: Iterable[DescriptorProto]) -> Iterator[str]:
    for message in messages:
        yield from (inner.name for inner in message.nested_type)
        yield from (enum.name for enum in message.enum_type)
        yield from _inner_names(message.nested_type)


def _commented(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"//{line}".rstrip()


def _indented(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield f"  {line}".rstrip()
