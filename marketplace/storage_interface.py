"""The catalogue of standard interfaces in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.new_interface import NewInterface
from marketplace.proposal_likeness import skeleton
from marketplace.storage_interface_label import CURRENT, InterfaceLabelStorage
from marketplace.storage_paging import Page
from marketplace.storage_tables import INTERFACE_LABEL, INTERFACE_PUBLICATION, INTERFACE_VERSION


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
        await self.lock()
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
            version = await self._add_version(interface, publication_id)
            labels = InterfaceLabelStorage(self._connection)
            await labels.move(CURRENT, interface.interface_name, version, now, actor, now)
        query = _details().where(INTERFACE_VERSION.c.publication_id == publication_id)
        query = query.order_by(INTERFACE_VERSION.c.interface_name)
        return list((await self._connection.execute(query)).all())

    async def lock(self) -> None:
        """Let nobody else publish until the transaction ends."""
        # Publications are rare, and two at once must not count the same next version.
        lock = "LOCK TABLE marketplace.interface_version IN SHARE ROW EXCLUSIVE MODE"
        await self._connection.execute(text(lock))

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

    async def page(
        self, page: Page[str], category: str, words: str
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the newest version of each interface by name; an empty condition does not apply."""
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
        if words:
            named = INTERFACE_VERSION.c.interface_name.icontains(words, autoescape=True)
            titled = INTERFACE_VERSION.c.title.icontains(words, autoescape=True)
            query = query.where(named | titled)
        query = page.of(query, INTERFACE_VERSION.c.interface_name)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: str(row.interface_name))

    async def like(
        self, shapes: Iterable[bytes], names: Iterable[str]
    ) -> list[tuple[str, int, bytes, str]]:
        """Give name, version, shape and skeleton of what has one of the shapes or looks alike.

        The newest version of each name and shape, and 100 in all.
        """
        looks = {skeleton(name) for name in names}
        columns = INTERFACE_VERSION.c
        query = (
            select(
                columns.interface_name, func.max(columns.version), columns.shape, columns.skeleton
            )
            .where(columns.shape.in_(set(shapes)) | columns.skeleton.in_(looks))
            .group_by(columns.interface_name, columns.shape, columns.skeleton)
            .order_by(columns.interface_name)
            .limit(100)
        )
        return [tuple(row) for row in (await self._connection.execute(query)).all()]

    async def newest(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Give the newest version of interfaces and its publication, by name."""
        columns = INTERFACE_VERSION.c
        query = (
            select(columns.interface_name, columns.version, columns.publication_id)
            .where(columns.interface_name.in_(set(names)))
            .order_by(columns.interface_name, columns.version)
        )
        rows = (await self._connection.execute(query)).all()
        return {row.interface_name: (row.version, row.publication_id) for row in rows}

    async def is_published(self, digest: bytes) -> bool:
        """Say whether files with this digest were published before."""
        query = select(INTERFACE_PUBLICATION.c.publication_id)
        query = query.where(INTERFACE_PUBLICATION.c.digest == digest)
        return (await self._connection.execute(query)).first() is not None

    async def descriptor_set(self, publication_id: int) -> bytes:
        """Give the descriptor set of a publication as it was sent."""
        query = select(INTERFACE_PUBLICATION.c.descriptor_set)
        query = query.where(INTERFACE_PUBLICATION.c.publication_id == publication_id)
        return bytes((await self._connection.execute(query)).scalar_one())

    async def _add_version(self, interface: NewInterface, publication_id: int) -> int:
        before = select(func.coalesce(func.max(INTERFACE_VERSION.c.version), 0)).where(
            INTERFACE_VERSION.c.interface_name == interface.interface_name
        )
        version = int(await self._connection.scalar(before) or 0) + 1
        row = {
            "interface_name": interface.interface_name,
            "version": version,
            "publication_id": publication_id,
            "title": interface.title,
            "category": interface.category,
            "implemented_by": list(interface.implemented_by),
            "called_by": list(interface.called_by),
            "methods": list(interface.methods),
            "shape": interface.shape,
            "skeleton": skeleton(interface.interface_name),
        }
        await self._connection.execute(insert(INTERFACE_VERSION).values(row))
        return version


def _details() -> Select[Any]:
    return (
        select(
            *INTERFACE_VERSION.c,
            INTERFACE_PUBLICATION.c.digest,
            INTERFACE_PUBLICATION.c.published_at,
            _label("CURRENT").label("current_at"),
            _label("DEPRECATED").label("deprecated_at"),
        )
        .select_from(INTERFACE_VERSION)
        .join(
            INTERFACE_PUBLICATION,
            INTERFACE_PUBLICATION.c.publication_id == INTERFACE_VERSION.c.publication_id,
        )
    )


def _label(label: str) -> Any:
    """Give since or from when on the version has a label; NULL where it has not."""
    found = select(INTERFACE_LABEL.c.effective_at).where(
        INTERFACE_LABEL.c.interface_name == INTERFACE_VERSION.c.interface_name,
        INTERFACE_LABEL.c.version == INTERFACE_VERSION.c.version,
        INTERFACE_LABEL.c.label == label,
    )
    return found.scalar_subquery()
