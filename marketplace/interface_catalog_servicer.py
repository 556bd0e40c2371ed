"""InterfaceCatalogService: publishes, shows and hands out standard interfaces (1493, 1475-1487)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from typing import Any

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.interface_download import pieces
from marketplace.interface_proposal_servicer import InterfaceProposalServicer
from marketplace.interface_publication import Compile, publish, render_interface
from marketplace.interface_text import describe
from marketplace.new_interface import new_interface, normal_digest
from marketplace.proposal_compiler import ProposalCompiler
from marketplace.router.interface import compile_interface
from marketplace.routing_change import RoutingChange
from marketplace.service_registry_servicer import check_visible, new_id
from marketplace.storage_command import Commands, Work
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_interface_label import CURRENT, DEPRECATED, InterfaceLabelStorage
from marketplace.storage_paging import page_by_text
from marketplace.storage_routing import announce
from marketplace.storage_service import ServiceStorage


class InterfaceCatalogServicer(InterfaceProposalServicer):
    """Serves `gem.marketplace.v1.InterfaceCatalogService`; proposals are in the class below it."""

    def __init__(
        self,
        commands: Commands,
        compile_set: Compile = compile_interface,
        compiler: ProposalCompiler | None = None,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        super().__init__(commands, compiler or ProposalCompiler(), compile_set, make_id)

    async def PublishInterface(  # noqa: N802  # the rpc's name
        self, request: catalog.PublishInterfaceRequest, call: Call
    ) -> catalog.PublishInterfaceResponse:
        """Publish every standard interface of a descriptor set as its next version."""
        raw = request.descriptor_set
        rules = await asyncio.to_thread(self._compile, raw)
        digest = await asyncio.to_thread(normal_digest, raw)

        async def work(w: Work) -> catalog.PublishInterfaceResponse:
            rows = await publish(w, digest, raw, [new_interface(each) for each in rules])
            return catalog.PublishInterfaceResponse(interfaces=map(render_interface, rows))

        response = catalog.PublishInterfaceResponse
        return await self._commands.run(request, call, response, work)

    async def GetInterface(  # noqa: N802  # the rpc's name
        self, request: catalog.GetInterfaceRequest, call: Call
    ) -> catalog.GetInterfaceResponse:
        """Give one version of an interface with its methods."""
        async with self._commands.read(call) as w:
            storage = InterfaceStorage(w.connection)
            row = await storage.get(request.interface_name, request.version)
        return catalog.GetInterfaceResponse(interface=render_interface(row))

    async def ListInterfaces(  # noqa: N802  # the rpc's name
        self, request: catalog.ListInterfacesRequest, call: Call
    ) -> catalog.ListInterfacesResponse:
        """List the newest version of each interface by name."""
        page = page_by_text(request.page)
        async with self._commands.read(call) as w:
            storage = InterfaceStorage(w.connection)
            rows, info = await storage.page(page, request.category, request.text)
        interfaces = [render_interface(row) for row in rows]
        for interface in interfaces:
            del interface.methods[:]
        return catalog.ListInterfacesResponse(interfaces=interfaces, page=info)

    async def DescribeInterface(  # noqa: N802  # the rpc's name
        self, request: catalog.DescribeInterfaceRequest, call: Call
    ) -> catalog.DescribeInterfaceResponse:
        """Render a version of an interface as text."""
        async with self._commands.read(call) as w:
            raw = await _files(w, request.interface_name, request.version)
        text = await asyncio.to_thread(describe, raw, [request.interface_name])
        return catalog.DescribeInterfaceResponse(text=text)

    async def DownloadInterface(  # noqa: N802  # the rpc's name
        self, request: catalog.DownloadInterfaceRequest, call: Call
    ) -> AsyncIterator[catalog.DownloadInterfaceResponse]:
        """Hand out the files of a version in pieces."""
        async with self._commands.read(call) as w:
            raw = await _files(w, request.interface_name, request.version)
        async for piece in pieces(raw, request.form, catalog.DownloadInterfaceResponse):
            yield piece

    async def DownloadServiceSpecification(  # noqa: N802  # the rpc's name
        self, request: catalog.DownloadServiceSpecificationRequest, call: Call
    ) -> AsyncIterator[catalog.DownloadServiceSpecificationResponse]:
        """Hand out the files of the interface that a service implements."""
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            check_visible(service, w.actor)
            raw = await _files(w, service.interface_name, service.interface_version)
        response = catalog.DownloadServiceSpecificationResponse
        async for piece in pieces(raw, request.form, response):
            yield piece

    async def LabelInterface(  # noqa: N802  # the rpc's name
        self, request: catalog.LabelInterfaceRequest, call: Call
    ) -> catalog.LabelInterfaceResponse:
        """Move a label to a version; the current one is routed from then on."""
        current = request.label == interface_pb2.INTERFACE_LABEL_CURRENT
        if current and request.HasField("effective_time"):
            raise _refused_time()

        async def work(w: Work) -> catalog.LabelInterfaceResponse:
            storage = InterfaceStorage(w.connection)
            await storage.lock()
            row = await storage.get(request.interface_name, request.version)
            if row.current_at is not None or (current and row.deprecated_at is not None):
                raise _refused_label()
            effective = w.now
            if request.HasField("effective_time"):
                effective = request.effective_time.ToDatetime(UTC)
            label = CURRENT if current else DEPRECATED
            key = (label, row.interface_name, row.version)
            await InterfaceLabelStorage(w.connection).move(*key, effective, w.actor, w.now)
            after = await storage.get(row.interface_name, row.version)
            if current:
                change = RoutingChange(interfaces=frozenset({row.interface_name}))
                await announce(w.connection, change)
            return catalog.LabelInterfaceResponse(interface=render_interface(after))

        response = catalog.LabelInterfaceResponse
        return await self._commands.run(request, call, response, work)

    async def UnlabelInterface(  # noqa: N802  # the rpc's name
        self, request: catalog.UnlabelInterfaceRequest, call: Call
    ) -> catalog.UnlabelInterfaceResponse:
        """Take the deprecation of a version back."""

        async def work(w: Work) -> catalog.UnlabelInterfaceResponse:
            storage = InterfaceStorage(w.connection)
            await storage.lock()
            row = await storage.get(request.interface_name, request.version)
            labels = InterfaceLabelStorage(w.connection)
            key = (DEPRECATED, row.interface_name, row.version)
            if not await labels.remove(*key, w.actor, w.now):
                raise _refused_label()
            after = await storage.get(row.interface_name, row.version)
            return catalog.UnlabelInterfaceResponse(interface=render_interface(after))

        response = catalog.UnlabelInterfaceResponse
        return await self._commands.run(request, call, response, work)


async def _files(w: Work, interface_name: str, version: int) -> bytes:
    storage = InterfaceStorage(w.connection)
    row: Any = await storage.get(interface_name, version)
    return await storage.descriptor_set(row.publication_id)


def _refused_label() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
        "The version's labels do not allow it: the current version is not deprecated, and a"
        " deprecated one is not made current.",
    )


def _refused_time() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The label `current` moves at once.",
        violations=(FieldViolation("effective_time", "must be unset", "label"),),
    )
