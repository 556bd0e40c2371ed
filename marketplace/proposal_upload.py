"""An upload as it comes in pieces: a header, then source files or a descriptor set, all bounded."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.interface_catalog_service_pb2 import (
    ProposalHeader,
    ProposeInterfaceRequest,
    SourcePart,
)
from gem.mesh.v1.error_reason_pb2 import ErrorReason

UPLOAD_BYTES_MAX = 1_000_000
FILES_MAX = 200
MESSAGES_MAX = 2_000


@dataclass(slots=True)
class Upload:
    """What an author sent; names and contents are unchecked."""

    request_id: str
    header: ProposalHeader
    #: Source files by name, in the order in which they came.
    sources: dict[str, bytearray] = field(default_factory=dict)
    descriptor_set: bytearray = field(default_factory=bytearray)
    digest: bytes = b""

    def command(self) -> ProposeInterfaceRequest:
        """Give the one message that stands for the upload: equal for equal uploads."""
        named = hashlib.sha256(self.digest)
        for name, content in self.sources.items():
            named.update(f"{len(name)}:{len(content)}:{name}".encode())
        header = ProposalHeader(note=self.header.note, content_digest=named.digest())
        return ProposeInterfaceRequest(request_id=self.request_id, header=header)


async def read_upload(requests: AsyncIterator[ProposeInterfaceRequest]) -> Upload:
    """Read a whole upload.

    Raises:
        MarketError: REQUEST_INVALID where pieces are out of order, missing or mixed, or differ from
            the header's digest; REQUEST_TOO_LARGE where they are too many.
    """
    upload: Upload | None = None
    digest, size, count, last = hashlib.sha256(), 0, 0, ""
    async for request in requests:
        count += 1
        kind = request.WhichOneof("part")
        if upload is None:
            if kind != "header":
                raise _refused("header", "must be in the first message")
            upload = Upload(request.request_id, request.header)
            continue
        if request.request_id != upload.request_id:
            raise _refused("request_id", "must be the same in every message")
        if kind == "source_part":
            piece = request.source_part.content
            last = _add_source(upload, request.source_part, last)
        elif kind == "descriptor_set_part":
            piece = request.descriptor_set_part
            upload.descriptor_set += piece
        else:
            raise _refused("part", "must be a piece of a file after the first message")
        digest.update(piece)
        size += len(piece)
        if size > UPLOAD_BYTES_MAX or count > MESSAGES_MAX or len(upload.sources) > FILES_MAX:
            raise _too_large()
    if upload is None:
        raise _refused("header", "must be in the first message")
    upload.digest = digest.digest()
    _check_whole(upload)
    return upload


def _add_source(upload: Upload, part: SourcePart, last: str) -> str:
    if part.name != last and part.name in upload.sources:
        raise _refused("source_part.name", "all pieces of a file follow each other")
    upload.sources.setdefault(part.name, bytearray()).extend(part.content)
    return part.name


def _check_whole(upload: Upload) -> None:
    if bool(upload.sources) == bool(upload.descriptor_set):
        raise _refused("part", "an upload has either source files or a descriptor set")
    if upload.header.content_digest not in (b"", upload.digest):
        raise _refused("header.content_digest", "must be the SHA-256 of all pieces")


def _refused(field_path: str, description: str) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The upload is not complete or not in order: nothing was kept.",
        violations=(FieldViolation(field_path, description, "upload"),),
    )


def _too_large() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
        f"An upload has at most {UPLOAD_BYTES_MAX} bytes, {FILES_MAX} files and"
        f" {MESSAGES_MAX} messages.",
    )
