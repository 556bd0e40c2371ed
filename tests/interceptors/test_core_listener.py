"""How the listener gets its events while many calls are in flight, and while they all are idle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from interceptors import core_listener
from interceptors.call import Call, read_single
from interceptors.core_listener import CoreListener
from tests.identities import Identity, MakeIdentity
from tests.interceptors.support import channel, eventually, listening

ECHO, HOLD = "/gem.test.v1.Raw/Echo", "/gem.test.v1.Raw/Hold"
#: Enough for the loop to look for events itself.
MANY = 2 * core_listener._BUSY_CALLS


class Server:
    """Answers one method at once, and the other when it is let go."""

    def __init__(self) -> None:
        self.held = 0
        self.go = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        message = await read_single(call)
        if call.method == HOLD:
            self.held += 1
            await self.go.wait()
        await call.wire.write(b"+" + message)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Give the deadlines of all looks for events since."""
    made: list[float | None] = []
    plain = CoreListener._next

    def counted(listener: CoreListener, deadline_s: float | None) -> Any:
        made.append(deadline_s)
        return plain(listener, deadline_s)

    monkeypatch.setattr(CoreListener, "_next", counted)
    return made


async def test_many_idle_calls_cost_no_look_and_the_next_call_is_answered(
    marketplace_identity: Identity, make_identity: MakeIdentity, looks: list[float | None]
) -> None:
    server = Server()
    async with (
        listening(server, marketplace_identity, None, lambda _: True) as market,
        channel(market.port, make_identity("acme")) as to,
    ):
        held = [asyncio.ensure_future(to.unary_unary(HOLD)(b"h", timeout=20)) for _ in range(MANY)]
        await eventually(lambda: server.held == MANY)
        await asyncio.sleep(0.1)
        looks.clear()
        await asyncio.sleep(0.3)
        assert len(looks) < 10, "the thread waits, and nobody looks every millisecond"
        for number in range(20):
            message = str(number).encode()
            assert await to.unary_unary(ECHO)(message, timeout=5) == b"+" + message
        server.go.set()
        assert await asyncio.gather(*held) == [b"+h"] * MANY


async def waits(identity: Identity, caller: Identity, looks: list[float | None]) -> int:
    """Give how often the thread waits while many calls are in flight."""
    async with (
        listening(Server(), identity, None, lambda _: True) as market,
        channel(market.port, caller) as to,
    ):
        one = to.unary_unary(ECHO)
        assert await one(b"first", timeout=5) == b"+first"
        looks.clear()

        async def calls() -> None:
            for _ in range(40):
                assert await one(b"m", timeout=5) == b"+m"
                await asyncio.sleep(0.002)

        await asyncio.gather(*(calls() for _ in range(2 * MANY)))
        return looks.count(None)


async def test_a_busy_loop_looks_for_events_itself(
    marketplace_identity: Identity,
    make_identity: MakeIdentity,
    looks: list[float | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caller = make_identity("acme")
    busy = await waits(marketplace_identity, caller, looks)
    monkeypatch.setattr(core_listener, "_BUSY_CALLS", 1_000_000)
    alone = await waits(marketplace_identity, caller, looks)
    assert busy < 0.75 * alone
