"""InterfaceCatalogService: publishes, shows and hands out standard interfaces (use case 1493)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gem.marketplace.v1 import interface_catalog_service_pb2, interface_pb2
from interceptors.call import Call
from marketplace.notice import NoticeKind, interface_notices
from marketplace.rendering import timestamp
from marketplace.router.interface import compile_interface
from marketplace.router.method_rules import InterfaceRules, MethodRules
from marketplace.routing_change import RoutingChange
from marketplace.storage_command import Commands, Work
from marketplace.storage_interface import InterfaceStorage, NewInterface
from marketplace.storage_notice import subscribers_of, tell
from marketplace.storage_paging import page_by_text
from marketplace.storage_routing import announce

#: Size of the pieces of a download.
PART_BYTES = 65_536

#: Compiles a descriptor set; raises MarketError INTERFACE_INVALID with every finding.
Compile = Callable[[bytes], tuple[InterfaceRules, ...]]


class InterfaceCatalogServicer:
    """Serves `gem.marketplace.v1.InterfaceCatalogService`."""

    def __init__(self, commands: Commands, compile_set: Compile = compile_interface) -> None:
        self._commands = commands
        self._compile = compile_set

    async def PublishInterface(  # noqa: N802  # the rpc's name
        self, request: interface_catalog_service_pb2.PublishInterfaceRequest, call: Call
    ) -> interface_catalog_service_pb2.PublishInterfaceResponse:
        """Publish every standard interface of a descriptor set as its next version."""
        raw = request.descriptor_set
        rules = await asyncio.to_thread(self._compile, raw)
        digest = await asyncio.to_thread(normal_digest, raw)

        async def work(w: Work) -> interface_catalog_service_pb2.PublishInterfaceResponse:
            new = [_new_interface(interface) for interface in rules]
            storage = InterfaceStorage(w.connection)
            rows = await storage.publish(digest, raw, new, w.actor, w.now)
            subscribers = await subscribers_of(w.connection, NoticeKind.INTERFACE_PUBLISHED)
            versions = [(row.interface_name, row.version) for row in rows]
            await tell(w.connection, interface_notices(versions, subscribers, w.now))
            names = frozenset(interface.interface_name for interface in new)
            await announce(w.connection, RoutingChange(interfaces=names))
            return interface_catalog_service_pb2.PublishInterfaceResponse(
                interfaces=map(_render, rows)
            )

        response = interface_catalog_service_pb2.PublishInterfaceResponse
        return await self._commands.run(request, call, response, work)

    async def GetInterface(  # noqa: N802  # the rpc's name
        self, request: interface_catalog_service_pb2.GetInterfaceRequest, call: Call
    ) -> interface_catalog_service_pb2.GetInterfaceResponse:
        """Give one version of an interface with its methods."""
        async with self._commands.read(call) as w:
            storage = InterfaceStorage(w.connection)
            row = await storage.get(request.interface_name, request.version)
        return interface_catalog_service_pb2.GetInterfaceResponse(interface=_render(row))

    async def ListInterfaces(  # noqa: N802  # the rpc's name
        self, request: interface_catalog_service_pb2.ListInterfacesRequest, call: Call
    ) -> interface_catalog_service_pb2.ListInterfacesResponse:
        """List the newest version of each interface by name."""
        page = page_by_text(request.page)
        async with self._commands.read(call) as w:
            rows, info = await InterfaceStorage(w.connection).page(page, request.category)
        interfaces = [_render(row) for row in rows]
        for interface in interfaces:
            del interface.methods[:]
        return interface_catalog_service_pb2.ListInterfacesResponse(
            interfaces=interfaces, page=info
        )

    async def DownloadInterface(  # noqa: N802  # the rpc's name
        self, request: interface_catalog_service_pb2.DownloadInterfaceRequest, call: Call
    ) -> AsyncIterator[interface_catalog_service_pb2.DownloadInterfaceResponse]:
        """Hand out the descriptor set of a version in pieces."""
        async with self._commands.read(call) as w:
            storage = InterfaceStorage(w.connection)
            row = await storage.get(request.interface_name, request.version)
            content = await storage.descriptor_set(row.publication_id)
        for start in range(0, len(content), PART_BYTES):
            part = content[start : start + PART_BYTES]
            yield interface_catalog_service_pb2.DownloadInterfaceResponse(descriptor_set_part=part)


def normal_digest(descriptor_set: bytes) -> bytes:
    """Give SHA-256 of a set that parses: without source info, files by name."""
    files = FileDescriptorSet.FromString(descriptor_set).file
    for file in files:
        file.ClearField("source_code_info")
    ordered = FileDescriptorSet(file=sorted(files, key=lambda file: file.name))
    return hashlib.sha256(ordered.SerializeToString(deterministic=True)).digest()


def _new_interface(rules: InterfaceRules) -> NewInterface:
    return NewInterface(
        interface_name=rules.name,
        title=rules.title,
        category=rules.category,
        implemented_by=tuple(sorted(rules.implemented_by)),
        called_by=tuple(sorted(rules.called_by)),
        methods=tuple(map(_method, rules.methods.values())),
    )


def _method(method: MethodRules) -> dict[str, Any]:
    return {
        "path": method.path,
        "route": int(method.route),
        "client_streaming": method.client_streaming,
        "server_streaming": method.server_streaming,
        "side_effects": method.side_effects,
    }


def _render(row: Any) -> interface_pb2.Interface:
    return interface_pb2.Interface(
        interface_name=row.interface_name,
        version=row.version,
        title=row.title,
        category=row.category,
        implemented_by=row.implemented_by,
        called_by=row.called_by,
        methods=[interface_pb2.InterfaceMethod(**method) for method in row.methods],
        digest=row.digest,
        publish_time=timestamp(row.published_at),
    )
