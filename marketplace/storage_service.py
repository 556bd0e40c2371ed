"""Services with their offerings and history, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import Actor, not_found
from marketplace.service import VISIBLE, Service, ServiceState, ServiceStep
from marketplace.storage_command import Lock
from marketplace.storage_paging import Page
from marketplace.storage_tables import OFFERING, SERVICE, SERVICE_EVENT

_COLUMNS = tuple(c for c in SERVICE.c if c.name != "registration_contract_version")


@dataclass(frozen=True, slots=True)
class ServiceFilter:
    """Conditions of a list of services, applied together; an empty one does not apply."""

    interface_name: str = ""
    provider_id: str = ""
    state: ServiceState | None = None


class ServiceStorage:
    """Reads and writes services inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, service: Service, registration_contract_version: int) -> Service:
        """Write a new service and give it with its position."""
        row = {
            "service_id": service.service_id,
            "provider_id": service.provider_id,
            "title": service.title,
            "description": service.description,
            "interface_name": service.interface_name,
            "interface_version": service.interface_version,
            "service_version": service.service_version,
            "endpoint": service.endpoint,
            "state": service.state.value,
            "registration_contract_version": registration_contract_version,
            "registered_at": service.registered_at,
        }
        statement = insert(SERVICE).values(row).returning(*_COLUMNS)
        return _service((await self._connection.execute(statement)).one())

    async def get(self, service_id: str) -> Service:
        """Give a service; raises MarketError NOT_FOUND."""
        return await self._one(service_id)

    async def locked(self, service_id: str) -> Service:
        """Give a service that nobody else changes, nor contracts, until the transaction ends."""
        return await self._one(service_id, lock=Lock.ALONE)

    async def shared(self, service_id: str) -> Service:
        """Give a service that nobody changes until the transaction ends, while others may read."""
        return await self._one(service_id, lock=Lock.SHARED)

    async def page(
        self, page: Page[int], condition: ServiceFilter, actor: Actor
    ) -> tuple[list[Service], PageInfo]:
        """List the services that the actor may see, in the order of registration."""
        query = select(*_COLUMNS)
        if actor.is_partner:
            visible = SERVICE.c.state.in_([state.value for state in VISIBLE])
            query = query.where(visible | (SERVICE.c.provider_id == actor.subject_id))
        if condition.interface_name:
            query = query.where(SERVICE.c.interface_name == condition.interface_name)
        if condition.provider_id:
            query = query.where(SERVICE.c.provider_id == condition.provider_id)
        if condition.state is not None:
            query = query.where(SERVICE.c.state == condition.state.value)
        rows = (await self._connection.execute(page.of(query, SERVICE.c.position))).all()
        shown, info = page.cut(rows, lambda row: int(row.position))
        return [_service(row) for row in shown], info

    async def set_state(self, service_id: str, state: ServiceState) -> None:
        """Write the state."""
        await self._update(service_id, {"state": state.value})

    async def set_endpoint(self, service_id: str, endpoint: str) -> None:
        """Write the endpoint."""
        await self._update(service_id, {"endpoint": endpoint})

    async def remember(
        self, service: Service, step: ServiceStep, actor: Actor, now: datetime
    ) -> None:
        """Write one row of the history; `service` is as it is after the step."""
        row = {
            "service_id": service.service_id,
            "kind": step.value,
            "state": service.state.value,
            "actor": actor.name,
            "occurred_at": now,
        }
        await self._connection.execute(insert(SERVICE_EVENT).values(row))

    async def offer(self, offering_id: str, service_id: str, terms: bytes, now: datetime) -> None:
        """Write a new offering; `terms` is a serialised OfferingTerms."""
        row = {
            "offering_id": offering_id,
            "service_id": service_id,
            "terms": terms,
            "created_at": now,
        }
        await self._connection.execute(insert(OFFERING).values(row))

    async def offerings(self, service_id: str) -> Sequence[Row[Any]]:
        """Give a service's offerings that can be accepted, the oldest first."""
        query = (
            select(OFFERING)
            .where(OFFERING.c.service_id == service_id, OFFERING.c.withdrawn_at.is_(None))
            .order_by(OFFERING.c.position)
        )
        return (await self._connection.execute(query)).all()

    async def offering(self, offering_id: str) -> Row[Any]:
        """Give an offering that can be accepted; raises MarketError NOT_FOUND."""
        query = select(OFFERING).where(
            OFFERING.c.offering_id == offering_id, OFFERING.c.withdrawn_at.is_(None)
        )
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("offering")
        return row

    async def _one(self, service_id: str, lock: Lock | None = None) -> Service:
        query = select(*_COLUMNS).where(SERVICE.c.service_id == service_id)
        if lock is not None:
            query = query.with_for_update(read=lock is Lock.SHARED)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("service")
        return _service(row)

    async def _update(self, service_id: str, values: dict[str, object]) -> None:
        statement = update(SERVICE).where(SERVICE.c.service_id == service_id).values(values)
        await self._connection.execute(statement)


def _service(row: Row[Any]) -> Service:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    return Service(**{**values, "state": ServiceState(row.state)})
