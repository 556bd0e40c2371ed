"""A command is acknowledged when every worker has applied it."""

from __future__ import annotations

import asyncio
import time

from foundation.database import connect_raw
from marketplace.routing_barrier import RoutingBarrier
from marketplace.routing_feed import FeedTiming, RoutingFeed
from marketplace.routing_peers import SILENT_AFTER_S, RoutingPeers

BUMP = "UPDATE marketplace.routing_version SET version = version + 1 RETURNING version"


def test_a_worker_with_an_older_version_is_waited_for() -> None:
    peers, other = RoutingPeers(), RoutingPeers()
    peers.hear(peers.word(7), 100.0)
    peers.hear(other.word(6), 100.0)
    assert peers.all_have(6, 100.0)
    assert not peers.all_have(7, 100.0)
    peers.hear(other.word(7), 100.1)
    assert peers.all_have(7, 100.1)


def test_a_silent_worker_is_not_waited_for() -> None:
    peers, other = RoutingPeers(), RoutingPeers()
    peers.hear(other.word(6), 100.0)
    assert not peers.all_have(7, 100.0 + SILENT_AFTER_S)
    assert peers.all_have(7, 100.1 + SILENT_AFTER_S)


def test_a_word_that_makes_no_sense_counts_for_nothing() -> None:
    peers = RoutingPeers()
    for word in ("", "x", "x y", "x -1", "x 1 2"):
        peers.hear(word, 100.0)
    assert peers.all_have(10**9, 100.0)


async def test_the_barrier_opens_only_when_the_slower_of_two_workers_has_the_version(
    control_plane_url: str,
) -> None:
    # The slow worker hears nothing of the change and finds it only by its heartbeat.
    fast, slow = (
        RoutingFeed(control_plane_url),
        RoutingFeed(control_plane_url, FeedTiming(heartbeat_s=0.3)),
    )
    await fast.start()
    await slow.start()
    connection = await connect_raw(control_plane_url)
    try:
        version = await connection.fetchval(BUMP)
        await RoutingBarrier(fast, patience_s=20.0).wait(version)
        assert fast.current().version >= version
        assert slow.current().version >= version
    finally:
        await connection.close()
        await slow.stop()
        await fast.stop()


async def test_the_barrier_gives_up_after_its_patience(control_plane_url: str) -> None:
    feed = RoutingFeed(control_plane_url)
    await feed.start()
    try:
        begun_s = time.monotonic()
        await asyncio.wait_for(RoutingBarrier(feed, patience_s=0.2).wait(10**9), 10)
        assert time.monotonic() - begun_s >= 0.2
    finally:
        await feed.stop()
