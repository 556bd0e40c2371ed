"""Versions of the contract framework, and changes of offerings, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1.contract_framework_pb2 import ContractFramework
from marketplace.actor import Actor, not_found
from marketplace.contract_framework import shipped_framework
from marketplace.rendering import timestamp
from marketplace.storage_command import conflict
from marketplace.storage_paging import Page
from marketplace.storage_tables import OFFERING
from marketplace.storage_tables_contract import CONTRACT_FRAMEWORK


class FrameworkStorage:
    """Reads and writes frameworks inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def newest_version(self) -> int:
        """Give the version of which offerings are made."""
        query = select(func.max(CONTRACT_FRAMEWORK.c.version))
        return int(await self._connection.scalar(query) or shipped_framework().version)

    async def get(self, version: int = 0) -> ContractFramework:
        """Give a version, zero for the newest; raises MarketError NOT_FOUND."""
        wanted = version or await self.newest_version()
        if wanted == shipped_framework().version:
            return shipped_framework()
        query = select(CONTRACT_FRAMEWORK).where(CONTRACT_FRAMEWORK.c.version == wanted)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("contract framework")
        framework = ContractFramework.FromString(row.content)
        framework.publish_time.CopyFrom(timestamp(row.published_at))
        return framework

    async def publish(self, framework: ContractFramework, actor: Actor, now: datetime) -> None:
        """Write the next version; raises MarketError CONFLICT where somebody else just did."""
        row = {
            "version": framework.version,
            "content": framework.SerializeToString(deterministic=True),
            "published_by": actor.name,
            "published_at": now,
        }
        statement = insert(CONTRACT_FRAMEWORK).values(row).on_conflict_do_nothing()
        if (await self._connection.execute(statement)).rowcount == 0:
            raise conflict()


class OfferingStorage:
    """Reads and writes offerings of any revision inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, offering_id: str) -> Row[Any]:
        """Give an offering, withdrawn or not; raises MarketError NOT_FOUND."""
        query = select(OFFERING).where(OFFERING.c.offering_id == offering_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("offering")
        return row

    async def count(self, service_id: str) -> int:
        """Give how many offerings of a service can be accepted."""
        mine = (OFFERING.c.service_id == service_id) & OFFERING.c.withdrawn_at.is_(None)
        query = select(func.count()).select_from(OFFERING).where(mine)
        return int(await self._connection.scalar(query) or 0)

    async def add(
        self,
        offering_id: str,
        service_id: str,
        terms: bytes,
        now: datetime,
        previous: Row[Any] | None = None,
    ) -> Row[Any]:
        """Write an offering, or the next revision of `previous`; gives its row."""
        row = {
            "offering_id": offering_id,
            "service_id": service_id,
            "terms": terms,
            "created_at": now,
            "revision": 1 if previous is None else previous.revision + 1,
            "previous_offering_id": None if previous is None else previous.offering_id,
        }
        statement = insert(OFFERING).values(row).returning(*OFFERING.c)
        return (await self._connection.execute(statement)).one()

    async def withdraw(self, offering_id: str, now: datetime) -> Row[Any] | None:
        """Let an offering be accepted no more; None where it could not be any more."""
        mine = (OFFERING.c.offering_id == offering_id) & OFFERING.c.withdrawn_at.is_(None)
        statement = update(OFFERING).where(mine).values(withdrawn_at=now)
        return (await self._connection.execute(statement.returning(*OFFERING.c))).one_or_none()

    async def page(
        self, page: Page[int], service_id: str, *, withdrawn_too: bool
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the offerings of a service, the oldest first."""
        query = select(OFFERING).where(OFFERING.c.service_id == service_id)
        if not withdrawn_too:
            query = query.where(OFFERING.c.withdrawn_at.is_(None))
        rows = (await self._connection.execute(page.of(query, OFFERING.c.position))).all()
        return page.cut(rows, lambda row: int(row.position))
