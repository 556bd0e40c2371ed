"""Registration requests and their history in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1.partner_pb2 import PartnerProfile
from marketplace.actor import Actor, not_found
from marketplace.partner_registration import (
    HOUR,
    KEPT_AFTER_DECISION,
    Registration,
    RegistrationState,
    RegistrationStep,
    Waiting,
    reference_not_found,
)
from marketplace.storage_paging import Page
from marketplace.storage_tables import COMMAND
from marketplace.storage_tables_partner import PARTNER_REGISTRATION, PARTNER_REGISTRATION_EVENT

_TABLE, _EVENT = PARTNER_REGISTRATION, PARTNER_REGISTRATION_EVENT
#: All but personal data and the reference.
_COLUMNS = tuple(
    column
    for column in _TABLE.c
    if column.name not in ("profile", "person_email", "reference_digest", "applicant")
)
#: Key of the advisory lock under which requests are counted and added one by one.
_ADDING_LOCK = 0x67656D08
#: Refused requests whose time is over that one new request clears: more than it adds.
_CLEARED_AT_ONCE = 10
_EVENTS_MAX = 10


class RegistrationStorage:
    """Reads and writes registration requests inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def waiting(self, applicant: Actor, now: datetime) -> Waiting:
        """Count what waits; nobody adds a request until the transaction ends."""
        lock = text("SELECT pg_advisory_xact_lock(:key)")
        await self._connection.execute(lock, {"key": _ADDING_LOCK})
        waits = _TABLE.c.state == RegistrationState.REQUESTED.value
        of_person = waits & (_TABLE.c.applicant == applicant.name)
        counts = [
            int(await self._connection.scalar(select(func.count()).where(condition)) or 0)
            for condition in (waits, of_person, _TABLE.c.requested_at > now - HOUR)
        ]
        return Waiting(*counts)

    async def add(
        self,
        registration: Registration,
        profile: PartnerProfile,
        applicant: Actor,
        reference_digest: bytes,
    ) -> None:
        """Write a new request."""
        row = {
            "registration_id": registration.registration_id,
            "reference_digest": reference_digest,
            "partner_id": registration.partner_id,
            "state": registration.state.value,
            "roles": list(registration.roles),
            "identifier_kinds": [int(item.kind) for item in registration.identifiers],
            "identifier_values": [item.value for item in registration.identifiers],
            "partner_contract_version": registration.partner_contract_version,
            "applicant": applicant.name,
            "profile": profile.SerializeToString(deterministic=True),
            "person_email": profile.responsible_person.email,
            "requested_at": registration.requested_at,
        }
        await self._connection.execute(insert(_TABLE).values(row))

    async def renew_reference(self, registration_id: str, reference_digest: bytes) -> bool:
        """Put a reference in place of the one before; False where the request does not wait."""
        mine = (_TABLE.c.registration_id == registration_id) & (
            _TABLE.c.state == RegistrationState.REQUESTED.value
        )
        statement = update(_TABLE).where(mine).values(reference_digest=reference_digest)
        return (await self._connection.execute(statement)).rowcount == 1

    async def by_reference(self, reference_digest: bytes, *, held: bool = True) -> Registration:
        """Give the request of a reference, `held` until the transaction ends; NOT_FOUND."""
        query = select(*_COLUMNS).where(_TABLE.c.reference_digest == reference_digest)
        row = (
            await self._connection.execute(query.with_for_update() if held else query)
        ).one_or_none()
        if row is None:
            raise reference_not_found()
        return _registration(row)

    async def get(self, registration_id: str, *, held: bool = False) -> Registration:
        """Give a request, `held` until the transaction ends where said; NOT_FOUND."""
        query = select(*_COLUMNS).where(_TABLE.c.registration_id == registration_id)
        row = (
            await self._connection.execute(query.with_for_update() if held else query)
        ).one_or_none()
        if row is None:
            raise not_found("registration request")
        return _registration(row)

    async def profile(self, registration_id: str) -> PartnerProfile | None:
        """Give what the company stated about itself; None where it is erased."""
        query = select(_TABLE.c.profile).where(_TABLE.c.registration_id == registration_id)
        raw: bytes = (await self._connection.execute(query)).scalar_one()
        return PartnerProfile.FromString(raw) if raw else None

    async def save(
        self, after: Registration, step: RegistrationStep, actor: Actor, now: datetime
    ) -> None:
        """Write a request as it is after a step, and the step's row of the history."""
        values = {
            "state": after.state.value,
            "decision_reason": after.decision_reason,
            "decided_at": after.decided_at,
            "certificate_issued": after.certificate_issued,
            "administrator_created": after.administrator_created,
        }
        mine = _TABLE.c.registration_id == after.registration_id
        await self._connection.execute(update(_TABLE).where(mine).values(values))
        await self.remember(after, step, actor, now)

    async def remember(
        self, registration: Registration, step: RegistrationStep, actor: Actor, now: datetime
    ) -> None:
        """Write one row of the history; `registration` is as it is after the step."""
        row = {
            "registration_id": registration.registration_id,
            "kind": step.value,
            "state": registration.state.value,
            "actor": actor.name,
            "occurred_at": now,
        }
        await self._connection.execute(insert(_EVENT).values(row))

    async def erase_person(self, registration_id: str) -> None:
        """Forget what the company stated about itself, and what says that it was that person."""
        await self._erase(_TABLE.c.registration_id == registration_id)

    async def clear_refused(self, now: datetime) -> None:
        """Forget the persons of some requests that were refused long ago."""
        old = (
            select(_TABLE.c.registration_id)
            .where(_TABLE.c.state == RegistrationState.REFUSED.value, _TABLE.c.profile != b"")
            .where(_TABLE.c.decided_at < now - KEPT_AFTER_DECISION)
            .limit(_CLEARED_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        found = list(await self._connection.scalars(old))
        if found:
            await self._erase(_TABLE.c.registration_id.in_(found), {"reference_digest": None})

    async def page(
        self, page: Page[int], state: RegistrationState | None
    ) -> tuple[list[Registration], PageInfo]:
        """List requests, the oldest first, where given only those in the state."""
        query = select(*_COLUMNS)
        if state is not None:
            query = query.where(_TABLE.c.state == state.value)
        rows = (await self._connection.execute(page.of(query, _TABLE.c.position))).all()
        shown, info = page.cut(rows, lambda row: int(row.position))
        return [_registration(row) for row in shown], info

    async def events(self, registration_id: str) -> Sequence[Row[Any]]:
        """Give what happened to a request, the oldest first; its steps are few."""
        query = select(_EVENT).where(_EVENT.c.registration_id == registration_id)
        query = query.order_by(_EVENT.c.position).limit(_EVENTS_MAX)
        return (await self._connection.execute(query)).all()

    async def _erase(self, which: Any, more: dict[str, Any] | None = None) -> None:
        # The first result of the request's command goes too: it is kept under the person's name.
        named = select(_TABLE.c.applicant).where(which, _TABLE.c.applicant != "")
        await self._connection.execute(delete(COMMAND).where(COMMAND.c.subject_id.in_(named)))
        values = {"profile": b"", "person_email": "", "applicant": "", **(more or {})}
        await self._connection.execute(update(_TABLE).where(which).values(values))


def _registration(row: Any) -> Registration:
    pairs = zip(row.identifier_kinds, row.identifier_values, strict=True)
    return Registration(
        registration_id=row.registration_id,
        partner_id=row.partner_id,
        state=RegistrationState(row.state),
        roles=tuple(row.roles),
        identifiers=tuple(OwnedIdentifier(kind=kind, value=value) for kind, value in pairs),
        partner_contract_version=row.partner_contract_version,
        requested_at=row.requested_at,
        decision_reason=row.decision_reason,
        decided_at=row.decided_at,
        certificate_issued=row.certificate_issued,
        administrator_created=row.administrator_created,
    )
