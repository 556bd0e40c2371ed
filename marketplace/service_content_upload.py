"""Receives the pieces of a file, part by part, and shows at the end that it is the one announced.

What is durable is whole parts, so an upload goes on after a break at the begin of a part. A whole
whose digest differs is not kept: nobody knows which of its bytes are wrong. Its upload stays open,
back at the beginning.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

from foundation.errors import MarketError
from gem.marketplace.v1 import service_content_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.service_content import (
    PART_BYTES,
    UPLOAD_IDLE,
    FileState,
    ServiceFile,
    check_continues,
    refused,
)
from marketplace.storage_command import Commands, conflict
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_content import ServiceContentStorage

#: A caller that sends nothing for so long goes on later, with another call.
_PIECE_TIMEOUT_S = 30.0


class ServiceFileUpload:
    """One call that goes on with an upload."""

    def __init__(self, commands: Commands, call: Call) -> None:
        self._commands = commands
        self._call = call
        self._buffer = bytearray()

    async def receive(self, requests: AsyncIterator[wire.UploadServiceFileRequest]) -> ServiceFile:
        """Take all pieces of the call; gives the file as it is then.

        Raises:
            MarketError: NOT_FOUND for another's upload; STATE_NOT_ALLOWED where it is over or at
                another place; REQUEST_INVALID for pieces out of order or a wrong digest; CONFLICT
                where another call goes on with it at the same time.
        """
        file: ServiceFile | None = None
        request_id, at = "", 0
        async for request in _paced(requests):
            if file is None:
                file = await self._opened(request)
                if file.state is FileState.STORED:
                    return file
                request_id, at = request.request_id, request.offset_bytes
            if (request.request_id, request.file_id) != (request_id, file.file_id):
                raise refused("file_id", "must be the same in every message, with request_id")
            if request.offset_bytes != at:
                raise refused("offset_bytes", "must be where the message before it ended")
            at += len(request.content)
            if at > file.size_bytes:
                raise refused("content", "must not be more than the size that was announced")
            self._buffer += request.content
            file = await self._kept(file)
        if file is None:
            raise refused("file_id", "must be in a first message")
        return await self._completed(file) if at == file.size_bytes else file

    async def _opened(self, request: wire.UploadServiceFileRequest) -> ServiceFile:
        async with self._commands.read(self._call) as w:
            file = await ServiceContentStorage(w.connection).get(request.file_id)
            if not w.actor.is_partner or w.actor.subject_id != file.provider_id:
                raise not_found("file")
        if file.state is not FileState.STORED:
            check_continues(file, request.offset_bytes)
        return file

    async def _kept(self, file: ServiceFile) -> ServiceFile:
        """Make whole parts of what has come, and the last part, durable."""
        while self._buffer:
            left = file.size_bytes - file.received_bytes
            if len(self._buffer) < min(PART_BYTES, left):
                break
            part = bytes(self._buffer[:PART_BYTES])
            async with self._commands.read(self._call) as w:
                storage = ServiceContentStorage(w.connection)
                if not await storage.append(file, part, w.now + UPLOAD_IDLE):
                    raise conflict()
            del self._buffer[:PART_BYTES]
            file = replace(file, received_bytes=file.received_bytes + len(part))
        return file

    async def _completed(self, file: ServiceFile) -> ServiceFile:
        """Store a file that is the one announced; else its upload is back at the beginning."""
        is_right = await self._digest(file) == file.digest
        async with self._commands.read(self._call) as w:
            await ServiceStorage(w.connection).locked(file.service_id)
            storage = ServiceContentStorage(w.connection)
            now_there = await storage.get(file.file_id, lock=True)
            if now_there.state is FileState.STORED:
                return now_there
            check_continues(now_there, file.size_bytes)
            if is_right:
                return await storage.store(now_there, w.actor.name, w.now)
            await storage.begin_again(now_there)
        raise refused("content", "must have the SHA-256 that was announced: begin again")

    async def _digest(self, file: ServiceFile) -> bytes:
        digest = hashlib.sha256()
        async for part in contents(self._commands, self._call, file, 0):
            await asyncio.to_thread(digest.update, part)
        return digest.digest()


async def contents(
    commands: Commands, call: Call, file: ServiceFile, offset_bytes: int
) -> AsyncIterator[bytes]:
    """Give a file's bytes from a place on, part by part; no transaction is open in between.

    Raises:
        MarketError: CONFLICT where the file was removed meanwhile.
    """
    at = offset_bytes
    while at < file.size_bytes:
        async with commands.read(call) as w:
            part = await ServiceContentStorage(w.connection).part(file.file_id, at)
        if part is None:
            raise conflict()
        piece = part[at % PART_BYTES :]
        yield piece
        at += len(piece)


async def _paced(
    requests: AsyncIterator[wire.UploadServiceFileRequest],
) -> AsyncIterator[wire.UploadServiceFileRequest]:
    """Give the messages of a caller that does not fall silent; MarketError BUDGET_EXCEEDED."""
    while True:
        try:
            async with asyncio.timeout(_PIECE_TIMEOUT_S):
                request = await anext(requests)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise MarketError(
                ErrorReason.ERROR_REASON_BUDGET_EXCEEDED,
                "No piece of the file came for a while: go on with another call.",
            ) from None
        yield request
