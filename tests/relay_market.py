"""Hand-written fakes around a router: a wire, providers and a log that remember what happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from google.rpc import status_pb2

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Caller
from marketplace.router.ask import REFUSED, TIMED_OUT, UNREACHABLE
from marketplace.router.budget import RouterLimits
from marketplace.router.ejection import EjectionLimits
from marketplace.router.method_rules import MethodRules
from marketplace.router.router import Router
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.router.target import Price, Target, TransactionEntry
from marketplace.router.transport import Metadata, ProviderFailure, ProviderTransport
from tests import relay_interface

RULES = relay_interface.compiled()
REQUESTER = "evsp-one"
#: What a provider does with one request.
Behaviour = Callable[[bytes], Awaitable[bytes]]
#: What a provider does with a stream of requests.
StreamBehaviour = Callable[["FakeStream"], AsyncIterator[bytes]]


def unreachable(*, never_sent: bool = False) -> ProviderFailure:
    reason = ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE
    return ProviderFailure(UNREACHABLE, reason, Code.UNAVAILABLE, True, never_sent)


def timed_out() -> ProviderFailure:
    reason = ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT
    return ProviderFailure(TIMED_OUT, reason, Code.DEADLINE_EXCEEDED)


def refused(code: int = Code.NOT_FOUND) -> ProviderFailure:
    return ProviderFailure(REFUSED, ErrorReason.ERROR_REASON_PROVIDER_REFUSED, code)


def gives(raw: bytes, after_s: float = 0.0) -> Behaviour:
    async def behave(_: bytes) -> bytes:
        await asyncio.sleep(after_s)
        return raw

    return behave


def fails(*failures: ProviderFailure, then: bytes = b"") -> Behaviour:
    """Fail once with each failure, then answer."""
    left = list(failures)

    async def behave(_: bytes) -> bytes:
        await asyncio.sleep(0)
        if left:
            raise left.pop(0)
        return then

    return behave


async def hangs(_: bytes) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class FakeStream:
    """A provider's stream: requests pile up in `requests`, answers come from a behaviour."""

    events: list[str]
    name: str
    deadline_s: float
    requests: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    answers: AsyncIterator[bytes] | None = None
    cancelled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, message: bytes) -> None:
        self._check()
        self.requests.put_nowait(message)

    async def done_writing(self) -> None:
        self.requests.put_nowait(None)

    async def read(self) -> bytes | None:
        self._check()
        assert self.answers is not None
        following = asyncio.ensure_future(anext(self.answers, None))
        cut = asyncio.ensure_future(self.ended.wait())
        try:
            left_s = self.deadline_s - time.monotonic()
            await asyncio.wait((following, cut), timeout=left_s, return_when="FIRST_COMPLETED")
            if following.done():
                return following.result()
            self._check()
            raise timed_out()
        finally:
            for task in (following, cut):
                task.cancel()
            await asyncio.gather(following, cut, return_exceptions=True)

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            self.ended.set()
            self.events.append(f"end {self.name}")

    def _check(self) -> None:
        if time.monotonic() >= self.deadline_s:
            raise timed_out()
        if self.cancelled:
            reason = ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE
            raise ProviderFailure(UNREACHABLE, reason, Code.CANCELLED)


class FakeProviders:
    """Implements `ProviderTransport` without a wire: a behaviour for each provider."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.behaviours: dict[str, Behaviour] = {}
        self.streams: dict[str, StreamBehaviour] = {}
        self.opened: list[FakeStream] = []
        self.metadata: list[Metadata] = []
        self.timeouts_s: list[float] = []
        self.asked: list[str] = []
        self.cancelled: list[str] = []

    async def unary(
        self, target: Target, method: str, request: bytes, metadata: Metadata, timeout_s: float
    ) -> bytes:
        name = target.provider_id
        self._note(name, metadata, timeout_s)
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                return await self.behaviours[name](request)
        except TimeoutError:
            raise timed_out() from None
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    def stream(
        self, target: Target, method: str, metadata: Metadata, timeout_s: float
    ) -> FakeStream:
        name = target.provider_id
        self._note(name, metadata, timeout_s)
        stream = FakeStream(self.events, name, time.monotonic() + timeout_s)
        stream.answers = self.streams[name](stream)
        self.opened.append(stream)
        return stream

    async def close(self) -> None:
        """Nothing is open."""

    def _note(self, name: str, metadata: Metadata, timeout_s: float) -> None:
        self.events.append(f"ask {name}")
        self.asked.append(name)
        self.metadata.append(metadata)
        self.timeouts_s.append(timeout_s)


class FakeLog:
    """Implements `TransactionLog`; keeps everything, and holds the router to its promises."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.intents: dict[UUID, TransactionEntry] = {}
        self.entries: list[TransactionEntry] = []
        self.intend_error: MarketError | None = None
        self.record_error: MarketError | None = None
        self.delay_s = 0.0

    async def intend(self, entries: Sequence[TransactionEntry]) -> None:
        if self.intend_error is not None:
            raise self.intend_error
        for entry in entries:
            assert entry.status == 0
            assert entry.transaction_id not in self.intents
            self.intents[entry.transaction_id] = entry
        await asyncio.sleep(self.delay_s)
        self.events.append(f"intend {len(entries)}")

    async def record(self, entries: Sequence[TransactionEntry]) -> None:
        if self.record_error is not None:
            raise self.record_error
        known = {entry.transaction_id for entry in self.entries}
        for entry in entries:
            assert entry.status != 0
            assert entry.transaction_id not in known, "recorded twice"
            intent = self.intents.pop(entry.transaction_id, None)
            if intent is not None:
                assert intent.started_ns == entry.started_ns
        self.entries += entries
        await asyncio.sleep(self.delay_s)
        self.events.append(f"record {len(entries)}")


