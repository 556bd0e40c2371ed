"""The catalogue of standard interfaces in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.storage_paging import Page
from marketplace.storage_tables import INTERFACE_PUBLICATION, INTERFACE_VERSION


@dataclass(frozen=True, slots=True)
class NewInterface:
    """An interface that is being published."""

    interface_name: str
    title: str
    category: str
    #: Values of `gem.options.v1.PartnerRole`, ascending.
    implemented_by: tuple[int, ...]
    called_by: tuple[int, ...]
    #: What `InterfaceMethod` says of each method, in the order of the proto file.
    methods: tuple[dict[str, Any], ...]


class InterfaceStorage:
    """Reads and writes the catalogue inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def publish(
        self,
        digest: bytes,
        descriptor_set: bytes,
        interfaces: Iterable[NewInterface],
        actor: Actor,
        now: datetime,
    ) -> list[Row[Any]]:
        """Write a publication with the next version of each interface and give their rows, by name.

        Raises MarketError ALREADY_EXISTS when the same set was published before.
        """
        # Publications are rare, and two at once must not count the same next version.
        lock = "LOCK TABLE marketplace.interface_version IN SHARE ROW EXCLUSIVE MODE"
        await self._connection.execute(text(lock))
        row = {
            "digest": digest,
            "descriptor_set": descriptor_set,
            "published_by": actor.name,
            "published_at": now,
        }
        statement = insert(INTERFACE_PUBLICATION).values(row).on_conflict_do_nothing()
        added = await self._connection.execute(
            statement.returning(INTERFACE_PUBLICATION.c.publication_id)
        )
        publication_id = added.scalar_one_or_none()
        if publication_id is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_ALREADY_EXISTS, "The same files were published before."
            )
        for interface in interfaces:
            await self._add_version(interface, publication_id)
        query = _details().where(INTERFACE_VERSION.c.publication_id == publication_id)
        query = query.order_by(INTERFACE_VERSION.c.interface_name)
        return list((await self._connection.execute(query)).all())

    async def get(self, interface_name: str, version: int) -> Row[Any]:
        """Give one version, or the newest where `version` is 0; raises MarketError NOT_FOUND."""
        query = _details().where(INTERFACE_VERSION.c.interface_name == interface_name)
        if version:
            query = query.where(INTERFACE_VERSION.c.version == version)
        query = query.order_by(INTERFACE_VERSION.c.version.desc()).limit(1)
        row: Row[Any] | None = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("interface")
        return row

    async def page(self, page: Page[str], category: str) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the newest version of each interface by name."""
        newest = (
            select(INTERFACE_VERSION.c.interface_name, func.max(INTERFACE_VERSION.c.version))
            .group_by(INTERFACE_VERSION.c.interface_name)
            .subquery()
        )
        name, version = newest.c
        query = _details().join(
            newest,
            (INTERFACE_VERSION.c.interface_name == name) & (INTERFACE_VERSION.c.version == version),
        )
        if category:
            query = query.where(INTERFACE_VERSION.c.category == category)
        query = page.of(query, INTERFACE_VERSION.c.interface_name)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: str(row.interface_name))

    async def descriptor_set(self, publication_id: int) -> bytes:
        """Give the descriptor set of a publication as it was sent."""
        query = select(INTERFACE_PUBLICATION.c.descriptor_set)
        query = query.where(INTERFACE_PUBLICATION.c.publication_id == publication_id)
        return bytes((await self._connection.execute(query)).scalar_one())

    async def _add_version(self, interface: NewInterface, publication_id: int) -> None:
        before = select(func.coalesce(func.max(INTERFACE_VERSION.c.version), 0)).where(
            INTERFACE_VERSION.c.interface_name == interface.interface_name
        )
        row = {
            "interface_name": interface.interface_name,
            "version": int(await self._connection.scalar(before) or 0) + 1,
            "publication_id": publication_id,
            "title": interface.title,
            "category": interface.category,
            "implemented_by": list(interface.implemented_by),
            "called_by": list(interface.called_by),
            "methods": list(interface.methods),
        }
        await self._connection.execute(insert(INTERFACE_VERSION).values(row))


def _details() -> Select[Any]:
    return select(
        *INTERFACE_VERSION.c, INTERFACE_PUBLICATION.c.digest, INTERFACE_PUBLICATION.c.published_at
    ).join(
        INTERFACE_PUBLICATION,
        INTERFACE_PUBLICATION.c.publication_id == INTERFACE_VERSION.c.publication_id,
    )
