"""A provider that misbehaves in every way that a router has to survive.

It speaks HTTP/2 over real mutual TLS by hand (`h2`), so that it can break any rule of gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from tests.identities import Identity

_HEADERS = ((":status", "200"), ("content-type", "application/grpc"))
_OK = (("grpc-status", "0"),)
_BOMB_BYTES = 16 << 20


class Mode(StrEnum):
    """How the provider misbehaves."""

    HONEST = "honest"
    REFUSES = "refuses with a status of its own"
    FORGES_TRANSPORT_STATUS = "refuses in the words of a transport that could not connect"
    HANGS = "hangs"
    SLOW_DRIP = "sends a byte of its answer now and then"
    RST_AFTER_HEADER = "resets the stream after the header"
    RST_IN_DATA = "resets the stream within the answer"
    RST_REFUSED = "resets the stream as never processed"
    CLOSES_IN_DATA = "closes the connection within the answer"
    CLOSES_AT_ONCE = "closes the connection when it sees the request"
    CLOSES_TLS_ONLY = "says goodbye in TLS and leaves the connection open"
    GOAWAY = "says goodbye when it sees the request"
    GARBAGE_FRAMES = "sends bytes that are no frames"
    GARBAGE_MESSAGE = "sends a message that does not parse"
    WRONG_TYPE = "sends a message of another type"
    TWO_MESSAGES = "sends two messages where one is due"
    NO_MESSAGE = "ends with OK without a message"
    OVERSIZE = "sends more than the limit"
    OVERSIZE_LENGTH = "announces more than the limit and sends little"
    GZIP_BOMB = "sends a small message that inflates to 16 MiB"
    NO_TRAILERS = "ends the stream without trailers"
    HTTP_ERROR = "answers with a web page"
    HUGE_TRAILERS = "sends trailers of 40 kB"


@functools.cache
def _make_bomb() -> bytes:
    return gzip.compress(b"\x00" * _BOMB_BYTES, compresslevel=1)


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    """Put gRPC's five bytes before a message."""
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


