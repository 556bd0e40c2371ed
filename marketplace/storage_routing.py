"""The version of the routing table, and the notification that tells every worker what changed."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.routing_change import RoutingChange

#: The PostgreSQL channel of the notifications.
CHANNEL = "gem_routing"
#: On which workers tell each other the version that each has applied.
APPLIED_CHANNEL = "gem_routing_applied"

_ANNOUNCE = text(
    "WITH bumped AS (UPDATE marketplace.routing_version SET version = version + 1"
    " RETURNING version)"
    " SELECT version, pg_notify(:channel, version || ' ' || :change) FROM bumped"
)


async def announce(connection: AsyncConnection, change: RoutingChange) -> int:
    """Raise the routing version and notify the workers, both when the transaction commits.

    To be called last in a transaction: it holds the lock of the one version row until the commit,
    so that versions have the order of the commits. Gives the new version.
    """
    parameters = {"channel": CHANNEL, "change": change.encode()}
    row = (await connection.execute(_ANNOUNCE, parameters)).one()
    return int(row.version)


async def routing_version(connection: AsyncConnection) -> int:
    """Give the routing version as this transaction sees it."""
    query = text("SELECT version FROM marketplace.routing_version")
    return int((await connection.execute(query)).scalar_one())
