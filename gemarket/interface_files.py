"""Files of interfaces between a disk and the catalogue: trees of sources and descriptor sets."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog

_PART_BYTES = 65_536
#: What is larger is no interface; the marketplace takes less still.
_TOTAL_MAX_BYTES = 64 << 20
Progress = Callable[[int], None]


def read_proposal(path: Path) -> dict[str, bytes]:
    """Read a tree of `.proto` files by relative name, or a descriptor set under the empty name.

    Raises:
        ValueError: The folder has no such file, or what is there is too large.
        OSError: Something cannot be read.
    """
    if path.is_dir():
        found = {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*.proto"))
        }
    else:
        found = {"": path.read_bytes()}
    if not found:
        raise ValueError(f"{path} has no .proto file")
    if sum(map(len, found.values())) > _TOTAL_MAX_BYTES:
        raise ValueError(f"{path} is too large for a proposal")
    return found


def upload_messages(
    files: dict[str, bytes], request_id: str, note: str
) -> Iterator[catalog.ProposeInterfaceRequest]:
    """Give the messages of an upload: the header with the digest of all that follows, pieces."""
    digest = hashlib.sha256(b"".join(files.values())).digest()
    header = catalog.ProposalHeader(note=note, content_digest=digest)
    yield catalog.ProposeInterfaceRequest(request_id=request_id, header=header)
    for name, content in files.items():
        # An empty file is one empty piece.
        for start in range(0, len(content) or 1, _PART_BYTES):
            piece = content[start : start + _PART_BYTES]
            message = catalog.ProposeInterfaceRequest(request_id=request_id)
            if name:
                message.source_part.CopyFrom(catalog.SourcePart(name=name, content=piece))
            else:
                message.descriptor_set_part = piece
            yield message


async def write_download(pieces: AsyncIterator[Any], target: Path, progress: Progress) -> int:
    """Write what is downloaded: a tree below `target`, or the file `target`; gives its bytes.

    Nothing is written before all has come.

    Raises:
        ValueError: A name leads out of the folder, or there is too much.
        OSError: Something cannot be written.
    """
    files: dict[str, bytearray] = {}
    size = 0
    async for piece in pieces:
        part = piece.source_part
        content = part.content or piece.descriptor_set_part
        files.setdefault(part.name, bytearray()).extend(content)
        size += len(content)
        if size > _TOTAL_MAX_BYTES:
            raise ValueError("there is more than an interface can have")
        progress(size)
    for name, whole in files.items():
        file = target / _inside(name) if name else target
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(whole)
    return size


def _inside(name: str) -> PurePosixPath:
    """Give a relative name that leads nowhere but down; ValueError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError("a name among the files leads out of the folder")
    return path
