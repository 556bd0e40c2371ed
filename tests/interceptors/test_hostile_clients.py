"""Whatever one caller does to its connection, another one is served as if it were not there."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from tests.identities import Identity, MakeIdentity
from tests.interceptors import hostile_client as h
from tests.interceptors.hostile_client import Frames, frame, headers_of, message
from tests.interceptors.support import CHAT, ECHO, Text, channel

pytestmark = pytest.mark.fault

_ROOT = Path(__file__).parents[2]
_ECHO = ECHO.encode()
_HONEST_CALLS = 20
#: On a machine that others load as well, everything takes as many times longer.
_HONEST_S = 0.5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
_MAX_GROWTH_BYTES = 100 << 20
_HEAVY_PAUSE_S = 0.5
Attack = Callable[[], Awaitable[None]]


@dataclass
class Attacked:
    """A server process and what the attacker needs."""

    process: asyncio.subprocess.Process
    port: int
    folder: Path

    async def send(self, sent: bytes, stay_s: float = 0.02, name: str = "hostile") -> None:
        """Attack once."""
        await h.attack(self.port, self.folder, sent, stay_s, name)

    @property
    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@pytest.fixture(scope="module")
async def attacked(
    tmp_path_factory: pytest.TempPathFactory,
    marketplace_identity: Identity,
    honest: Identity,
    make_identity: MakeIdentity,
) -> AsyncIterator[Attacked]:
    """Run one server process for all attacks: none may spoil it for the next."""
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "key.pem").write_bytes(marketplace_identity.key_pem)
    (folder / "chain.pem").write_bytes(marketplace_identity.chain_pem)
    (folder / "root.pem").write_bytes(marketplace_identity.root_pem)
    for name in ("hostile", "vandal"):
        identity = make_identity(name)
        (folder / f"{name}.key").write_bytes(identity.key_pem)
        (folder / f"{name}.pem").write_bytes(identity.chain_pem)
        (folder / f"{name}.partner.pem").write_bytes(identity.certificate.certificate_pem)
    (folder / "honest.partner.pem").write_bytes(honest.certificate.certificate_pem)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.interceptors.probe_server", str(folder)),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    port = int(await process.stdout.readline())
    pump = asyncio.create_task(process.stdout.read())
    yield Attacked(process, port, folder)
    process.stdin.close()
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    await pump


@pytest.fixture(scope="module")
def honest(make_identity: MakeIdentity) -> Identity:
    return make_identity("honest")


async def honest_calls(attacked: Attacked, honest: Identity, count: int = _HONEST_CALLS) -> None:
    """Connect anew and make calls; each must be answered, and quickly."""
    raw = Text(text="honest").SerializeToString()
    async with channel(attacked.port, honest) as to:
        for number in range(count):
            # The first call also makes the connection.
            limit_s = _HONEST_S if number else 4 * _HONEST_S
            assert await to.unary_unary(ECHO)(raw, timeout=limit_s) == raw
            await asyncio.sleep(0.01)


@asynccontextmanager
async def during(attack: Attack, pause_s: float) -> AsyncIterator[None]:
    """Keep an attack going, again and again, while the block runs; it must have run once."""
    once, enough = asyncio.Event(), asyncio.Event()

    async def again() -> None:
        while not enough.is_set():
            await attack()
            once.set()
            await asyncio.sleep(pause_s)

    running = asyncio.create_task(again())
    try:
        yield
        async with asyncio.timeout(20):
            await asyncio.wait(
                [running, asyncio.ensure_future(once.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
    finally:
        # Not cancelled: a connection that is just being made would be left open.
        enough.set()
        async with asyncio.timeout(20):
            await running


async def hold(attacked: Attacked, honest: Identity, attack: Attack, pause_s: float = 0.01) -> None:
    """Serve the honest caller during the attack; afterwards the process lives and is not fat.

    `pause_s` is between two rounds: who alone can fill a core with sound calls is a matter for
    limits in front of the listener, and slows everybody down.
    """
    before_bytes = attacked.memory_bytes
    async with during(attack, pause_s):
        await honest_calls(attacked, honest)
    await honest_calls(attacked, honest, 2)
    assert attacked.process.returncode is None
    assert attacked.memory_bytes - before_bytes < _MAX_GROWTH_BYTES


OPENINGS = {
    "http 1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": b"\x00" * 1000,
    "almost": b"PRI * HTTP/3",
    "noise": b"\xff" * 70_000,
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS.keys())
async def test_a_bad_preface(attacked: Attacked, honest: Identity, opening: bytes) -> None:
    await hold(attacked, honest, lambda: attacked.send(opening))


async def test_bytes_that_are_no_tls(attacked: Attacked, honest: Identity) -> None:
    async def attack() -> None:
        for opening in (h.PREFACE, b"\x16\x03\x01" + b"\xff" * 400, b"\x00" * 4000):
            _, writer = await asyncio.open_connection("127.0.0.1", attacked.port)
            writer.write(opening)
            await asyncio.sleep(0.01)
            await h.break_off(writer)

    await hold(attacked, honest, attack)


RESETS = b"".join(frame(h.RST_STREAM, 0, number, b"\0\0\0\x08") for number in range(1, 4001, 2))
HALF_HEADERS = frame(h.HEADERS, 0, 1, b"\x82")
FLOODS = {
    "ping": frame(h.PING, 0, 0, b"x" * 8) * 2000,
    "settings": frame(h.SETTINGS, 0, 0, struct.pack(">HI", 4, 1)) * 2000,
    "window update": frame(h.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 2000,
    "window overflow": frame(h.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 3,
    "priority": frame(h.PRIORITY, 0, 1, struct.pack(">IB", 3, 1)) * 2000,
    "continuation": HALF_HEADERS + frame(h.CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 200) * 500,
    "reset of nothing": RESETS,
    "data without call": frame(h.DATA, 0, 1, b"") * 2000,
    "unknown kind": frame(200, 255, 1, b"x" * 100) * 2000,
    "too long": frame(h.DATA, 0, 1, b"x" * 65_536),
    "header index": frame(h.HEADERS, h.END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_of_frames(attacked: Attacked, honest: Identity, flood: bytes) -> None:
    sent = Frames().raw(flood).bytes()
    await hold(attacked, honest, lambda: attacked.send(sent))


async def test_rapid_reset(attacked: Attacked, honest: Identity) -> None:
    frames = Frames()
    for _ in range(400):
        frames.call(headers_of(_ECHO), ends=False, resets=True)
    sent = frames.bytes()
    await hold(attacked, honest, lambda: attacked.send(sent), _HEAVY_PAUSE_S)


async def test_800_silent_sockets(attacked: Attacked, honest: Identity) -> None:
    with ExitStack() as stack:
        for _ in range(800):
            stack.enter_context(socket.create_connection(("127.0.0.1", attacked.port)))
        await honest_calls(attacked, honest)
    await honest_calls(attacked, honest)
    assert attacked.process.returncode is None


@pytest.mark.parametrize("greets", [False, True], ids=["no preface", "preface only"])
async def test_connections_that_are_silent_after_the_handshake(
    attacked: Attacked, honest: Identity, greets: bool
) -> None:
    sent = Frames().bytes() if greets else b""
    silent = [asyncio.create_task(attacked.send(sent, 30.0)) for _ in range(50)]
    await asyncio.sleep(0.5)
    await honest_calls(attacked, honest)
    for each in silent:
        each.cancel()
    await asyncio.gather(*silent, return_exceptions=True)


BOMBS: dict[str, list[h.Header]] = {
    "long": [(b"x-bomb", b"x" * 15_000)],
    "longer": [(b"x-bomb", b"x" * 60_000)],
    "many": [(f"x-{number}".encode(), b"") for number in range(2000)],
    "traceparent": [(b"traceparent", b"00-" + b"f" * 8000)],
    "not text": [(b"gem-provider", b"\xff\xfe\x00")],
    "not base64": [(b"x-bin", b"not base64 !!")],
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
async def test_a_metadata_bomb(attacked: Attacked, honest: Identity, bomb: list[h.Header]) -> None:
    frames = Frames()
    for _ in range(20):
        frames.call(headers_of(_ECHO, *bomb), message(b""))
    sent = frames.bytes()
    await hold(attacked, honest, lambda: attacked.send(sent), _HEAVY_PAUSE_S)


PATHS = [
    b"",
    b"/",
    b"//",
    b"/a",
    b"*",
    b"gem.test.v1.ProbeService/Echo",
    b"/" + b"x" * 7000,
    b"/gem.test.v1.ProbeService/Missing",
    b"/../../etc/passwd",
    b"/%ff%fe/%00",
    "/gem.test.v1.ProbeService/Écho".encode(),
]
CALLS = [
    *(headers_of(path) for path in PATHS),
    headers_of(_ECHO, method=b"GET"),
    headers_of(_ECHO, (b"grpc-timeout", b"99999999999999999H")),
    headers_of(_ECHO, (b"grpc-timeout", b"soon")),
    headers_of(_ECHO, (b"grpc-encoding", b"no-such-encoding")),
    headers_of(_ECHO)[:2],
    [*headers_of(_ECHO)[:-1], (b"content-type", b"text/html")],
    [*headers_of(_ECHO), (b":path", b"/second")],
    [*headers_of(_ECHO), (b"UPPER", b"case")],
]


async def test_paths_methods_and_headers_that_make_no_sense(
    attacked: Attacked, honest: Identity
) -> None:
    each = [Frames().call(headers, message(b"\x0a\x01x")).bytes() for headers in CALLS]

    async def attack() -> None:
        for sent in each:
            await attacked.send(sent, 0.005)

    await hold(attacked, honest, attack)


async def test_a_path_that_is_no_text(attacked: Attacked, honest: Identity) -> None:
    """It ends the accepting task of grpc.aio 1.85, and with it, unprotected, the whole server.

    Calls that were in flight go on, one that arrives in the very moment may be lost, and the
    certificate that did it does not get another chance.
    """
    sent = Frames().call(headers_of(b"/\xff\xfe/\xc3\x28"), message(b"")).bytes()
    raw = Text(text="x").SerializeToString()
    lost = 0
    async with channel(attacked.port, honest) as to:
        stream = to.stream_stream(CHAT)()
        await stream.write(raw)
        assert await stream.read() == raw
        for _ in range(_HONEST_CALLS):
            await attacked.send(sent, 0.005, "vandal")
            try:
                assert await to.unary_unary(ECHO)(raw, timeout=4 * _HONEST_S) == raw
            except grpc.aio.AioRpcError:
                lost += 1
        await stream.write(raw)
        assert await stream.read() == raw
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK
    assert lost <= 1
    await honest_calls(attacked, honest)
    assert attacked.process.returncode is None


BODIES = {
    "no message": b"",
    "two messages": message(b"") * 2,
    "a thousand messages": message(b"") * 1000,
    "cut short": message(b"x", length=1000),
    "longer than allowed": message(b"x", length=0xFFFF_FFFF),
    "no such flag": message(b"x", compressed=77),
    "compressed noise": message(b"noise", compressed=1),
    "gzip bomb": message(gzip.compress(b"\0" * (64 << 20)), compressed=1),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_requests_that_are_empty_double_cut_short_or_lie(
    attacked: Attacked, honest: Identity, body: bytes
) -> None:
    frames = Frames()
    for _ in range(5):
        frames.call(headers_of(_ECHO, (b"grpc-encoding", b"gzip")), body)
    sent = frames.bytes()
    await hold(attacked, honest, lambda: attacked.send(sent))


async def test_calls_that_never_send_their_request_are_ended_and_free_their_place(
    attacked: Attacked, honest: Identity
) -> None:
    frames = Frames()
    for _ in range(100):
        frames.call(headers_of(_ECHO), ends=False)
    sent = frames.bytes()
    await hold(attacked, honest, lambda: attacked.send(sent, 0.3), _HEAVY_PAUSE_S)
