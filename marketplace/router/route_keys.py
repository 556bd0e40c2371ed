"""The request field by whose identifier a BY_KEY call finds its provider."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from gem.options.v1.options_pb2 import Route, RouteKey
from marketplace.router.findings import Findings
from marketplace.router.method_rules import RouteKeyField
from marketplace.router.options import route_key_of

_KINDS = set(RouteKey.values()) - {RouteKey.ROUTE_KEY_UNSPECIFIED}


def compile_route_key(
    method: MethodDescriptor, route: int, findings: Findings
) -> RouteKeyField | None:
    """Find the one field marked `route_key` in the request of a BY_KEY method.

    None for methods of other routes, and where a finding says why there is none.
    """
    if route != Route.ROUTE_BY_KEY:
        return None
    counts: dict[str, int] = {}
    if _count(method.input_type, counts) != 1:
        findings.about(
            method, "route_key.one", "the request of a ROUTE_BY_KEY method marks one field"
        )
        return None
    path = _path(method.input_type, counts)
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


def _count(message: Descriptor, counts: dict[str, int]) -> int:
    """Count the paths to marked fields; a type inside itself counts nothing there."""
    name = message.full_name
    if name not in counts:
        counts[name] = 0
        counts[name] = sum(
            (route_key_of(field) is not None)
            + (_count(field.message_type, counts) if field.message_type is not None else 0)
            for field in message.fields
        )
    return counts[name]


def _path(
    message: Descriptor, counts: Mapping[str, int], above: frozenset[str] = frozenset()
) -> tuple[FieldDescriptor, ...]:
    """Give the path of the one marked field at or below a type, which is inside those `above`."""
    inside = above | {message.full_name}
    for field in message.fields:
        if route_key_of(field) is not None:
            return (field,)
        below = field.message_type
        if below is not None and below.full_name not in inside and counts[below.full_name]:
            return (field, *_path(below, counts, inside))
    raise AssertionError("the field was counted")
