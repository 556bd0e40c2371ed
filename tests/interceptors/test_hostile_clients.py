"""Whatever one caller does to its connection, another one is served as if it were not there."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.identities import Identity, MakeIdentity
from tests.interceptors import hostile_client as h
from tests.interceptors.hostile_client import HostileClient, frame, headers_of, message
from tests.interceptors.support import ECHO, Text, channel

pytestmark = pytest.mark.fault

_ROOT = Path(__file__).parents[2]
_ECHO = ECHO.encode()
_HONEST_CALLS = 20
_HONEST_S = 0.5
_MAX_GROWTH_BYTES = 100 << 20


@dataclass
class Attacked:
    """A server process and what the attacker needs."""

    process: asyncio.subprocess.Process
    port: int
    folder: Path

    def client(self) -> HostileClient:
        return HostileClient(self.port, self.folder)

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
    hostile = make_identity("hostile")
    (folder / "key.pem").write_bytes(marketplace_identity.key_pem)
    (folder / "chain.pem").write_bytes(marketplace_identity.chain_pem)
    (folder / "root.pem").write_bytes(marketplace_identity.root_pem)
    (folder / "hostile.key").write_bytes(hostile.key_pem)
    (folder / "hostile.pem").write_bytes(hostile.chain_pem)
    for name, identity in (("hostile", hostile), ("honest", honest)):
        (folder / f"{name}.partner.pem").write_bytes(identity.certificate.certificate_pem)
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


async def honest_calls(attacked: Attacked, honest: Identity) -> None:
    """Connect anew and make calls; each must be answered, and quickly."""
    raw = Text(text="honest").SerializeToString()
    async with channel(attacked.port, honest) as to:
        for number in range(_HONEST_CALLS):
            started_s = time.monotonic()
            # The first call also makes the connection.
            limit_s = _HONEST_S if number else 4 * _HONEST_S
            assert await to.unary_unary(ECHO)(raw, timeout=limit_s) == raw
            assert time.monotonic() - started_s < limit_s
            await asyncio.sleep(0.01)


@asynccontextmanager
async def during(attack: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Keep an attack going, again and again, while the block runs; it must have run once."""
    rounds = 0

    async def again() -> None:
        nonlocal rounds
        while True:
            await attack()
            rounds += 1
            await asyncio.sleep(0.01)

    running = asyncio.create_task(again())
    try:
        yield
        async with asyncio.timeout(20):
            while not rounds and not running.done():
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        results = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError), results


async def hold(attacked: Attacked, honest: Identity, attack: Callable[[], Awaitable[None]]) -> None:
    """Serve the honest caller during the attack; afterwards the process lives and is not fat."""
    before_bytes = attacked.memory_bytes
    async with during(attack):
        await honest_calls(attacked, honest)
    await honest_calls(attacked, honest)
    assert attacked.process.returncode is None
    assert attacked.memory_bytes - before_bytes < _MAX_GROWTH_BYTES


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x00" * 1000,
        b"PRI * HTTP/3",
        b"\xff" * 70_000,
    ],
    ids=["http 1", "zeros", "almost", "noise"],
)
async def test_a_bad_preface(attacked: Attacked, honest: Identity, opening: bytes) -> None:
    async def attack() -> None:
        async with attacked.client() as client:
            await client.send(opening)
            await asyncio.sleep(0.02)

    await hold(attacked, honest, attack)


async def test_bytes_that_are_no_tls(attacked: Attacked, honest: Identity) -> None:
    async def attack() -> None:
        for opening in (h.PREFACE, b"\x16\x03\x01" + b"\xff" * 400, b"\x00" * 4000):
            _, writer = await asyncio.open_connection("127.0.0.1", attacked.port)
            writer.write(opening)
            await asyncio.sleep(0.01)
            writer.transport.abort()

    await hold(attacked, honest, attack)


