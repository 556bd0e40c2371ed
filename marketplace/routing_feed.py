"""Keeps one worker's routing snapshot current: a full load, then changes as they are notified.

Every change of the control plane raises the version and notifies in its own transaction, so
versions arrive one by one in the order of the commits. A version that is missing, a connection that
was made anew, or a notification that makes no sense leads to a full load. A heartbeat finds a
connection that is dead without saying so. While PostgreSQL is away the last snapshot stays; `age_s`
says for how long. What contracts agreed for an instant to come is applied at that instant by a
timer, whether or not PostgreSQL is there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from foundation.database import connect_raw
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.interface import compile_interface
from marketplace.router.method_rules import InterfaceRules
from marketplace.router.snapshot import RouteName, RoutingSnapshot
from marketplace.router.target import Target
from marketplace.routing_change import RoutingChange, parse_notification, united
from marketplace.routing_clock import RoutingClock
from marketplace.routing_peers import RoutingPeers
from marketplace.routing_schedule import in_force
from marketplace.storage_routing import APPLIED_CHANNEL, CHANNEL
from marketplace.storage_snapshot import SnapshotStorage

#: Notifications that wait to be applied; when more come, all is loaded instead.
PENDING_MAX = 10_000
#: How often a wait for other workers looks whether one of them has fallen silent.
_PEERS_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class FeedTiming:
    """Waits of the feed, seconds."""

    #: Between two looks at the version while nothing is notified.
    heartbeat_s: float = 1.0
    #: For the answer to such a look; then the connection counts as dead.
    heartbeat_timeout_s: float = 2.0
    #: For one query of a load.
    query_timeout_s: float = 15.0
    #: Before connecting again: grows from the first to the longest.
    first_retry_s: float = 0.05
    longest_retry_s: float = 2.0


@dataclass(frozen=True, slots=True)
class FeedChange:
    """What a new snapshot may have changed, for those who keep something derived from it."""

    version: int
    #: Whether a certificate or its owner may be refused now that was accepted before.
    certificates: bool
    #: Whether an interface was added or replaced.
    interfaces: bool


class RoutingFeed:
    """The routing snapshot of one worker; made and started inside the event loop."""

    def __init__(
        self,
        url: str,
        timing: FeedTiming | None = None,
        compile_set: Callable[[bytes], tuple[InterfaceRules, ...]] = compile_interface,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        """`wall_s` gives the seconds since 1970."""
        #: Called in the event loop after each new snapshot; must neither block nor raise.
        self.on_change: list[Callable[[FeedChange], None]] = []
        self._url = url
        self._timing = timing or FeedTiming()
        self._compile = compile_set
        self._compiled: dict[int, tuple[InterfaceRules, ...]] = {}
        self._snapshot = RoutingSnapshot()
        self._confirmed_s: float | None = None
        self._peers = RoutingPeers()
        self._clock = RoutingClock(self._instant_came, wall_s)
        self._pending: deque[tuple[int, RoutingChange]] = deque()
        self._overflowed = False
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._retry_s = self._timing.first_retry_s
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(component="routing_feed")

    def current(self) -> RoutingSnapshot:
        """Give the newest snapshot; empty, with version 0, before the first load."""
        return self._snapshot

    def age_s(self) -> float:
        """Give the seconds since the snapshot was last known to be the newest; infinite before."""
        if self._confirmed_s is None:
            return float("inf")
        return time.monotonic() - self._confirmed_s

    async def start(self, timeout_s: float = 30.0) -> None:
        """Load the snapshot and keep it current from then on.

        Raises MarketError STORAGE_UNAVAILABLE when the first load does not succeed in time.
        """
        assert self._task is None, "a feed is started once"
        self._task = asyncio.create_task(self._run(), name="routing feed")
        try:
            await self.wait_for(1, timeout_s)
        except TimeoutError:
            await self.stop()
            raise MarketError(
                ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE,
                "The routing table could not be loaded in time.",
            ) from None

    async def stop(self) -> None:
        """End the feed and its connection; the last snapshot stays readable."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._clock.stop()

    async def wait_for(self, version: int, timeout_s: float) -> None:
        """Wait until the snapshot has at least this version; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self._snapshot.version < version:
                await self._changed.wait()

    async def wait_for_all(self, version: int) -> None:
        """Wait until every worker, this one included, has at least this version."""
        while self._snapshot.version < version or not self._peers.all_have(
            version, time.monotonic()
        ):
            with suppress(TimeoutError):  # a worker that falls silent gives no signal
                await asyncio.wait_for(self._changed.wait(), _PEERS_LOOK_S)

    async def _run(self) -> None:
        """Serve one connection after the other for ever."""
        while True:
            try:
                await self._serve()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                # TimeoutError is an OSError.
                self._log.warning("routing feed disconnected", error=type(error).__name__)
            except Exception:  # noqa: BLE001  # a defect must not end the feed: a load follows
                self._log.exception("routing feed failed")
            await asyncio.sleep(self._retry_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
            self._retry_s = min(self._retry_s * 2, self._timing.longest_retry_s)

    async def _serve(self) -> None:
        """Load all over a new connection and apply changes until it breaks, which raises."""
        connection = await connect_raw(self._url, self._timing.query_timeout_s)
        try:
            self._wake.clear()
            connection.add_termination_listener(self._terminated)
            # Listening starts before the load reads its version: no change falls in between.
            self._pending.clear()
            await connection.add_listener(CHANNEL, self._heard)
            await connection.add_listener(APPLIED_CHANNEL, self._heard_applied)
            storage = SnapshotStorage(connection)
            await self._load(storage)
            await self._tell(storage)
            self._retry_s = self._timing.first_retry_s
            await self._follow(connection, storage)
        finally:
            connection.terminate()

    async def _follow(self, connection: asyncpg.Connection, storage: SnapshotStorage) -> None:
        expected = 0
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._timing.heartbeat_s)
            self._wake.clear()
            if connection.is_closed():
                raise ConnectionError
            if self._pending or self._overflowed:
                await self._apply(storage)
            else:
                expected = await self._beat(storage, expected)
            await self._tell(storage)

    async def _beat(self, storage: SnapshotStorage, expected: int) -> int:
        """Look at the committed version; give it where its notification is still to come.

        A version seen at the beat before and not notified since was missed: all is loaded.
        """
        looked_s = time.monotonic()
        version = await storage.version(self._timing.heartbeat_timeout_s)
        if version == self._snapshot.version:
            self._confirmed_s = looked_s
            return 0
        # The version is lower only where another database took this one's place.
        if version < self._snapshot.version or self._snapshot.version < expected:
            await self._load(storage)
            return 0
        return version

    async def _apply(self, storage: SnapshotStorage) -> None:
        """Apply what was notified: read the changed keys again, or all where that is not enough."""
        started_s = time.monotonic()
        overflowed, self._overflowed = self._overflowed, False
        heard = list(self._pending)
        self._pending.clear()
        before = self._snapshot.version
        news = [(version, change) for version, change in heard if not 0 < version <= before]
        if not news and not overflowed:
            return
        change = united(change for _, change in news)
        versions = [version for version, _ in news]
        in_sequence = versions == list(range(before + 1, before + 1 + len(versions)))
        if overflowed or change.everything or not in_sequence:
            await self._load(storage)
            return
        snapshot = await self._changed_snapshot(storage, versions[-1], change)
        self._confirmed_s = started_s
        certificates = bool(change.certificates or change.partners)
        self._swap(snapshot, FeedChange(snapshot.version, certificates, bool(change.interfaces)))

    async def _changed_snapshot(
        self, storage: SnapshotStorage, version: int, change: RoutingChange
    ) -> RoutingSnapshot:
        names = set(change.routes)
        if change.services:
            names |= await storage.routes_of_services(change.services)
        windows = await storage.windows(names) if names else {}
        owners = await storage.owners(change.owners) if change.owners else {}
        certificates = {}
        if change.certificates or change.partners:
            certificates = await storage.certificates(change.certificates, change.partners)
        interfaces = {}
        if change.interfaces:
            publications = await storage.interfaces(change.interfaces)
            compiled = await self._interfaces(storage, publications)
            interfaces = {rules.name: rules for rules in compiled}
        # No waiting from here to the swap: an instant that comes meanwhile would be lost.
        now_s = self._clock.put(windows)
        routes = {name: in_force(found, now_s) or None for name, found in windows.items()}
        return self._snapshot.with_changes(
            version, routes=routes, interfaces=interfaces, owners=owners, certificates=certificates
        )

    async def _load(self, storage: SnapshotStorage) -> None:
        """Read everything and build a snapshot beside the event loop: it may take a second."""
        started_s = time.monotonic()
        rows = await storage.everything(self._clock.wall_s())
        interfaces = await self._interfaces(storage, rows.interfaces)
        current = set(rows.interfaces.values())
        self._compiled = {key: self._compiled[key] for key in current & self._compiled.keys()}
        snapshot = await asyncio.to_thread(
            RoutingSnapshot,
            rows.version,
            interfaces=interfaces,
            routes=rows.routes,
            owners=rows.owners,
            certificates=rows.certificates,
        )
        self._confirmed_s = started_s
        self._clock.restart(rows.timed)
        self._swap(snapshot, FeedChange(snapshot.version, certificates=True, interfaces=True))
        self._clock.tick()
        self._log.info(
            "routing table loaded",
            version=snapshot.version,
            routes=len(rows.routes),
            duration_s=round(time.monotonic() - started_s, 3),
        )

    async def _interfaces(
        self, storage: SnapshotStorage, publications: dict[str, int]
    ) -> list[InterfaceRules]:
        """Give the compiled interfaces; a publication never changes and is compiled once."""
        found = []
        for name, publication_id in publications.items():
            if publication_id not in self._compiled:
                raw = await storage.descriptor_set(publication_id)
                self._compiled[publication_id] = await self._compiled_set(publication_id, raw)
            rules = self._compiled[publication_id]
            found += [interface for interface in rules if interface.name == name]
        return found

    async def _compiled_set(self, publication_id: int, raw: bytes) -> tuple[InterfaceRules, ...]:
        try:
            return await asyncio.to_thread(self._compile, raw)
        except MarketError as error:
            # Published under older rules of the catalogue: one interface is out, not the market.
            self._log.error(
                "published interface does not compile",
                publication=publication_id,
                findings=len(error.violations),
            )
            return ()

    async def _tell(self, storage: SnapshotStorage) -> None:
        """Tell all workers which version this one has; also a sign of life."""
        word = self._peers.word(self._snapshot.version)
        await storage.tell(word, self._timing.heartbeat_timeout_s)

    def _instant_came(self, routes: dict[RouteName, tuple[Target, ...] | None]) -> None:
        """Follow what was agreed for an instant; the version stays, as nobody changed anything."""
        snapshot = self._snapshot.with_changes(self._snapshot.version, routes=routes)
        self._swap(snapshot, FeedChange(snapshot.version, certificates=False, interfaces=False))

    def _swap(self, snapshot: RoutingSnapshot, change: FeedChange) -> None:
        self._snapshot = snapshot
        self._signal_change()
        for callback in self.on_change:
            try:
                callback(change)
            except Exception:  # noqa: BLE001  # a follower's defect is not the feed's
                self._log.exception("a follower of the routing feed failed")

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if len(self._pending) >= PENDING_MAX:
            self._overflowed = True
            self._pending.clear()
        self._pending.append(parse_notification(str(payload)))
        self._wake.set()

    def _heard_applied(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._peers.hear(str(payload), time.monotonic())
        self._signal_change()

    def _signal_change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _terminated(self, _connection: Any) -> None:
        self._wake.set()
