"""Files of the catalogue in pieces: as a descriptor set or as a tree of sources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from marketplace.proto_source import source_tree

#: Size of the pieces of a download.
PART_BYTES = 65_536

Piece = TypeVar(
    "Piece",
    catalog.DownloadInterfaceResponse,
    catalog.DownloadProposalResponse,
    catalog.DownloadServiceSpecificationResponse,
)


async def pieces(
    descriptor_set: bytes, form: catalog.DownloadForm.ValueType, response: type[Piece]
) -> AsyncIterator[Piece]:
    """Give a set in the form that is asked for, in pieces."""
    if form != catalog.DOWNLOAD_FORM_SOURCES:
        for start in range(0, len(descriptor_set), PART_BYTES):
            yield response(descriptor_set_part=descriptor_set[start : start + PART_BYTES])
        return
    tree = await asyncio.to_thread(source_tree, descriptor_set)
    for name, text in tree.items():
        content = text.encode()
        for start in range(0, len(content), PART_BYTES):
            part = catalog.SourcePart(name=name, content=content[start : start + PART_BYTES])
            yield response(source_part=part)
