"""A change is acknowledged when every worker has it: the next call anywhere already follows it.

Each worker tells the others, over PostgreSQL's notifications, the version that its snapshot has: at
once after a change, and with every heartbeat. A worker that has not been heard for a while is gone
or cut off from the database, and is not waited for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from marketplace.routing_feed import RoutingFeed

#: Longest wait for the slowest worker; then the change is acknowledged all the same.
PATIENCE_S = 1.0


class RoutingBarrier:
    """Waits until the snapshots of all workers have at least a version."""

    def __init__(self, feed: RoutingFeed, patience_s: float = PATIENCE_S) -> None:
        self._feed = feed
        self._patience_s = patience_s

    async def wait(self, version: int) -> None:
        """Wait for a version, but not for longer than the patience."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._feed.wait_for_all(version)