def server_tls(identity: Identity, folder: Path) -> ssl.SSLContext:
    """Give the provider's side of mutual TLS; the key lies in `folder` for a moment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = folder / "provider.pem"
    pem.write_bytes(identity.key_pem + identity.chain_pem)
    context.load_cert_chain(pem)
    pem.unlink()
    context.load_verify_locations(cadata=identity.root_pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    return context


@dataclass
class HostileProvider:
    """One listener; every request that it gets is answered in the way of `mode`."""

    tls: ssl.SSLContext
    mode: Mode = Mode.HONEST
    #: What an honest answer would be.
    answer: bytes = b""
    #: Complete requests that arrived, without gRPC's prefix.
    requests: list[bytes] = field(default_factory=list)
    #: Metadata of the requests.
    metadata: list[Mapping[str, str]] = field(default_factory=list)
    #: Certificates in DER that the router presented, one for each connection.
    certificates: list[bytes] = field(default_factory=list)
    #: Streams that the router has reset.
    resets: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> str:
        """Listen; gives `host:port`."""
        if self.mode is Mode.GZIP_BOMB:
            _make_bomb()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close the listener and every connection."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # Aborted transports close their sockets in the next turn.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self.certificates.append(session.getpeercert(binary_form=True) or b"")
        try:
            await _Connection(self, reader, writer).run()
        except (OSError, h2.exceptions.ProtocolError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class _Connection:
    """One connection of the router."""

    def __init__(
        self, owner: HostileProvider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.owner, self.reader, self.writer = owner, reader, writer
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.bodies: dict[int, bytearray] = {}
        self.window = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self.h2.initiate_connection()
        self.flush()
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self.on_event(event)
                self.flush()
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.writer.write(data)

    def on_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.bodies[event.stream_id] = bytearray()
            self.owner.metadata.append({str(key): str(value) for key, value in event.headers})
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.WindowUpdated):
            self.window.set()
        elif isinstance(event, h2.events.StreamReset):
            self.owner.resets += 1
        elif isinstance(event, h2.events.StreamEnded):
            self.owner.requests.append(bytes(self.bodies.pop(event.stream_id)[5:]))
            task = asyncio.ensure_future(self.answer(event.stream_id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def answer(self, stream_id: int) -> None:
        # A stream or connection that the router has ended meanwhile ends the mischief.
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError):
            await _WAYS.get(self.owner.mode, _answers)(self, stream_id)
            self.flush()

    def headers(self, stream_id: int, *more: tuple[str, str]) -> None:
        self.h2.send_headers(stream_id, [*_HEADERS, *more])

    def trailers(self, stream_id: int, trailers: tuple[tuple[str, str], ...] = _OK) -> None:
        self.h2.send_headers(stream_id, list(trailers), end_stream=True)

    async def data(self, stream_id: int, data: bytes) -> None:
        while data:
            size = min(
                self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size
            )
            if size <= 0:
                self.window.clear()
                self.flush()
                await self.window.wait()
                continue
            self.h2.send_data(stream_id, data[:size])
            data = data[size:]
        self.flush()

    async def whole(self, stream_id: int, *bodies: bytes) -> None:
        self.headers(stream_id)
        for body in bodies:
            await self.data(stream_id, body)
        self.trailers(stream_id)


_Way = Callable[[_Connection, int], Awaitable[None]]


async def _answers(link: _Connection, stream_id: int) -> None:
    wrong = {
        Mode.GARBAGE_MESSAGE: b"\xff" * 40,
        Mode.WRONG_TYPE: b"\x08\x96\x01\x0a\x02\xff\xfe",
        Mode.OVERSIZE: b"\x00" * (8 << 20),
    }
    await link.whole(stream_id, framed(wrong.get(link.owner.mode, link.owner.answer)))


async def _refuses(link: _Connection, stream_id: int) -> None:
    text = "not today, says the provider"
    if link.owner.mode is Mode.FORGES_TRANSPORT_STATUS:
        text = "failed to connect to all addresses; last error: UNKNOWN: Connection refused"
    link.headers(stream_id)
    link.trailers(stream_id, (("grpc-status", "14"), ("grpc-message", text)))


async def _hangs(link: _Connection, stream_id: int) -> None:
    link.headers(stream_id)
    link.flush()
    await asyncio.Event().wait()


async def _drips(link: _Connection, stream_id: int) -> None:
    link.headers(stream_id)
    for byte in framed(link.owner.answer + b"\x00" * 1000):
        await link.data(stream_id, bytes([byte]))
        await asyncio.sleep(0.05)


async def _resets(link: _Connection, stream_id: int) -> None:
    if link.owner.mode is Mode.RST_REFUSED:
        link.h2.reset_stream(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
        return
    link.headers(stream_id)
    if link.owner.mode is Mode.RST_IN_DATA:
        await link.data(stream_id, framed(link.owner.answer)[:7])
    link.h2.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)


async def _closes(link: _Connection, stream_id: int) -> None:
    if link.owner.mode is Mode.CLOSES_IN_DATA:
        link.headers(stream_id)
        await link.data(stream_id, framed(link.owner.answer)[:7])
    link.flush()
    await asyncio.sleep(0.02)
    link.writer.transport.abort()


async def _closes_tls(link: _Connection, _: int) -> None:
    link.writer.close()


async def _says_goodbye(link: _Connection, stream_id: int) -> None:
    link.h2.close_connection(h2.errors.ErrorCodes.NO_ERROR, last_stream_id=max(0, stream_id - 2))
    link.flush()
    await asyncio.sleep(0.02)
    link.writer.transport.abort()


async def _sends_garbage(link: _Connection, _: int) -> None:
    link.writer.write(b"\xde\xad\xbe\xef" * 64)


async def _two_messages(link: _Connection, stream_id: int) -> None:
    await link.whole(stream_id, framed(link.owner.answer), framed(link.owner.answer))


async def _no_message(link: _Connection, stream_id: int) -> None:
    await link.whole(stream_id)


async def _announces(link: _Connection, stream_id: int) -> None:
    await link.whole(stream_id, b"\x00\xff\xff\xff\xff" + b"\x00" * 100)


async def _bomb(link: _Connection, stream_id: int) -> None:
    link.headers(stream_id, ("grpc-encoding", "gzip"))
    await link.data(stream_id, framed(_make_bomb(), compressed=True))
    link.trailers(stream_id)


async def _no_trailers(link: _Connection, stream_id: int) -> None:
    link.headers(stream_id)
    await link.data(stream_id, framed(link.owner.answer))
    link.h2.end_stream(stream_id)


async def _web_page(link: _Connection, stream_id: int) -> None:
    link.h2.send_headers(stream_id, [(":status", "404"), ("content-type", "text/html")])
    await link.data(stream_id, b"<html>not found</html>")
    link.h2.end_stream(stream_id)


async def _huge_trailers(link: _Connection, stream_id: int) -> None:
    link.headers(stream_id)
    await link.data(stream_id, framed(link.owner.answer))
    pages = tuple((f"x-page-{page}", "x" * 10_000) for page in range(4))
    link.trailers(stream_id, (*_OK, *pages))


_WAYS: Mapping[Mode, _Way] = {
    Mode.REFUSES: _refuses,
    Mode.FORGES_TRANSPORT_STATUS: _refuses,
    Mode.HANGS: _hangs,
    Mode.SLOW_DRIP: _drips,
    Mode.RST_AFTER_HEADER: _resets,
    Mode.RST_IN_DATA: _resets,
    Mode.RST_REFUSED: _resets,
    Mode.CLOSES_IN_DATA: _closes,
    Mode.CLOSES_AT_ONCE: _closes,
    Mode.CLOSES_TLS_ONLY: _closes_tls,
    Mode.GOAWAY: _says_goodbye,
    Mode.GARBAGE_FRAMES: _sends_garbage,
    Mode.TWO_MESSAGES: _two_messages,
    Mode.NO_MESSAGE: _no_message,
    Mode.OVERSIZE_LENGTH: _announces,
    Mode.GZIP_BOMB: _bomb,
    Mode.NO_TRAILERS: _no_trailers,
    Mode.HTTP_ERROR: _web_page,
    Mode.HUGE_TRAILERS: _huge_trailers,
}
