"""What the catalogue keeps of a published set: its digest and its interfaces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gem.marketplace.v1 import interface_pb2
from marketplace.notice import interface_notices
from marketplace.proposal_likeness import shape
from marketplace.rendering import timestamp
from marketplace.router.method_rules import InterfaceRules, MethodRules
from marketplace.routing_change import RoutingChange
from marketplace.storage_command import Work
from marketplace.storage_interface import InterfaceStorage, NewInterface
from marketplace.storage_notice import active_partners, tell
from marketplace.storage_routing import announce

#: Compiles a descriptor set; raises MarketError INTERFACE_INVALID with every finding.
Compile = Callable[[bytes], tuple[InterfaceRules, ...]]


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


async def publish(
    w: Work, digest: bytes, descriptor_set: bytes, new: Sequence[NewInterface]
) -> list[Any]:
    """Write the next version of each interface, tell all partners, and the workers.

    The last part of the transaction.
    """
    rows = await InterfaceStorage(w.connection).publish(digest, descriptor_set, new, w.actor, w.now)
    partner_ids = await active_partners(w.connection)
    versions = [(row.interface_name, row.version) for row in rows]
    await tell(w.connection, interface_notices(versions, partner_ids, w.now))
    names = frozenset(interface.interface_name for interface in new)
    await announce(w.connection, RoutingChange(interfaces=names))
    return rows


def render_interface(row: Any) -> interface_pb2.Interface:
    """Give one version with its methods and labels."""
    interface = interface_pb2.Interface(
        interface_name=row.interface_name,
        version=row.version,
        title=row.title,
        category=row.category,
        implemented_by=row.implemented_by,
        called_by=row.called_by,
        methods=[interface_pb2.InterfaceMethod(**method) for method in row.methods],
        digest=row.digest,
        publish_time=timestamp(row.published_at),
        current=row.current_at is not None,
    )
    if row.deprecated_at is not None:
        interface.deprecate_time.CopyFrom(timestamp(row.deprecated_at))
    return interface


def _method(method: MethodRules) -> dict[str, Any]:
    return {
        "path": method.path,
        "route": int(method.route),
        "client_streaming": method.client_streaming,
        "server_streaming": method.server_streaming,
        "side_effects": method.side_effects,
    }
