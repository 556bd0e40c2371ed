"""Files of services as the command line moves them: in pieces, and on after a break."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from grpc import StatusCode, aio

from gem.common.v1 import paging_pb2
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import service_content_pb2 as wire
from gemarket.administration import new_request_id

if TYPE_CHECKING:
    # The stub with awaitable methods is a type only: at run time it is ServiceRegistryServiceStub.
    from gem.marketplace.v1.service_registry_service_pb2_grpc import (
        ServiceRegistryServiceAsyncStub,
    )

TIMEOUT_S = 60.0
TRANSFER_TIMEOUT_S = 1800.0
#: Calls in a row that move nothing before a transfer gives up.
FRUITLESS_MAX = 3
_PIECE_BYTES = 262_144
_PAGE_SIZE = 1000
_BROKEN = {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.ABORTED}
_GOING_ON = wire.SERVICE_FILE_STATE_UPLOADING
KINDS = {
    "manual": wire.SERVICE_FILE_KIND_MANUAL,
    "description": wire.SERVICE_FILE_KIND_DESCRIPTION,
    "specification": wire.SERVICE_FILE_KIND_SPECIFICATION,
    "other": wire.SERVICE_FILE_KIND_OTHER,
}
_MARKDOWN = {".md": "text/markdown", ".yaml": "application/yaml", ".yml": "application/yaml"}

#: Told how many bytes are there, and of how many.
Progress = Callable[[int, int], None]


def kind_of(name: str) -> wire.ServiceFileKind.ValueType:
    """Read the name of a kind; ValueError with the known ones."""
    if name not in KINDS:
        raise ValueError(f"there is no kind {name!r}; there are: {', '.join(KINDS)}")
    return KINDS[name]


def media_type_of(file: Path) -> str:
    """Give the media type that a file's name stands for."""
    guessed, _ = mimetypes.guess_type(file.name)
    return _MARKDOWN.get(file.suffix.lower()) or guessed or "application/octet-stream"


async def upload(
    stub: ServiceRegistryServiceAsyncStub,
    service_id: str,
    file: Path,
    kind: wire.ServiceFileKind.ValueType,
    media_type: str,
    progress: Progress,
) -> wire.ServiceFile:
    """Upload a file; the same file uploaded again goes on where it broke, and is stored once.

    Raises `grpc.aio.AioRpcError` or OSError.
    """
    digest, size = _digest(file), _size(file)
    begin = wire.BeginServiceFileUploadRequest(
        request_id=hashlib.sha256(digest + f"{service_id}/{file.name}".encode()).hexdigest()[:32],
        service_id=service_id,
        name=file.name,
        kind=kind,
        media_type=media_type,
        size_bytes=size,
        digest=digest,
    )
    now = await _begun(stub, begin)
    fruitless = 0
    while now.file.state == _GOING_ON:
        progress(now.received_bytes, size)
        at = now.received_bytes
        pieces = _pieces(file, now.file.file_id, at, size, progress)
        try:
            now = (await stub.UploadServiceFile(pieces, timeout=TRANSFER_TIMEOUT_S)).upload
            fruitless = _fruitless(fruitless, now.received_bytes > at)
        except aio.AioRpcError as error:
            now = await _received(stub, now.file.file_id, error)
            fruitless = fruitless + 1 if now.received_bytes <= at else 0
            if error.code() not in _BROKEN or fruitless >= FRUITLESS_MAX:
                raise
    progress(size, size)
    return now.file


async def download(
    stub: ServiceRegistryServiceAsyncStub,
    file: wire.ServiceFile,
    target: Path,
    progress: Progress,
) -> None:
    """Download a file, on from what an earlier attempt left; it gets its name when it is whole.

    Raises `grpc.aio.AioRpcError`, OSError, or ValueError where what came is not the file.
    """
    scratch = target.with_name(f".{target.name}.{file.digest.hex()[:16]}.part")
    fruitless = 0
    with scratch.open("ab") as output:
        while (at := output.tell()) < file.size_bytes:
            try:
                await _receive(stub, file, output, progress)
                fruitless = _fruitless(fruitless, output.tell() > at)
            except aio.AioRpcError as error:
                fruitless = fruitless + 1 if output.tell() <= at else 0
                if error.code() not in _BROKEN or fruitless >= FRUITLESS_MAX:
                    raise
    if _digest(scratch) != file.digest:
        scratch.unlink()
        raise ValueError("what came is not the file: its SHA-256 differs; download it again")
    scratch.replace(target)


def _fruitless(before: int, moved: bool) -> int:
    """Count calls in a row that end well and move nothing; ValueError for too many."""
    count = 0 if moved else before + 1
    if count >= FRUITLESS_MAX:
        raise ValueError("the market ends each transfer before anything has come through")
    return count


async def files_of(
    stub: ServiceRegistryServiceAsyncStub, service_id: str
) -> list[wire.ServiceFile]:
    """List the stored files of a service by name."""
    found: list[wire.ServiceFile] = []
    page = paging_pb2.PageRequest(page_size=_PAGE_SIZE)
    while True:
        request = wire.ListServiceFilesRequest(service_id=service_id, page=page)
        answer = await stub.ListServiceFiles(request, timeout=TIMEOUT_S)
        found += answer.files
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return found


