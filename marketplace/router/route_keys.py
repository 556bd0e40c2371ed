"""The request field by whose identifier a BY_KEY call finds its provider."""

from __future__ import annotations

from operator import attrgetter

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from gem.options.v1.options_pb2 import Route, RouteKey
from marketplace.router.findings import Findings
from marketplace.router.method_rules import RouteKeyField
from marketplace.router.options import route_key_of
from marketplace.router.paths import DEPTH_MAX

_KINDS = set(RouteKey.values()) - {RouteKey.ROUTE_KEY_UNSPECIFIED}


def compile_route_key(
    method: MethodDescriptor, route: int, findings: Findings
) -> RouteKeyField | None:
    """Find the one field marked `route_key` in the request of a BY_KEY method.

    None for methods of other routes, and where a finding says why there is none.
    """
    if route != Route.ROUTE_BY_KEY:
        return None
    marked = _marked(method.input_type, (), frozenset())
    if len(marked) != 1:
        findings.about(
            method, "route_key.one", "the request of a ROUTE_BY_KEY method marks one field"
        )
        return None
    path = marked[0]
    field = path[-1]
    kind = route_key_of(field)
    if kind not in _KINDS:
        findings.about(field, "route_key.kind", "this kind of identifier does not exist")
        return None
    if field.type != FieldDescriptor.TYPE_STRING or any(each.is_repeated for each in path):
        findings.about(field, "route_key.string", "a routing field is one singular string")
        return None
    dotted = ".".join(each.name for each in path)
    return RouteKeyField(kind, dotted, attrgetter(dotted))


def _marked(
    message: Descriptor, above: tuple[FieldDescriptor, ...], inside: frozenset[str]
) -> list[tuple[FieldDescriptor, ...]]:
    """Give the paths of all marked fields; a type is not looked for inside itself."""
    if message.full_name in inside or len(above) >= DEPTH_MAX:
        return []
    found: list[tuple[FieldDescriptor, ...]] = []
    for field in message.fields:
        path = (*above, field)
        if route_key_of(field) is not None:
            found.append(path)
        if field.message_type is not None:
            found += _marked(field.message_type, path, inside | {message.full_name})
    return found
