"""A compiled interface as the catalogue takes it; no storage, which compiling does without."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from marketplace.proposal_likeness import shape
from marketplace.router.method_rules import InterfaceRules, MethodRules


@dataclass(frozen=True, slots=True)
class NewInterface:
    """An interface that is being published."""

    interface_name: str
    title: str
    category: str
    #: Values of `gem.options.v1.PartnerRole`, ascending.
    implemented_by: tuple[int, ...]
    called_by: tuple[int, ...]
    #: What `InterfaceMethod` says of each method, in the order of the proto file.
    methods: tuple[dict[str, Any], ...]
    #: What goes over the wire, without names; see `proposal_likeness.shape`.
    shape: bytes


def normal_digest(descriptor_set: bytes) -> bytes:
    """Give SHA-256 of a set that parses: without source info, files by name."""
    files = FileDescriptorSet.FromString(descriptor_set).file
    for file in files:
        file.ClearField("source_code_info")
    ordered = FileDescriptorSet(file=sorted(files, key=lambda file: file.name))
    return hashlib.sha256(ordered.SerializeToString(deterministic=True)).digest()


def new_interface(rules: InterfaceRules) -> NewInterface:
    """Give a compiled interface as it is published."""
    return NewInterface(
        interface_name=rules.name,
        title=rules.title,
        category=rules.category,
        implemented_by=tuple(sorted(rules.implemented_by)),
        called_by=tuple(sorted(rules.called_by)),
        methods=tuple(map(_method, rules.methods.values())),
        shape=shape(rules),
    )


def _method(method: MethodRules) -> dict[str, Any]:
    return {
        "path": method.path,
        "route": int(method.route),
        "client_streaming": method.client_streaming,
        "server_streaming": method.server_streaming,
        "side_effects": method.side_effects,
    }
