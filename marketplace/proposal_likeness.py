"""When is a proposed interface one that exists already, or a name that only looks like another's.

The shape of an interface is what goes over the wire, without any name: methods by their kinds and
options, messages by numbers, types and rules. Two interfaces of one shape are the same standard.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from marketplace.proposal_findings import Finding
from marketplace.router.method_rules import InterfaceRules
from marketplace.router.options import field_rules, merge_of, route_key_of, stamp_of

_SHARED = ("gem.common.", "gem.mesh.", "google.protobuf.")
_LOOKS_LIKE = str.maketrans({"1": "l", "i": "l", "0": "o", "5": "s", "_": ""})
#: First parts of packages that are never another's.
_OWN_ROOTS = ("gem", "google", "buf", "grpc")


def shape(rules: InterfaceRules) -> bytes:
    """Give the SHA-256 of an interface without its names; the order of methods does not count."""
    methods = [
        [
            int(method.route),
            method.client_streaming,
            method.server_streaming,
            method.side_effects,
            _message(method.request_class.DESCRIPTOR, {}),
            _message(method.response_class.DESCRIPTOR, {}),
        ]
        for method in rules.methods.values()
    ]
    text = json.dumps(sorted(methods, key=json.dumps), separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def skeleton(interface_name: str) -> str:
    """Give what an interface's package looks like: names that are easily taken for each other."""
    package = interface_name.rpartition(".")[0].lower()
    return package.replace("rn", "m").replace("vv", "w").translate(_LOOKS_LIKE)


def looks_like_ours(interface_name: str) -> bool:
    """Say whether a package only looks like one of the marketplace's own."""
    root = interface_name.partition(".")[0]
    return root not in _OWN_ROOTS and skeleton(f"{root}.x") in {
        skeleton(f"{own}.x") for own in _OWN_ROOTS
    }


def exists_already(interface_name: str, existing_name: str, version: int) -> Finding:
    """Give the finding about an interface that is in the catalogue (1257, second failure)."""
    known = f"version {version} of `{existing_name}`"
    return Finding(
        "", 0, interface_name, "interface.exists", f"this is {known}, apart from names and comments"
    )


def confusable(interface_name: str, existing_name: str | None) -> Finding:
    """Give the finding about a package that is easily taken for another."""
    other = f"that of `{existing_name}`" if existing_name else "one of the marketplace's own"
    return Finding(
        "", 0, interface_name, "package.confusable", f"the package is easily taken for {other}"
    )


def _message(message: Any, seen: dict[str, int]) -> Any:
    if message.full_name.startswith(_SHARED):
        return message.full_name
    if message.full_name in seen:
        return seen[message.full_name]
    seen[message.full_name] = len(seen)
    return [_field(field, seen) for field in sorted(message.fields, key=lambda each: each.number)]


def _field(field: FieldDescriptor, seen: dict[str, int]) -> list[Any]:
    rules = field_rules(field)
    copy = type(rules).FromString(rules.SerializeToString())
    # Their texts name fields.
    copy.ClearField("cel")
    copy.ClearField("cel_expression")
    merge = merge_of(field)
    inside: Any = None
    if field.message_type is not None:
        inside = _message(field.message_type, seen)
    elif field.enum_type is not None:
        inside = sorted(value.number for value in field.enum_type.values)
    oneof = field.containing_oneof
    return [
        field.number,
        field.type,
        field.is_repeated,
        min(other.number for other in oneof.fields) if oneof is not None else 0,
        copy.SerializeToString(deterministic=True).hex(),
        [stamp_of(field), route_key_of(field), merge.rule if merge is not None else None],
        inside,
    ]
