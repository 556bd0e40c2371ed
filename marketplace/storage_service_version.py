"""Later versions of services, in PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.service_version import NO_VERSION, OPEN, ServiceVersion, VersionState
from marketplace.storage_paging import Page
from marketplace.storage_tables_service import SERVICE_VERSION

_OPEN = SERVICE_VERSION.c.state.in_([state.value for state in OPEN])


class ServiceVersionStorage:
    """Reads and writes versions; who changes them holds the lock of the service."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, version: ServiceVersion) -> ServiceVersion:
        """Write a prepared version; raises MarketError STATE_NOT_ALLOWED where there is one."""
        row = {
            "version_id": version.version_id,
            "service_id": version.service_id,
            "service_version": version.service_version,
            "interface_version": version.interface_version,
            "compatible": version.compatible,
            "endpoint": version.endpoint,
            "terms": version.terms,
            "state": version.state.value,
            "prepared_at": version.prepared_at,
        }
        statement = insert(SERVICE_VERSION).values(row).on_conflict_do_nothing()
        added = await self._connection.execute(statement.returning(SERVICE_VERSION))
        found = added.one_or_none()
        if found is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
                "The service has a prepared version: publish or withdraw it first.",
            )
        return _version(found)

    async def open(self, service_id: str) -> ServiceVersion:
        """Give the prepared version; raises MarketError STATE_NOT_ALLOWED where there is none."""
        found = await self.find_open(service_id)
        if found is None:
            raise MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, NO_VERSION)
        return found

    async def find_open(self, service_id: str) -> ServiceVersion | None:
        """Give the prepared version, or None."""
        query = select(SERVICE_VERSION).where(SERVICE_VERSION.c.service_id == service_id, _OPEN)
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else _version(row)

    async def set_state(self, version_id: str, state: VersionState) -> None:
        """Write the state."""
        mine = SERVICE_VERSION.c.version_id == version_id
        await self._connection.execute(
            update(SERVICE_VERSION).where(mine).values(state=state.value)
        )

    async def page(
        self, page: Page[int], service_id: str, *, all_states: bool
    ) -> tuple[list[ServiceVersion], PageInfo]:
        """List the versions of a service, the oldest first."""
        query = select(SERVICE_VERSION).where(SERVICE_VERSION.c.service_id == service_id)
        if not all_states:
            query = query.where(SERVICE_VERSION.c.state != VersionState.WITHDRAWN.value)
        rows = await self._connection.execute(page.of(query, SERVICE_VERSION.c.position))
        shown, info = page.cut(rows.all(), lambda row: int(row.position))
        return [_version(row) for row in shown], info


def _version(row: Row[Any]) -> ServiceVersion:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    return ServiceVersion(**{**values, "state": VersionState(row.state)})