async def file_named(
    stub: ServiceRegistryServiceAsyncStub, service_id: str, name: str
) -> wire.ServiceFile:
    """Give a stored file by its name; ValueError where the service has none of that name."""
    for file in await files_of(stub, service_id):
        if file.name == name:
            return file
    raise ValueError(f"the service has no file {name!r}")


async def upload_specification(
    stub: ServiceRegistryServiceAsyncStub, service_id: str, folder: Path, description: str
) -> wire.UploadServiceSpecificationResponse:
    """Upload all `.proto` files below a folder; ValueError where there is none."""
    files = _sources(folder)
    if not files:
        raise ValueError(f"there is no .proto file below {folder}")
    requests = _specification(service_id, folder, files, description)
    return await stub.UploadServiceSpecification(requests, timeout=TIMEOUT_S)


async def download_documents(
    stub: ServiceRegistryServiceAsyncStub, service_id: str, folder: Path, *, all_files: bool
) -> int:
    """Write the interface's sources and the files of a service below a folder; gives how many.

    Raises `grpc.aio.AioRpcError`, OSError, or ValueError for a name that leads out of the folder.
    """
    request = wire.DownloadServiceDocumentsRequest(service_id=service_id, all_files=all_files)
    written: set[Path] = set()
    current: Path | None = None
    async for piece in stub.DownloadServiceDocuments(request, timeout=TRANSFER_TIMEOUT_S):
        part = piece.WhichOneof("part")
        if part == "contents":
            continue
        if part == "content":
            content = piece.content
        else:
            name = piece.file.name if part == "file" else f"proto/{piece.source_part.name}"
            current, content = _below(folder, name), piece.source_part.content
        if current is None:
            raise ValueError("the market sent content of a file that it has not named")
        current.parent.mkdir(parents=True, exist_ok=True)
        with current.open("ab" if current in written else "wb") as output:
            output.write(content)
        written.add(current)
    return len(written)


async def _begun(
    stub: ServiceRegistryServiceAsyncStub, begin: wire.BeginServiceFileUploadRequest
) -> wire.ServiceFileUpload:
    """Give the upload that was begun before, or a new one where that one is gone."""
    first = (await stub.BeginServiceFileUpload(begin, timeout=TIMEOUT_S)).upload
    now = await _received(stub, first.file.file_id, None)
    if now.file.state in (wire.SERVICE_FILE_STATE_UPLOADING, wire.SERVICE_FILE_STATE_STORED):
        return now
    begin.request_id = new_request_id()
    return (await stub.BeginServiceFileUpload(begin, timeout=TIMEOUT_S)).upload


async def _received(
    stub: ServiceRegistryServiceAsyncStub, file_id: str, broken: aio.AioRpcError | None
) -> wire.ServiceFileUpload:
    """Ask how far an upload is; where nobody answers, what broke the upload is the reason."""
    request = wire.GetServiceFileUploadRequest(file_id=file_id)
    try:
        return (
            await stub.GetServiceFileUpload(request, timeout=TIMEOUT_S, wait_for_ready=True)
        ).upload
    except aio.AioRpcError:
        if broken is None:
            raise
        raise broken from None


async def _receive(
    stub: ServiceRegistryServiceAsyncStub,
    file: wire.ServiceFile,
    output: BinaryIO,
    progress: Progress,
) -> None:
    request = wire.DownloadServiceFileRequest(file_id=file.file_id, offset_bytes=output.tell())
    call = stub.DownloadServiceFile(request, timeout=TRANSFER_TIMEOUT_S, wait_for_ready=True)
    async for piece in call:
        output.write(piece.content)
        progress(output.tell(), file.size_bytes)
        if output.tell() > file.size_bytes:
            call.cancel()  # What is too long is not the file, however long it is.
            return


def _pieces(
    file: Path, file_id: str, at: int, size: int, progress: Progress
) -> Iterator[wire.UploadServiceFileRequest]:
    request_id = new_request_id()
    with file.open("rb") as source:
        source.seek(at)
        while True:
            content = source.read(_PIECE_BYTES)
            yield wire.UploadServiceFileRequest(
                request_id=request_id, file_id=file_id, offset_bytes=at, content=content
            )
            at += len(content)
            progress(at, size)
            if not content or at >= size:
                return


def _specification(
    service_id: str, folder: Path, files: list[Path], description: str
) -> Iterator[wire.UploadServiceSpecificationRequest]:
    request_id = new_request_id()
    header = wire.ServiceSpecificationHeader(service_id=service_id, description=description)
    yield wire.UploadServiceSpecificationRequest(request_id=request_id, header=header)
    for file in files:
        name, content = file.relative_to(folder).as_posix(), file.read_bytes()
        for start in range(0, len(content) or 1, _PIECE_BYTES):
            part = catalog.SourcePart(name=name, content=content[start : start + _PIECE_BYTES])
            yield wire.UploadServiceSpecificationRequest(request_id=request_id, source_part=part)


def _below(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or (os.sep != "/" and os.sep in name):
        raise ValueError("the market sent a name that leads out of the folder")
    return folder / path


def _sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.proto"))


def _size(file: Path) -> int:
    return file.stat().st_size


def _digest(file: Path) -> bytes:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").digest()
