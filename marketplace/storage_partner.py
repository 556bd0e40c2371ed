"""Partners, their history and the identifiers that they own, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from foundation.identifiers import owner_key
from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1.partner_pb2 import PartnerProfile
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.partner import BLOCKING_CONTRACTS_SHOWN, Partner, PartnerState, PartnerStep
from marketplace.storage_command import Lock
from marketplace.storage_paging import Page
from marketplace.storage_tables import CONTRACT, OWNED_IDENTIFIER, PARTNER, PARTNER_EVENT

_COLUMNS = (
    PARTNER.c.partner_id,
    PARTNER.c.state,
    PARTNER.c.roles,
    PARTNER.c.partner_contract_version,
    PARTNER.c.registered_at,
    PARTNER.c.revision,
)


class PartnerStorage:
    """Reads and writes partners inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, partner: Partner, profile: PartnerProfile) -> None:
        """Write a new partner; raises MarketError ALREADY_EXISTS when the id is taken."""
        row = {
            "partner_id": partner.partner_id,
            "state": partner.state.value,
            "roles": list(partner.roles),
            **_profile_columns(profile),
            "partner_contract_version": partner.partner_contract_version,
            "registered_at": partner.registered_at,
            "revision": partner.revision,
        }
        statement = insert(PARTNER).values(row).on_conflict_do_nothing()
        added = await self._connection.execute(statement.returning(PARTNER.c.partner_id))
        if added.one_or_none() is None:
            raise _taken("partner", "A partner with this id is registered already.")

    async def get(self, partner_id: str) -> Partner:
        """Give a partner; raises MarketError NOT_FOUND."""
        return await self._one(partner_id)

    async def locked(self, partner_id: str) -> Partner:
        """Give a partner that nobody else changes, nor contracts, until the transaction ends."""
        return await self._one(partner_id, lock=Lock.ALONE)

    async def shared(self, partner_id: str) -> Partner:
        """Give a partner that nobody changes until the transaction ends, while others may read."""
        return await self._one(partner_id, lock=Lock.SHARED)

    async def profile(self, partner_id: str) -> PartnerProfile:
        """Give what a partner stated about itself: personal data."""
        query = select(
            PARTNER.c.company_name,
            PARTNER.c.postal_address,
            PARTNER.c.country_code,
            PARTNER.c.person_name,
            PARTNER.c.person_email,
            PARTNER.c.person_phone,
        ).where(PARTNER.c.partner_id == partner_id)
        row = (await self._connection.execute(query)).one()
        profile = PartnerProfile(
            company_name=row.company_name,
            postal_address=row.postal_address,
            country_code=row.country_code,
        )
        # Of a deleted partner there is nobody.
        if row.person_name:
            profile.responsible_person.full_name = row.person_name
            profile.responsible_person.email = row.person_email
            profile.responsible_person.phone = row.person_phone
        return profile

    async def page(
        self, page: Page[str], state: PartnerState | None, role: int
    ) -> tuple[list[Partner], PageInfo]:
        """List partners by id, where given only those in the state and with the role."""
        query = select(*_COLUMNS)
        if state is not None:
            query = query.where(PARTNER.c.state == state.value)
        if role:
            query = query.where(PARTNER.c.roles.contains([role]))
        rows = (await self._connection.execute(page.of(query, PARTNER.c.partner_id))).all()
        shown, info = page.cut(rows, lambda row: str(row.partner_id))
        return [_partner(row) for row in shown], info

    async def set_state(self, partner_id: str, state: PartnerState) -> None:
        """Write the state."""
        await self._update(partner_id, {"state": state.value})

    async def change(self, partner: Partner, profile: PartnerProfile | None = None) -> Partner:
        """Write roles and, where given, the profile, and give the partner with its new revision.

        To be called for identifiers too, once in a transaction that holds the partner.
        """
        after = replace(partner, revision=partner.revision + 1)
        values: dict[str, object] = {"roles": list(after.roles), "revision": after.revision}
        if profile is not None:
            values |= _profile_columns(profile)
        await self._update(after.partner_id, values)
        return after

    async def set_contract_version(self, partner_id: str, version: int) -> None:
        """Write which version of the partner contract a partner accepted last."""
        await self._update(partner_id, {"partner_contract_version": version})

    async def remember(
        self, partner: Partner, step: PartnerStep, actor: Actor, now: datetime, detail: str = ""
    ) -> None:
        """Write one row of the history; `partner` is as it is after the step.

        `detail` names what the step is about and never a person.
        """
        row = {
            "partner_id": partner.partner_id,
            "kind": step.value,
            "state": partner.state.value,
            "actor": actor.name,
            "occurred_at": now,
            "detail": detail,
        }
        await self._connection.execute(insert(PARTNER_EVENT).values(row))

    async def events(self, page: Page[int], partner_id: str) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List what happened to a partner, the oldest first."""
        query = select(PARTNER_EVENT).where(PARTNER_EVENT.c.partner_id == partner_id)
        rows = (await self._connection.execute(page.of(query, PARTNER_EVENT.c.position))).all()
        return page.cut(rows, lambda row: int(row.position))

    async def identifiers(self, partner_ids: Sequence[str]) -> dict[str, list[OwnedIdentifier]]:
        """Give what each of these partners owns, by kind and value."""
        query = (
            select(OWNED_IDENTIFIER.c.partner_id, OWNED_IDENTIFIER.c.kind, OWNED_IDENTIFIER.c.value)
            .where(OWNED_IDENTIFIER.c.partner_id.in_(partner_ids))
            .order_by(OWNED_IDENTIFIER.c.kind, OWNED_IDENTIFIER.c.value)
        )
        found: dict[str, list[OwnedIdentifier]] = {}
        for row in await self._connection.execute(query):
            identifier = OwnedIdentifier(kind=row.kind, value=row.value)
            found.setdefault(row.partner_id, []).append(identifier)
        return found

    async def check_free(
        self, identifiers: Iterable[OwnedIdentifier], partner_id: str | None = None
    ) -> None:
        """Refuse ids that are taken, as they are now; MarketError ALREADY_EXISTS."""
        if partner_id is not None:
            query = select(PARTNER.c.partner_id).where(PARTNER.c.partner_id == partner_id)
            if await self._connection.scalar(query) is not None:
                raise _taken("partner", "A partner with this id is registered already.")
        keys = [(int(item.kind), owner_key(item.value)) for item in identifiers]
        pair = tuple_(OWNED_IDENTIFIER.c.kind, OWNED_IDENTIFIER.c.value)
        found = select(OWNED_IDENTIFIER.c.value).where(pair.in_(keys)).limit(1)
        if keys and await self._connection.scalar(found) is not None:
            raise _taken("identifier", "A partner owns this identifier already.")

    async def own(self, partner_id: str, identifier: OwnedIdentifier, now: datetime) -> str:
        """Give an identifier to a partner and return its normal form; ALREADY_EXISTS when owned."""
        value = owner_key(identifier.value)
        row = {
            "kind": identifier.kind,
            "value": value,
            "partner_id": partner_id,
            "added_at": now,
        }
        statement = insert(OWNED_IDENTIFIER).values(row).on_conflict_do_nothing()
        added = await self._connection.execute(statement.returning(OWNED_IDENTIFIER.c.value))
        if added.one_or_none() is None:
            raise _taken("identifier", "A partner owns this identifier already.")
        return value

    async def disown(self, partner_id: str, identifier: OwnedIdentifier) -> str:
        """Take an identifier from a partner and return its normal form; NOT_FOUND if not owned."""
        value = owner_key(identifier.value)
        statement = delete(OWNED_IDENTIFIER).where(
            OWNED_IDENTIFIER.c.kind == identifier.kind,
            OWNED_IDENTIFIER.c.value == value,
            OWNED_IDENTIFIER.c.partner_id == partner_id,
        )
        if (await self._connection.execute(statement)).rowcount == 0:
            raise not_found("identifier")
        return value

    async def contracts_in_force(self, partner_id: str) -> tuple[list[str], int]:
        """Give the first ids and the number of the contracts to which a partner is a party."""
        party = (CONTRACT.c.requester_id == partner_id) | (CONTRACT.c.provider_id == partner_id)
        mine = party & CONTRACT.c.state.not_in(["TERMINATED", "EXPIRED"])
        query = select(CONTRACT.c.contract_id).where(mine).order_by(CONTRACT.c.position)
        first = await self._connection.scalars(query.limit(BLOCKING_CONTRACTS_SHOWN))
        count = await self._connection.scalar(
            select(func.count()).select_from(CONTRACT).where(mine)
        )
        return list(first), int(count or 0)

    async def _one(self, partner_id: str, lock: Lock | None = None) -> Partner:
        query = select(*_COLUMNS).where(PARTNER.c.partner_id == partner_id)
        if lock is not None:
            query = query.with_for_update(read=lock is Lock.SHARED)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("partner")
        return _partner(row)

    async def _update(self, partner_id: str, values: dict[str, object]) -> None:
        statement = update(PARTNER).where(PARTNER.c.partner_id == partner_id).values(values)
        await self._connection.execute(statement)


def _partner(row: Any) -> Partner:
    return Partner(
        partner_id=row.partner_id,
        state=PartnerState(row.state),
        roles=tuple(row.roles),
        partner_contract_version=row.partner_contract_version,
        registered_at=row.registered_at,
        revision=row.revision,
    )


def _profile_columns(profile: PartnerProfile) -> dict[str, object]:
    person = profile.responsible_person
    return {
        "company_name": profile.company_name,
        "postal_address": profile.postal_address,
        "country_code": profile.country_code,
        "person_name": person.full_name,
        "person_email": person.email,
        "person_phone": person.phone,
    }


def _taken(kind: str, message: str) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_ALREADY_EXISTS, message, metadata={"kind": kind})
