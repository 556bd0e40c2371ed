"""Files of services in PostgreSQL: their content in parts, never whole in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import not_found
from marketplace.service_content import (
    PART_BYTES,
    REMOVED_KEPT,
    FileKind,
    FileState,
    ServiceFile,
    Usage,
    take_step,
)
from marketplace.storage_paging import Page
from marketplace.storage_tables_certification import (
    SERVICE_FILE,
    SERVICE_FILE_EVENT,
    SERVICE_FILE_PART,
)

_FILE, _PART, _EVENT = SERVICE_FILE, SERVICE_FILE_PART, SERVICE_FILE_EVENT
_COLUMNS = tuple(c for c in _FILE.c if c.name != "position")
_OPEN = (FileState.UPLOADING.value, FileState.STORED.value)
_SWEPT_MAX = 100


class ServiceContentStorage:
    """Reads and writes inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def usage(self, provider_id: str, service_id: str) -> Usage:
        """Give what a provider keeps; nobody adds to it until the transaction ends."""
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        await self._connection.execute(lock, {"name": f"service_file {provider_id}"})
        kept = _FILE.c.state.in_(_OPEN) | _FILE.c.expires_at.is_not(None)
        here = _FILE.c.service_id == service_id
        size = func.coalesce(func.sum(_FILE.c.size_bytes), 0)
        query = select(
            func.count().filter(here & _FILE.c.state.in_(_OPEN)),
            func.coalesce(func.sum(_FILE.c.size_bytes).filter(here), 0),
            size,
        ).where(_FILE.c.provider_id == provider_id, kept)
        row = (await self._connection.execute(query)).one()
        return Usage(int(row[0]), int(row[1]), int(row[2]))

    async def begin(self, file: ServiceFile, actor: str, now: datetime) -> None:
        """Write a file of which nothing is received yet."""
        row = {**asdict(file), "kind": file.kind.value, "state": file.state.value}
        await self._connection.execute(insert(_FILE).values(row))
        await self._remember(file, actor, now)

    async def append(self, file: ServiceFile, content: bytes, expires_at: datetime) -> bool:
        """Write the next part; False where the upload is somewhere else by now, or over."""
        here = (_FILE.c.file_id == file.file_id) & (_FILE.c.received_bytes == file.received_bytes)
        going_on = here & (_FILE.c.state == FileState.UPLOADING.value)
        received = file.received_bytes + len(content)
        values = {"received_bytes": received, "expires_at": expires_at}
        done = await self._connection.execute(update(_FILE).where(going_on).values(values))
        if done.rowcount != 1:
            return False
        row = {
            "file_id": file.file_id,
            "offset_bytes": file.received_bytes,
            "content": content,
        }
        await self._connection.execute(insert(_PART).values(row))
        return True

    async def begin_again(self, file: ServiceFile) -> None:
        """Forget what an upload received."""
        await self._connection.execute(delete(_PART).where(_PART.c.file_id == file.file_id))
        await self._update(file, received_bytes=0)

    async def part(self, file_id: str, offset_bytes: int) -> bytes | None:
        """Give the part in which a byte lies, whole; None where it is gone."""
        begin = offset_bytes - offset_bytes % PART_BYTES
        mine = (_PART.c.file_id == file_id) & (_PART.c.offset_bytes == begin)
        found = await self._connection.execute(select(_PART.c.content).where(mine))
        return found.scalar_one_or_none()

    async def store(self, file: ServiceFile, actor: str, now: datetime) -> ServiceFile:
        """Make a whole upload the file of its name, in the place of an earlier one."""
        earlier = select(*_COLUMNS).where(
            _FILE.c.service_id == file.service_id,
            _FILE.c.name == file.name,
            _FILE.c.state == FileState.STORED.value,
        )
        row = (await self._connection.execute(earlier.with_for_update())).one_or_none()
        if row is not None:
            await self.remove(_file(row), FileState.REPLACED, actor, now)
        state = take_step(file.state, FileState.STORED)
        stored = replace(file, state=state, expires_at=None, stored_at=now)
        await self._update(stored, state=state.value, expires_at=None, stored_at=now)
        await self._remember(stored, actor, now)
        return stored

    async def remove(
        self, file: ServiceFile, step: FileState, actor: str, now: datetime
    ) -> ServiceFile:
        """Take a file or an upload away; its content is dropped later."""
        state = take_step(file.state, step)
        kept_until = now + REMOVED_KEPT
        removed = replace(file, state=state, expires_at=kept_until)
        await self._update(removed, state=state.value, expires_at=kept_until)
        await self._remember(removed, actor, now)
        return removed

    async def drop(self, file: ServiceFile) -> None:
        """Drop the content of a removed file; what is known of it stays."""
        await self._connection.execute(delete(_PART).where(_PART.c.file_id == file.file_id))
        await self._update(file, expires_at=None)

    async def expired(self, now: datetime) -> list[ServiceFile]:
        """Give uploads that are given up and removed files whose time is over, locked."""
        query = select(*_COLUMNS).where(_FILE.c.expires_at < now).order_by(_FILE.c.expires_at)
        query = query.limit(_SWEPT_MAX).with_for_update(skip_locked=True)
        return [_file(row) for row in await self._connection.execute(query)]

    async def get(self, file_id: str, *, lock: bool = False) -> ServiceFile:
        """Give a file; locked it stays as it is until the transaction ends. Raises NOT_FOUND."""
        query = select(*_COLUMNS).where(_FILE.c.file_id == file_id)
        if lock:
            query = query.with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("file")
        return _file(row)

    async def page(self, page: Page[str], service_id: str) -> tuple[list[ServiceFile], PageInfo]:
        """List the stored files of a service by name."""
        name = _FILE.c.name.collate("C")
        mine = (_FILE.c.service_id == service_id) & (_FILE.c.state == FileState.STORED.value)
        rows = (await self._connection.execute(page.of(select(*_COLUMNS).where(mine), name))).all()
        shown, info = page.cut(rows, lambda row: str(row.name))
        return [_file(row) for row in shown], info

    async def events(self, page: Page[int], service_id: str) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the history of a service's files, the oldest first."""
        query = page.of(select(_EVENT).where(_EVENT.c.service_id == service_id), _EVENT.c.position)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: int(row.position))

    async def _update(self, file: ServiceFile, **values: object) -> None:
        mine = _FILE.c.file_id == file.file_id
        await self._connection.execute(update(_FILE).where(mine).values(values))

    async def _remember(self, file: ServiceFile, actor: str, now: datetime) -> None:
        row = {
            "service_id": file.service_id,
            "file_id": file.file_id,
            "name": file.name,
            "digest": file.digest,
            "state": file.state.value,
            "actor": actor,
            "occurred_at": now,
        }
        await self._connection.execute(insert(_EVENT).values(row))


def _file(row: Any) -> ServiceFile:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    return ServiceFile(
        **{**values, "kind": FileKind(row.kind), "state": FileState(row.state)},
    )
