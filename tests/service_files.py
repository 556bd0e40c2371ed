"""Files as providers upload them, and specifications, in the pieces of the wire."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import service_content_pb2 as wire
from gemarket.administration import new_request_id
from marketplace.service_content import PART_BYTES


def content_of(size_bytes: int, seed: int = 0) -> bytes:
    """Give bytes in which no part is like another."""
    block = hashlib.sha256(str(seed).encode()).digest()
    blocks = (hashlib.sha256(block + n.to_bytes(8)).digest() for n in range(size_bytes // 32 + 1))
    return b"".join(blocks)[:size_bytes]


def announced(
    service_id: str, content: bytes, name: str = "manual.pdf", **fields: object
) -> wire.BeginServiceFileUploadRequest:
    """Announce a file."""
    values = {
        "request_id": new_request_id(),
        "service_id": service_id,
        "name": name,
        "kind": wire.SERVICE_FILE_KIND_MANUAL,
        "media_type": "application/pdf",
        "size_bytes": len(content),
        "digest": hashlib.sha256(content).digest(),
    }
    return wire.BeginServiceFileUploadRequest(**{**values, **fields})  # type: ignore[arg-type]  # fields of the message


def in_pieces(
    file_id: str, content: bytes, offset_bytes: int = 0, piece_bytes: int = PART_BYTES
) -> Iterator[wire.UploadServiceFileRequest]:
    """Give the messages that go on with an upload; one without content at its end."""
    request_id = new_request_id()
    for start in range(offset_bytes, max(len(content), offset_bytes + 1), piece_bytes):
        yield wire.UploadServiceFileRequest(
            request_id=request_id,
            file_id=file_id,
            offset_bytes=start,
            content=content[start : start + piece_bytes],
        )


def specification(
    service_id: str,
    files: Mapping[str, bytes],
    request_id: str = "",
    *,
    description: str = "What it does.",
    digest: bytes = b"",
) -> Iterator[wire.UploadServiceSpecificationRequest]:
    """Give the messages of an uploaded specification."""
    request_id = request_id or new_request_id()
    header = wire.ServiceSpecificationHeader(
        service_id=service_id, description=description, content_digest=digest
    )
    yield wire.UploadServiceSpecificationRequest(request_id=request_id, header=header)
    for name, content in files.items():
        for start in range(0, len(content), 500):
            part = catalog.SourcePart(name=name, content=content[start : start + 500])
            yield wire.UploadServiceSpecificationRequest(request_id=request_id, source_part=part)
