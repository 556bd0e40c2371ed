"""How the listener gets its events while many calls are in flight, and while they all are idle."""

from __future__ import annotations

import asyncio

import pytest

from interceptors import core_listener
from interceptors.begun_calls import JUST_BEGUN_S
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
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Count how often the loop has waited and looked for events itself."""
    made: list[None] = []
    plain = CoreListener._look

    def counted(listener: CoreListener) -> None:
        made.append(None)
        plain(listener)

    monkeypatch.setattr(CoreListener, "_look", counted)
    return made


async def test_many_idle_calls_cost_no_look_and_hold_nobody_up(
    marketplace_identity: Identity, make_identity: MakeIdentity, looks: list[None]
) -> None:
    server = Server()
    async with (
        listening(server, marketplace_identity, None, lambda _: True) as market,
        channel(market.port, make_identity("acme")) as to,
    ):
        held = [asyncio.ensure_future(to.unary_unary(HOLD)(b"h", timeout=20)) for _ in range(MANY)]
        await eventually(lambda: server.held == MANY)
        await asyncio.sleep(2.5 * JUST_BEGUN_S)
        looks.clear()
        for number in range(20):
            message = str(number).encode()
            assert await to.unary_unary(ECHO)(message, timeout=5) == b"+" + message
        assert not looks, "each wait of the loop would come on top of a call's time"
        server.go.set()
        assert await asyncio.gather(*held) == [b"+h"] * MANY


async def test_a_busy_loop_looks_for_events_itself(
    marketplace_identity: Identity, make_identity: MakeIdentity, looks: list[None]
) -> None:
    async with (
        listening(Server(), marketplace_identity, None, lambda _: True) as market,
        channel(market.port, make_identity("acme")) as to,
    ):
        one = to.unary_unary(ECHO)
        for _ in range(20):
            assert await one(b"m", timeout=5) == b"+m"
        assert not looks, "one call after the other is left to the thread"
        for _ in range(20):
            answers = await asyncio.gather(*(one(b"m", timeout=5) for _ in range(2 * MANY)))
            assert answers == [b"+m"] * (2 * MANY)
        assert looks