class FakeWire:
    """Implements `Wire` for a caller that sends the given messages and half-closes."""

    def __init__(self, events: list[str], *messages: bytes) -> None:
        self.events = events
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sent: list[bytes] = []
        self.wrote = asyncio.Event()
        for message in (*messages, None):
            self.incoming.put_nowait(message)

    async def read(self) -> bytes | None:
        return await self.incoming.get()

    async def write(self, message: bytes) -> None:
        await asyncio.sleep(0)
        self.sent.append(message)
        self.wrote.set()
        self.events.append("write")

    def finish(self, status: status_pb2.Status | None) -> None:
        """The chain does that."""

    def cut(self) -> None:
        """Tests cancel the task itself."""


class Market:
    """A router among fakes. Providers are contracted in the order in which they are named."""

    def __init__(
        self,
        *names: str,
        limits: RouterLimits | None = None,
        ejection: EjectionLimits | None = None,
        owners: Sequence[tuple[int, str, str]] = (),
        endpoints: Mapping[str, str] | None = None,
        transport: ProviderTransport | None = None,
    ) -> None:
        """Fake providers stand behind the router unless another `transport` is given."""
        endpoints = endpoints or {}
        self.events: list[str] = []
        self.providers = FakeProviders(self.events)
        self.log = FakeLog(self.events)
        targets = [target_of(name, endpoints.get(name, "")) for name in names]
        routes = [(REQUESTER, relay_interface.NAME, target) for target in targets]
        self.snapshot = RoutingSnapshot(1, interfaces=[RULES], routes=routes, owners=owners)
        limits = limits or RouterLimits()
        self.router = Router(
            lambda: self.snapshot, transport or self.providers, self.log, limits, None, ejection
        )
        self.wire = FakeWire(self.events)

    def call(
        self,
        method: str,
        *messages: bytes,
        metadata: Mapping[str, str | bytes] | None = None,
        deadline_s: float = 5.0,
    ) -> Call:
        """Make a call of the requester; its wire is `self.wire`."""
        self.wire = FakeWire(self.events, *messages)
        now_s = time.monotonic()
        return Call(
            wire=self.wire,
            method=relay_interface.path(method),
            metadata=metadata or {},
            peer_certificate=None,
            call_id=uuid4(),
            started_ns=time.time_ns(),
            started_s=now_s,
            deadline_s=now_s + deadline_s,
            caller=Caller(REQUESTER, frozenset(), b""),
        )

    async def serve(
        self, method: str, *messages: bytes, metadata: Mapping[str, str | bytes] | None = None
    ) -> list[bytes]:
        """Serve one call and give what the caller got."""
        await self.router.serve(self.call(method, *messages, metadata=metadata))
        return self.wire.sent


def target_of(name: str, endpoint: str = "", price_micros: int = 1000) -> Target:
    """Give the target of a provider, with its contract's price."""
    price = Price(price_micros, "EUR")
    return Target(f"contract-{name}", name, f"service-{name}", "1.2", endpoint or name, price)


def method_of(name: str) -> MethodRules:
    """Give the rules of a method of the test interface."""
    return RULES.methods[relay_interface.path(name)]


def query(name: str, text: str = "", evse_id: str = "") -> bytes:
    """Give a request of a method of the test interface."""
    return relay_interface.ask(method_of(name), text, evse_id)


def items(name: str, *names: str) -> bytes:
    """Give an answer of a method of the test interface."""
    return relay_interface.answer(method_of(name), *names)


async def until(condition: Callable[[], object], within_s: float = 3.0) -> None:
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the fakes only remember
            await asyncio.sleep(0.005)
