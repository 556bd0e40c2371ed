"""The versions of the partner contract in PostgreSQL; the first comes with the marketplace."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import Actor, not_found
from marketplace.partner import PartnerState
from marketplace.partner_contract import FIRST_VERSION, ContractVersion, first_contract
from marketplace.storage_paging import Page
from marketplace.storage_tables import PARTNER
from marketplace.storage_tables_partner import PARTNER_CONTRACT

#: Key of the advisory lock under which versions are published one by one.
_PUBLICATION_LOCK = 0x67656D07


class PartnerContractStorage:
    """Reads and writes versions inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def lock(self) -> None:
        """Have nobody else publish a version until the transaction ends."""
        statement = text("SELECT pg_advisory_xact_lock(:key)")
        await self._connection.execute(statement, {"key": _PUBLICATION_LOCK})

    async def current_version(self) -> int:
        """Give the version that has to be accepted now."""
        query = select(func.max(PARTNER_CONTRACT.c.version))
        return int(await self._connection.scalar(query) or FIRST_VERSION)

    async def get(self, version: int) -> ContractVersion:
        """Give a version, 0 for the current one; raises MarketError NOT_FOUND."""
        wanted = version or await self.current_version()
        if wanted == FIRST_VERSION:
            return first_contract()
        query = select(PARTNER_CONTRACT).where(PARTNER_CONTRACT.c.version == wanted)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("version of the partner contract")
        return ContractVersion(row.version, row.title, row.text, row.published_at)

    async def add(self, contract: ContractVersion, actor: Actor) -> None:
        """Write a new version."""
        row = {
            "version": contract.version,
            "title": contract.title,
            "text": contract.text,
            "published_by": actor.name,
            "published_at": contract.published_at,
        }
        await self._connection.execute(insert(PARTNER_CONTRACT).values(row))

    async def page(self, page: Page[int]) -> tuple[list[ContractVersion], PageInfo]:
        """List the versions without their texts, the latest first; the last page has the first."""
        columns = [column for column in PARTNER_CONTRACT.c if column.name != "text"]
        query: Select[Any] = select(*columns)
        query = page.of(query, PARTNER_CONTRACT.c.version, descending=True)
        rows = (await self._connection.execute(query)).all()
        shown, info = page.cut(rows, lambda row: int(row.version))
        found = [ContractVersion(row.version, row.title, "", row.published_at) for row in shown]
        if not info.next_page_token and (page.after is None or page.after > FIRST_VERSION):
            first = first_contract()
            found.append(ContractVersion(first.version, first.title, "", None))
        return found, info

    async def active_partners(self) -> list[str]:
        """Give the partners that a new version concerns."""
        query = select(PARTNER.c.partner_id).where(PARTNER.c.state == PartnerState.ACTIVE.value)
        return list(await self._connection.scalars(query.order_by(PARTNER.c.partner_id)))
