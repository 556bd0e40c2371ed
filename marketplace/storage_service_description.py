"""Registration contracts, images, hosting and related services, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1.service_hosting_pb2 import ServiceHosting
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.service import ServiceState
from marketplace.service_description import FIRST_REGISTRATION_CONTRACT, RegistrationContract
from marketplace.storage_contract_cover import services_under_contract
from marketplace.storage_paging import Page
from marketplace.storage_tables import SERVICE
from marketplace.storage_tables_service import (
    CROSS_SALE_OPT_OUT,
    REGISTRATION_ACCEPTANCE,
    REGISTRATION_CONTRACT,
    SERVICE_HOSTING,
    SERVICE_IMAGE,
    SERVICE_RELATED,
)

_LOCK = "LOCK TABLE marketplace.registration_contract IN SHARE ROW EXCLUSIVE MODE"


class ServiceDescriptionStorage:
    """Reads and writes what belongs to services, inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def current_registration_contract(self) -> int:
        """Give the version in force."""
        newest = select(func.max(REGISTRATION_CONTRACT.c.version))
        return int(await self._connection.scalar(newest) or FIRST_REGISTRATION_CONTRACT.version)

    async def registration_contract(self, version: int) -> RegistrationContract:
        """Give one version; raises MarketError NOT_FOUND."""
        if version == FIRST_REGISTRATION_CONTRACT.version:
            return FIRST_REGISTRATION_CONTRACT
        found = REGISTRATION_CONTRACT.c.version == version
        query = select(REGISTRATION_CONTRACT).where(found)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("registration contract")
        return RegistrationContract(row.version, row.title, row.text, row.published_at)

    async def publish_registration_contract(
        self, title: str, words: str, actor: Actor, now: datetime
    ) -> RegistrationContract:
        """Put the next version into force."""
        await self._connection.execute(text(_LOCK))
        version = await self.current_registration_contract() + 1
        row = {
            "version": version,
            "title": title,
            "text": words,
            "published_by": actor.name,
            "published_at": now,
        }
        await self._connection.execute(insert(REGISTRATION_CONTRACT).values(row))
        return RegistrationContract(version, title, words, now)

    async def accept(self, service_id: str, version: int, actor: Actor, now: datetime) -> None:
        """Write that the registration contract was accepted, by which partner and when.

        This never changes: the person, who is erased one day, stands in the service's history.
        """
        row = {
            "service_id": service_id,
            "version": version,
            "actor": actor.subject_id,
            "accepted_at": now,
        }
        await self._connection.execute(insert(REGISTRATION_ACCEPTANCE).values(row))

    async def add_image(
        self, image_id: str, provider_id: str, reference: str, title: str, now: datetime
    ) -> Row[Any]:
        """Write an image; raises MarketError ALREADY_EXISTS where the provider has it."""
        row = {
            "image_id": image_id,
            "provider_id": provider_id,
            "reference": reference,
            "title": title,
            "registered_at": now,
        }
        statement = insert(SERVICE_IMAGE).values(row).on_conflict_do_nothing()
        added = await self._connection.execute(statement.returning(SERVICE_IMAGE))
        image: Row[Any] | None = added.one_or_none()
        if image is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_ALREADY_EXISTS,
                "The partner has registered this image already.",
                metadata={"kind": "image"},
            )
        return image

    async def image(self, image_id: str, provider_id: str) -> Row[Any]:
        """Give an image of a provider; raises MarketError NOT_FOUND."""
        query = select(SERVICE_IMAGE).where(
            SERVICE_IMAGE.c.image_id == image_id, SERVICE_IMAGE.c.provider_id == provider_id
        )
        row: Row[Any] | None = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("image")
        return row

    async def images(
        self, page: Page[int], provider_id: str
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the images of a provider, the oldest first."""
        query = select(SERVICE_IMAGE).where(SERVICE_IMAGE.c.provider_id == provider_id)
        rows = await self._connection.execute(page.of(query, SERVICE_IMAGE.c.position))
        return page.cut(rows.all(), lambda row: int(row.position))

    async def host(
        self, service_id: str, hosting: ServiceHosting | None, image_id: str | None
    ) -> None:
        """Write where a service is hosted, and its image; None leaves each as it is."""
        stated: dict[str, object] = {}
        if hosting is not None:
            names = ("country_code", "region", "operator_name", "contact_email")
            stated = {name: getattr(hosting, name) for name in names}
        if image_id is not None:
            stated["image_id"] = image_id
        if not stated:
            return
        empty = {"region": "", "operator_name": "", "contact_email": ""}
        statement = insert(SERVICE_HOSTING).values({**empty, **stated, "service_id": service_id})
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=["service_id"], set_=stated)
        )

    async def hosting(self, service_id: str) -> tuple[Row[Any] | None, Row[Any] | None]:
        """Give where a service is hosted, and its image; None for what is not stated."""
        query = select(SERVICE_HOSTING).where(SERVICE_HOSTING.c.service_id == service_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None or row.image_id is None:
            return row, None
        query = select(SERVICE_IMAGE).where(SERVICE_IMAGE.c.image_id == row.image_id)
        return row, (await self._connection.execute(query)).one()

    async def forget_contact(self, service_id: str) -> None:
        """Drop the address of a person, which nobody needs any more."""
        mine = SERVICE_HOSTING.c.service_id == service_id
        await self._connection.execute(update(SERVICE_HOSTING).where(mine).values(contact_email=""))

    async def relate(self, service_id: str, related_ids: Sequence[str], provider_id: str) -> None:
        """Replace the related services; raises MarketError NOT_FOUND for what is not usable."""
        usable = (SERVICE.c.provider_id == provider_id) & (
            SERVICE.c.state != ServiceState.DELETED.value
        )
        query = select(func.count()).select_from(SERVICE)
        query = query.where(usable, SERVICE.c.service_id.in_(related_ids))
        if int(await self._connection.scalar(query) or 0) != len(related_ids):
            raise not_found("related service")
        mine = SERVICE_RELATED.c.service_id == service_id
        await self._connection.execute(delete(SERVICE_RELATED).where(mine))
        rows = [
            {"service_id": service_id, "related_id": related_id, "place": place}
            for place, related_id in enumerate(related_ids)
        ]
        if rows:
            await self._connection.execute(insert(SERVICE_RELATED), rows)

    async def related(self, service_id: str, not_of: str = "") -> Sequence[Row[Any]]:
        """Give the published related services, in their order.

        Without those that the partner `not_of` has a contract for.
        """
        query = (
            select(SERVICE.c.service_id, SERVICE.c.title, SERVICE.c.interface_name)
            .add_columns(SERVICE.c.category)
            .join(SERVICE_RELATED, SERVICE_RELATED.c.related_id == SERVICE.c.service_id)
            .where(SERVICE_RELATED.c.service_id == service_id)
            .where(SERVICE.c.state == ServiceState.PUBLISHED.value)
            .order_by(SERVICE_RELATED.c.place)
        )
        if not_of:
            query = query.where(SERVICE.c.service_id.not_in(services_under_contract(not_of)))
        return (await self._connection.execute(query)).all()

    async def opted_out(self, partner_id: str) -> bool:
        """Say whether a partner does not want to be shown related services."""
        mine = CROSS_SALE_OPT_OUT.c.partner_id == partner_id
        query = select(CROSS_SALE_OPT_OUT.c.partner_id).where(mine)
        return (await self._connection.execute(query)).first() is not None

    async def opt(self, partner_id: str, *, out: bool, now: datetime) -> None:
        """Write whether a partner wants to be shown related services."""
        if out:
            row = {"partner_id": partner_id, "opted_out_at": now}
            statement = insert(CROSS_SALE_OPT_OUT).values(row).on_conflict_do_nothing()
            await self._connection.execute(statement)
        else:
            mine = CROSS_SALE_OPT_OUT.c.partner_id == partner_id
            await self._connection.execute(delete(CROSS_SALE_OPT_OUT).where(mine))
