"""Callers that go on calling while a test breaks something, and the account of what became of it.

Every request is told apart by its text, and so by its digest in the log: each call can be followed
from its caller to its entry.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode, aio

from gem.marketplace.v1.transaction_pb2 import ServiceTransaction
from gem.mesh.v1 import provider_answer_pb2 as mesh
from tests.end_to_end.depot import Depot

_numbers = itertools.count(1)
FINAL = frozenset(
    {
        mesh.ANSWER_STATUS_OK,
        mesh.ANSWER_STATUS_REFUSED,
        mesh.ANSWER_STATUS_UNREACHABLE,
        mesh.ANSWER_STATUS_TIMED_OUT,
        mesh.ANSWER_STATUS_INVALID_ANSWER,
        mesh.ANSWER_STATUS_EJECTED,
        mesh.ANSWER_STATUS_CANCELLED,
        mesh.ANSWER_STATUS_IN_DOUBT,
    }
)


@dataclass(frozen=True, slots=True)
class Made:
    """One call as its caller saw it; times are `time.monotonic()`."""

    method: str
    text: str
    digest: bytes
    started_s: float
    ended_s: float
    code: StatusCode


@dataclass
class Load:
    """Calls of one interface over given channels."""

    shop: Depot
    made: list[Made] = field(default_factory=list)

    async def once(self, channel: aio.Channel, method: str, timeout_s: float = 30.0) -> Made:
        """Make one call that no other call can be taken for."""
        text = f"call {next(_numbers)}"
        request = self.shop.message("Ask")(text=text).SerializeToString()
        ask: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.shop.path(method))
        begun_s, code = time.monotonic(), StatusCode.OK
        try:
            await ask(request, timeout=timeout_s)
        except aio.AioRpcError as error:
            code = error.code()
        digest = hashlib.sha256(request).digest()
        made = Made(method, text, digest, begun_s, time.monotonic(), code)
        self.made.append(made)
        return made

    @asynccontextmanager
    async def running(
        self, channels: Sequence[aio.Channel], methods: Sequence[str], pause_s: float = 0.01
    ) -> AsyncIterator[None]:
        """Have one caller for each channel and method, which pauses after each of its calls."""
        stopping = asyncio.Event()

        async def caller(channel: aio.Channel, method: str) -> None:
            while not stopping.is_set():
                await self.once(channel, method)
                await asyncio.sleep(pause_s)

        callers = [caller(*pair) for pair in itertools.product(channels, methods)]
        async with asyncio.TaskGroup() as group:
            for each in callers:
                group.create_task(each)
            try:
                yield
            finally:
                stopping.set()

    def codes(self) -> Counter[StatusCode]:
        """Count the calls by how they ended."""
        return Counter(made.code for made in self.made)

    def balance(self, entries: Sequence[ServiceTransaction]) -> Counter[int]:
        """Hold the accounting identity against the log; gives the entries by status.

        Each call that was answered has exactly one entry, OK; no call has two; no entry is of a
        call that nobody made; each entry is final.
        """
        per_digest = Counter(entry.request_digest for entry in entries)
        doubled = {digest for digest, count in per_digest.items() if count > 1}
        assert not doubled, f"{len(doubled)} calls have more than one entry"
        started = {made.digest for made in self.made}
        foreign = per_digest.keys() - started
        assert not foreign, f"{len(foreign)} entries are of calls that nobody made"
        well = {e.request_digest for e in entries if e.status == mesh.ANSWER_STATUS_OK}
        lost = {made.digest for made in self.made if made.code is StatusCode.OK} - well
        assert not lost, f"{len(lost)} answered calls have no entry that says so"
        by_status: Counter[int] = Counter(entry.status for entry in entries)
        assert set(by_status) <= FINAL
        return by_status


def longest_s(made: Sequence[Made]) -> float:
    """Give the time of the slowest call, seconds."""
    return max((each.ended_s - each.started_s for each in made), default=0.0)


async def until(condition: Any, timeout_s: float, what: str) -> float:
    """Wait until a condition, plain or awaitable, holds; gives how long that took, seconds."""
    begun_s = time.monotonic()
    while True:
        held = condition()
        if asyncio.iscoroutine(held):
            held = await held
        elapsed_s = time.monotonic() - begun_s
        if held:
            return elapsed_s
        assert elapsed_s < timeout_s, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.02)