def _floods() -> dict[str, bytes]:
    half_headers = frame(h.HEADERS, 0, 1, b"\x82")
    return {
        "ping": frame(h.PING, 0, 0, b"x" * 8) * 2000,
        "settings": frame(h.SETTINGS, 0, 0, struct.pack(">HI", 4, 1)) * 2000,
        "window update": frame(h.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 2000,
        "window overflow": frame(h.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 3,
        "priority": frame(h.PRIORITY, 0, 1, struct.pack(">IB", 3, 1)) * 2000,
        "continuation": half_headers + frame(h.CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 200) * 500,
        "reset of nothing": b"".join(
            frame(h.RST_STREAM, 0, n, b"\0\0\0\x08") for n in range(1, 4001, 2)
        ),
        "data without call": frame(h.DATA, 0, 1, b"") * 2000,
        "unknown kind": frame(200, 255, 1, b"x" * 100) * 2000,
        "too long": frame(h.DATA, 0, 1, b"x" * 65_536),
        "header index": frame(h.HEADERS, h.END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"),
    }


@pytest.mark.parametrize("flood", _floods().values(), ids=_floods().keys())
async def test_a_flood_of_frames(attacked: Attacked, honest: Identity, flood: bytes) -> None:
    async def attack() -> None:
        async with attacked.client() as client:
            await client.greet()
            await client.send(flood)
            await asyncio.sleep(0.02)

    await hold(attacked, honest, attack)


async def test_rapid_reset(attacked: Attacked, honest: Identity) -> None:
    async def attack() -> None:
        async with attacked.client() as client:
            await client.greet()
            for _ in range(20):
                frames = []
                for _ in range(100):
                    stream_id, opening = client.open_call(headers_of(_ECHO))
                    frames += [opening, frame(h.RST_STREAM, 0, stream_id, b"\0\0\0\x08")]
                if not await client.send(*frames):
                    break

    await hold(attacked, honest, attack)


async def test_800_silent_sockets(attacked: Attacked, honest: Identity) -> None:
    sockets = []
    try:
        for _ in range(800):
            sockets.append(socket.create_connection(("127.0.0.1", attacked.port)))
        await honest_calls(attacked, honest)
    finally:
        for each in sockets:
            each.close()
    await honest_calls(attacked, honest)
    assert attacked.process.returncode is None


async def test_connections_that_are_silent_after_the_handshake(
    attacked: Attacked, honest: Identity
) -> None:
    clients = [attacked.client() for _ in range(50)]
    await asyncio.gather(*(client.__aenter__() for client in clients))
    try:
        for client in clients[::2]:
            await client.greet()
        await honest_calls(attacked, honest)
    finally:
        for client in clients:
            await client.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "bomb",
    [
        [(b"x-bomb", b"x" * 15_000)],
        [(b"x-bomb", b"x" * 60_000)],
        [(f"x-{number}".encode(), b"") for number in range(2000)],
        [(b"traceparent", b"00-" + b"f" * 8000)],
        [(b"gem-provider", b"\xff\xfe\x00")],
        [(b"x-bin", b"not base64 !!")],
    ],
    ids=["long", "longer", "many", "traceparent", "not text", "not base64"],
)
async def test_a_metadata_bomb(attacked: Attacked, honest: Identity, bomb: list[h.Header]) -> None:
    async def attack() -> None:
        async with attacked.client() as client:
            await client.greet()
            for _ in range(50):
                stream_id, opening = client.open_call(headers_of(_ECHO, *bomb))
                body = frame(h.DATA, h.END_STREAM, stream_id, message(b""))
                if len(opening) < 16_000:
                    await client.send(opening, body)
                    continue
                parts = [opening[9:][at : at + 16_000] for at in range(0, len(opening) - 9, 16_000)]
                await client.send(frame(h.HEADERS, 0, stream_id, parts[0]))
                for part in parts[1:-1]:
                    await client.send(frame(h.CONTINUATION, 0, stream_id, part))
                await client.send(frame(h.CONTINUATION, h.END_HEADERS, stream_id, parts[-1]), body)

    await hold(attacked, honest, attack)


async def test_paths_methods_and_headers_that_make_no_sense(
    attacked: Attacked, honest: Identity
) -> None:
    calls = [
        *(
            headers_of(path)
            for path in (
                b"",
                b"/",
                b"//",
                b"/a",
                b"*",
                b"gem.test.v1.ProbeService/Echo",
                b"/" + b"x" * 7000,
                b"/\xff\xfe\x00/\xc3\x28",
                b"/gem.test.v1.ProbeService/Missing",
                b"/../../etc/passwd",
            )  # fmt: skip
        ),
        headers_of(_ECHO, method=b"GET"),
        headers_of(_ECHO, (b"grpc-timeout", b"99999999999999999H")),
        headers_of(_ECHO, (b"grpc-timeout", b"soon")),
        headers_of(_ECHO, (b"grpc-encoding", b"no-such-encoding")),
        headers_of(_ECHO)[:2],
        headers_of(_ECHO)[:-1] + [(b"content-type", b"text/html")],
        [*headers_of(_ECHO), (b":path", b"/second")],
        [*headers_of(_ECHO), (b"UPPER", b"case")],
    ]

    async def attack() -> None:
        for headers in calls:
            async with attacked.client() as client:
                await client.greet()
                stream_id, opening = client.open_call(headers)
                await client.send(
                    opening, frame(h.DATA, h.END_STREAM, stream_id, message(b"\x0a\x01x"))
                )
                await asyncio.sleep(0.005)

    await hold(attacked, honest, attack)


async def test_requests_that_are_empty_double_cut_short_or_lie(
    attacked: Attacked, honest: Identity
) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    bodies = {
        "no message": b"",
        "two messages": message(b"") * 2,
        "a thousand messages": message(b"") * 1000,
        "cut short": message(b"x", length=1000),
        "longer than allowed": message(b"x", length=0xFFFF_FFFF),
        "no such flag": message(b"x", compressed=77),
        "compressed noise": message(b"noise", compressed=1),
        "gzip bomb": message(bomb, compressed=1),
    }

    async def attack() -> None:
        for body in bodies.values():
            async with attacked.client() as client:
                await client.greet()
                for _ in range(5):
                    headers = headers_of(_ECHO, (b"grpc-encoding", b"gzip"))
                    stream_id, opening = client.open_call(headers)
                    chunks = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
                    frames = [frame(h.DATA, 0, stream_id, chunk) for chunk in chunks]
                    await client.send(opening, *frames, frame(h.DATA, h.END_STREAM, stream_id))
                await asyncio.sleep(0.01)

    await hold(attacked, honest, attack)


async def test_calls_that_never_send_their_request_are_ended_and_free_their_place(
    attacked: Attacked, honest: Identity
) -> None:
    async def attack() -> None:
        async with attacked.client() as client:
            await client.greet()
            await client.send(*(client.open_call(headers_of(_ECHO))[1] for _ in range(300)))
            await asyncio.sleep(0.3)

    await hold(attacked, honest, attack)
