"""What becomes of a published set: rows of the catalogue, notices, and news for the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gem.marketplace.v1 import interface_pb2
from marketplace.new_interface import NewInterface
from marketplace.notice import interface_notices
from marketplace.rendering import timestamp
from marketplace.router.method_rules import InterfaceRules
from marketplace.routing_change import RoutingChange
from marketplace.storage_command import Work
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_notice import active_partners, tell
from marketplace.storage_routing import announce

#: Compiles a descriptor set; raises MarketError INTERFACE_INVALID with every finding.
Compile = Callable[[bytes], tuple[InterfaceRules, ...]]


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
