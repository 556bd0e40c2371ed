"""A caller that speaks HTTP/2 as it likes: frames by hand, behind a certificate that is in order."""

from __future__ import annotations

import asyncio
import ssl
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 8, 9,
)  # fmt: skip
END_STREAM, END_HEADERS = 1, 4
Header = tuple[bytes, bytes]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Make one frame, sound or not."""
    return (
        struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload
    )


def message(payload: bytes, compressed: int = 0, length: int | None = None) -> bytes:
    """Make one gRPC message, with a length that may lie."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


def headers_of(path: bytes, *further: Header, method: bytes = b"POST") -> list[Header]:
    """Give the headers of a call."""
    return [
        (b":method", method),
        (b":scheme", b"https"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *further,
    ]


class HostileClient:
    """One connection; `send` never waits for an answer, and the other side's end is no error."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder
        self._encoder = Encoder()
        self._next_stream = 1

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self._folder / "root.pem"))
        context.load_cert_chain(self._folder / "hostile.pem", self._folder / "hostile.key")
        context.set_alpn_protocols(["h2"])
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=context, server_hostname="localhost"
        )
        self._drain = asyncio.create_task(self._read_all())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drain.cancel()
        self.writer.transport.abort()
        await asyncio.sleep(0)

    async def send(self, *frames: bytes) -> bool:
        """Send frames; says whether the connection still takes them."""
        if self.writer.is_closing():
            return False
        try:
            self.writer.write(b"".join(frames))
            async with asyncio.timeout(2.0):
                await self.writer.drain()
        except (OSError, TimeoutError):
            return False
        return True

    async def greet(self) -> None:
        """Open the connection as HTTP/2 asks for."""
        await self.send(PREFACE, frame(SETTINGS, 0, 0))

    def open_call(self, headers: list[Header], flags: int = END_HEADERS) -> tuple[int, bytes]:
        """Give a new stream's number and its HEADERS frame."""
        stream_id, self._next_stream = self._next_stream, self._next_stream + 2
        block = self._encoder.encode(headers, huffman=False)
        return stream_id, frame(HEADERS, flags, stream_id, block)

    async def _read_all(self) -> None:
        try:
            while await self.reader.read(65_536):
                pass
        except OSError:
            pass
