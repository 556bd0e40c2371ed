"""A caller that speaks HTTP/2 as it likes: frames by hand, behind a certificate in good order."""

from __future__ import annotations

import asyncio
import ssl
import struct
from contextlib import suppress
from pathlib import Path
from typing import Self

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 8, 9,
)  # fmt: skip
END_STREAM, END_HEADERS = 1, 4
_FRAME_BYTES = 16_000
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


class Frames:
    """Frames of one connection's calls, made before it opens: making them costs more than serving.

    Header compression has a state, so the frames go out in the order in which they were made.
    """

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._next_stream = 1
        self._parts = [PREFACE, frame(SETTINGS, 0, 0)]

    def call(
        self, headers: list[Header], *body: bytes, ends: bool = True, resets: bool = False
    ) -> Self:
        """Add a call with its request in pieces; `ends` half-closes it, `resets` cancels it."""
        stream_id, self._next_stream = self._next_stream, self._next_stream + 2
        block = self._encoder.encode(headers, huffman=False)
        pieces = [block[at : at + _FRAME_BYTES] for at in range(0, len(block), _FRAME_BYTES)]
        for number, piece in enumerate(pieces):
            flags = END_HEADERS if number == len(pieces) - 1 else 0
            self._parts.append(frame(CONTINUATION if number else HEADERS, flags, stream_id, piece))
        for message_part in body:
            for at in range(0, len(message_part), _FRAME_BYTES):
                self._parts.append(frame(DATA, 0, stream_id, message_part[at : at + _FRAME_BYTES]))
        if ends:
            self._parts.append(frame(DATA, END_STREAM, stream_id))
        if resets:
            self._parts.append(frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08"))
        return self

    def raw(self, frames: bytes) -> Self:
        """Add frames as they are."""
        self._parts.append(frames)
        return self

    def bytes(self) -> bytes:
        """Give all of it."""
        return b"".join(self._parts)


async def attack(
    port: int, folder: Path, sent: bytes, stay_s: float = 0.02, name: str = "hostile"
) -> None:
    """Connect, send, stay a while, and break off; the other side's refusals are no errors.

    `folder` holds `root.pem` of the server's authority and the attacker's `<name>.key` and `.pem`.
    """
    context = ssl.create_default_context(cafile=str(folder / "root.pem"))
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    context.set_alpn_protocols(["h2"])
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
    except OSError as error:
        if isinstance(error, ConnectionRefusedError):
            raise
        return
    try:
        async with asyncio.timeout(stay_s + 1.0):
            writer.write(sent)
            await writer.drain()
            async with asyncio.timeout(stay_s):
                while await reader.read(65_536):
                    pass
    except (OSError, TimeoutError):
        pass
    finally:
        await break_off(writer)


async def break_off(writer: asyncio.StreamWriter) -> None:
    """End a connection without a farewell."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
