"""A process with a routing feed, as a worker is one: tells on standard output what it routes.

`python -m tests.feed_worker URL REQUESTER INTERFACE` writes a JSON line for the first snapshot and
for every later one: the monotonic clock, which all processes of a machine share, and the contracts
in contract order. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import structlog

from marketplace.routing_feed import FeedChange, FeedTiming, RoutingFeed


async def tell(url: str, requester: str, interface: str) -> None:
    """Run the feed until standard input ends."""
    feed = RoutingFeed(url, FeedTiming(heartbeat_s=60.0))

    def told(_: FeedChange) -> None:
        targets = feed.current().targets(requester, interface)
        routed = [target.contract_id for target in targets]
        line = json.dumps({"at_s": time.monotonic(), "routed": routed})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    feed.on_change.append(told)
    await feed.start()
    await asyncio.to_thread(sys.stdin.read)
    await feed.stop()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(tell(*sys.argv[1:]))
