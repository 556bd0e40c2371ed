"""Specifications that providers uploaded for their services, in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.service import Service
from marketplace.storage_tables_certification import SERVICE_SPECIFICATION

_TABLE = SERVICE_SPECIFICATION


class ServiceSpecificationStorage:
    """Reads and writes inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self,
        service: Service,
        description: str,
        compiled: tuple[bytes, bytes],
        provider_id: str,
        now: datetime,
    ) -> Row[Any]:
        """Write the next version; `compiled` is the descriptor set and its digest.

        To be called with the service locked: versions are counted. Versions never change, so the
        provider stands there, and no person, who would have to be erased one day.
        """
        newest = select(func.coalesce(func.max(_TABLE.c.version), 0))
        newest = newest.where(_TABLE.c.service_id == service.service_id)
        row = {
            "service_id": service.service_id,
            "version": int((await self._connection.execute(newest)).scalar_one()) + 1,
            "description": description,
            "interface_name": service.interface_name,
            "interface_version": service.interface_version,
            "digest": compiled[1],
            "descriptor_set": compiled[0],
            "stored_by": provider_id,
            "stored_at": now,
        }
        statement = insert(_TABLE).values(row).returning(*_TABLE.c)
        return (await self._connection.execute(statement)).one()

    async def newest(self, service_id: str) -> Row[Any] | None:
        """Give the newest specification of a service; None without one."""
        query = select(_TABLE).where(_TABLE.c.service_id == service_id)
        query = query.order_by(_TABLE.c.version.desc()).limit(1)
        return (await self._connection.execute(query)).one_or_none()
