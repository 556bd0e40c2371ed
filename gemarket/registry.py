"""The routing feed as the other parts see it: registry, fresh routes, known methods."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Handler
from interceptors.certificate import CertificateCheck, CertificateRecord
from interceptors.core_services import CoreServices
from interceptors.live_calls import LiveCalls
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.routing_feed import FeedChange, RoutingFeed


class CurrentRegistry:
    """Implements `interceptors.certificate.Registry` on the newest snapshot."""

    def __init__(self, feed: RoutingFeed) -> None:
        self._feed = feed

    def by_fingerprint(self, fingerprint: bytes) -> CertificateRecord | None:
        return self._feed.current().by_fingerprint(fingerprint)


class FreshRoutes:
    """The routing table while it can be trusted: the last one serves for a bounded time."""

    def __init__(self, feed: RoutingFeed, max_age_s: float) -> None:
        self._feed = feed
        self._max_age_s = max_age_s

    def current(self) -> RoutingSnapshot:
        """Give the newest snapshot; raises MarketError ROUTES_STALE when it is too old."""
        if self._feed.age_s() > self._max_age_s:
            raise MarketError(
                ErrorReason.ERROR_REASON_ROUTES_STALE,
                "The routing table is too old: its database has been away for too long.",
            )
        return self._feed.current()


class KnownMethods:
    """Which methods exist at this moment: the core services' and the published interfaces'."""

    def __init__(self, core: CoreServices, feed: RoutingFeed) -> None:
        self._core = core
        self._methods: Mapping[str, Handler] = core.methods()
        self._feed = feed

    def is_routed(self, path: str) -> bool:
        """Say whether a published interface has the method."""
        return self._feed.current().method(path) is not None

    def is_known(self, path: str) -> bool:
        """Say whether anybody serves the method."""
        return path in self._methods or self.is_routed(path)

    def answers_one(self, path: str) -> bool:
        """Say whether the method answers with exactly one message."""
        routed = self._feed.current().method(path)
        if routed is not None:
            return not routed.server_streaming
        return self._core.answers_one(path)


def cut_refused(change: FeedChange, check: CertificateCheck, live: LiveCalls) -> None:
    """Cut the calls in flight of whoever may not call any more."""
    if change.certificates:
        check.cut_refused(live)
