"""An interface as people read it: its comments, methods, fields and rules (use case 1476)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping

from google.protobuf import text_format
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from gem.options.v1 import options_pb2
from gem.options.v1.options_pb2 import PartnerRole, Route, RouteKey, Stamp
from marketplace.proposal_findings import elements
from marketplace.router.catalogue_rules import types_below
from marketplace.router.options import (
    field_rules,
    merge_of,
    message_rules,
    method_options,
    route_key_of,
    stamp_of,
    standard_interface_of,
)

_ROUTES = {
    Route.ROUTE_ONE: "one contracted provider, the one that the caller names",
    Route.ROUTE_ALL: "every contracted provider; their answers are merged",
    Route.ROUTE_FIRST: "contracted providers in contract order until one succeeds",
    Route.ROUTE_BY_KEY: "the provider that owns the identifier in the request",
}
_SIDE_EFFECTS = {1: "changes nothing", 2: "changes something; a repetition does no harm"}
_SHARED = ("gem.", "google.")
_WIDTH = 96


def describe(descriptor_set: bytes, interface_names: Iterable[str]) -> str:
    """Give the text of interfaces of a set that compiles; takes milliseconds to a second."""
    files = FileDescriptorSet.FromString(descriptor_set)
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    writer = _Writer(_comments(files))
    services = [pool.FindServiceByName(name) for name in interface_names]
    lines = [line for service in services for line in (*writer.service(service), "")]
    return "\n".join(lines).rstrip() + "\n"


class _Writer:
    """Writes services and what their messages lead to."""

    def __init__(self, comments: Mapping[str, str]) -> None:
        self._comments = comments

    def service(self, service: ServiceDescriptor) -> Iterator[str]:
        said = standard_interface_of(service)
        assert said is not None, "only standard interfaces are described"
        yield from (said.title, "=" * len(said.title), "", service.full_name)
        yield f"Category: {said.category}"
        yield f"Implemented by: {_roles(said.implemented_by)}"
        yield f"Called by: {_roles(said.called_by)}"
        yield from ("", *self._comment(service.full_name, ""), "", "Methods", "-------")
        for method in service.methods:
            yield from ("", *self._method(service, method))
        yield from ("", "Messages", "--------")
        types: dict[str, Descriptor] = {}
        for method in service.methods:
            types |= types_below(method.input_type) | types_below(method.output_type)
        own = {name: each for name, each in types.items() if not name.startswith(_SHARED)}
        for message in own.values():
            yield from ("", *self._message(message))
        yield from self._enums(own.values())

    def _method(self, service: ServiceDescriptor, method: MethodDescriptor) -> Iterator[str]:
        takes = f"{'stream ' * method.client_streaming}{method.input_type.name}"
        gives = f"{'stream ' * method.server_streaming}{method.output_type.name}"
        yield f"{method.name}({takes}) returns ({gives})"
        yield from self._comment(f"{service.full_name}.{method.name}")
        options = method_options(method)
        route = options.Extensions[options_pb2.route] or Route.ROUTE_ONE
        yield f"  Goes to: {_ROUTES.get(route, 'unknown')}"
        yield f"  Effect: {_SIDE_EFFECTS.get(options.idempotency_level, 'not said')}"

    def _message(self, message: Descriptor) -> Iterator[str]:
        yield message.full_name
        yield from self._comment(message.full_name)
        if rules := _line(message_rules(message)):
            yield f"  Rules: {rules}"
        for field in message.fields:
            yield f"  {field.number}  {field.name}: {_type(field)}"
            yield from self._comment(f"{message.full_name}.{field.name}", " " * 6)
            for kind, text in _said(field):
                yield f"      {kind}: {text}"

    def _enums(self, messages: Iterable[Descriptor]) -> Iterator[str]:
        enums: dict[str, EnumDescriptor] = {}
        for message in messages:
            found = [field.enum_type for field in message.fields if field.enum_type is not None]
            enums |= {enum.full_name: enum for enum in found}
        for name, enum in enums.items():
            if name.startswith(_SHARED):
                continue
            yield from ("", name, *self._comment(name))
            for value in enum.values:
                yield f"  {value.number}  {value.name}"
                yield from self._comment(f"{name}.{value.name}", " " * 6)

    def _comment(self, name: str, indent: str = "  ") -> Iterator[str]:
        for paragraph in self._comments.get(name, "").split("\n\n"):
            text = " ".join(paragraph.split())
            yield from textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _said(field: FieldDescriptor) -> Iterator[tuple[str, str]]:
    """Give what the options of a field ask for."""
    if rules := _line(field_rules(field)):
        yield "Rules", rules
    if (merge := merge_of(field)) is not None:
        yield "Merged", _line(merge)
    if stamp := stamp_of(field):
        yield "Written by the marketplace", Stamp.Name(stamp)  # type: ignore[arg-type]  # a number
    if key := route_key_of(field):
        yield "Routes by", RouteKey.Name(key)  # type: ignore[arg-type]  # a number


def _line(message: object) -> str:
    return text_format.MessageToString(message, as_one_line=True)  # type: ignore[arg-type]  # any


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        name = field.message_type.full_name
    elif field.enum_type is not None:
        name = field.enum_type.full_name
    else:
        kind = FieldDescriptorProto.Type.Name(field.type)  # type: ignore[arg-type]  # a number
        name = kind.removeprefix("TYPE_").lower()
    return f"list of {name}" if field.is_repeated else name


def _roles(roles: Iterable[int]) -> str:
    names = [PartnerRole.Name(role).removeprefix("PARTNER_ROLE_") for role in roles]  # type: ignore[arg-type]  # a number
    return ", ".join(names) or "anybody"


def _comments(files: FileDescriptorSet) -> dict[str, str]:
    """Give the comments of elements by full name; without source info there are none."""
    found: dict[str, str] = {}
    for file in files.file:
        said = {
            tuple(at.path): at.leading_comments or at.trailing_comments
            for at in file.source_code_info.location
        }
        found |= {name: said.get(path, "") for name, path in elements(file)}
    return found
