"""Labels of interface versions in PostgreSQL: `CURRENT`, one an interface, and `DEPRECATED`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.actor import Actor
from marketplace.storage_tables import INTERFACE_LABEL, INTERFACE_LABEL_EVENT

#: The version that is routed.
CURRENT = "CURRENT"
#: A version that is to be left from a date on.
DEPRECATED = "DEPRECATED"


class InterfaceLabelStorage:
    """Reads and writes labels and their history inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def move(  # what a label says, and who says it when
        self,
        label: str,
        interface_name: str,
        version: int,
        effective_at: datetime,
        actor: Actor,
        now: datetime,
    ) -> None:
        """Set a label on a version; `CURRENT` leaves the version that had it."""
        held = INTERFACE_LABEL.c.interface_name == interface_name
        held &= INTERFACE_LABEL.c.label == label
        if label != CURRENT:
            held &= INTERFACE_LABEL.c.version == version
        await self._connection.execute(delete(INTERFACE_LABEL).where(held))
        row = {
            "interface_name": interface_name,
            "version": version,
            "label": label,
            "effective_at": effective_at,
        }
        await self._connection.execute(insert(INTERFACE_LABEL).values(row))
        event = {**row, "set": True, "actor": actor.name, "occurred_at": now}
        await self._connection.execute(insert(INTERFACE_LABEL_EVENT).values(event))

    async def remove(
        self, label: str, interface_name: str, version: int, actor: Actor, now: datetime
    ) -> bool:
        """Take a label off a version; False where the version does not have it."""
        key = {"interface_name": interface_name, "version": version, "label": label}
        statement = delete(INTERFACE_LABEL).filter_by(**key).returning(INTERFACE_LABEL.c.version)
        if (await self._connection.execute(statement)).first() is None:
            return False
        event = {**key, "set": False, "actor": actor.name, "occurred_at": now}
        await self._connection.execute(insert(INTERFACE_LABEL_EVENT).values(event))
        return True
