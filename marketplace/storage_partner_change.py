"""Change requests in PostgreSQL; their steps are in the partner's history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1.partner_pb2 import PartnerProfile
from marketplace.actor import Actor, not_found
from marketplace.partner_change import AccountData, ChangeKind, ChangeState, PartnerChange
from marketplace.storage_paging import Page
from marketplace.storage_tables import PARTNER
from marketplace.storage_tables_partner import PARTNER_CHANGE

_TABLE = PARTNER_CHANGE
_COLUMNS = tuple(
    column for column in _TABLE.c if not column.name.startswith(("old_", "new_", "position"))
)


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Conditions of a list of change requests; an empty one does not apply."""

    partner_id: str = ""
    state: ChangeState | None = None


class ChangeStorage:
    """Reads and writes change requests inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, change: PartnerChange, old: AccountData, new: AccountData) -> None:
        """Write a new request."""
        row = {
            "change_id": change.change_id,
            "partner_id": change.partner_id,
            "kind": change.kind.value,
            "state": change.state.value,
            "base_revision": change.base_revision,
            "note": change.note,
            "requested_at": change.requested_at,
        }
        row |= _data_columns("old", old) | _data_columns("new", new)
        await self._connection.execute(insert(_TABLE).values(row))

    async def waiting(self, partner_id: str) -> list[ChangeKind]:
        """Give the kinds of a partner's requests that wait; the caller holds the partner."""
        mine = (_TABLE.c.partner_id == partner_id) & (_TABLE.c.state == ChangeState.REQUESTED.value)
        kinds = await self._connection.scalars(select(_TABLE.c.kind).where(mine))
        return [ChangeKind(kind) for kind in kinds]

    async def get(self, change_id: str, *, held: bool = False) -> PartnerChange:
        """Give a request, `held` until the transaction ends where said; NOT_FOUND."""
        query = select(*_COLUMNS).where(_TABLE.c.change_id == change_id)
        row = (
            await self._connection.execute(query.with_for_update() if held else query)
        ).one_or_none()
        if row is None:
            raise not_found("change request")
        return _change(row)

    async def data(self, change_id: str) -> tuple[AccountData, AccountData]:
        """Give the account as it was and as it shall be; both empty where they are erased."""
        query = select(_TABLE).where(_TABLE.c.change_id == change_id)
        row = (await self._connection.execute(query)).one()
        return (
            _data(row.old_profile, row.old_roles, row.old_identifiers),
            _data(row.new_profile, row.new_roles, row.new_identifiers),
        )

    async def save(self, after: PartnerChange) -> None:
        """Write where a request stands."""
        values = {
            "state": after.state.value,
            "decision_reason": after.decision_reason,
            "decided_at": after.decided_at,
        }
        mine = _TABLE.c.change_id == after.change_id
        await self._connection.execute(update(_TABLE).where(mine).values(values))

    async def page(
        self, page: Page[int], condition: ChangeFilter, actor: Actor
    ) -> tuple[list[tuple[PartnerChange, int]], PageInfo]:
        """List requests that the caller may see with the partner's revision, the oldest first."""
        query = select(*_COLUMNS, _TABLE.c.position, PARTNER.c.revision).join(
            PARTNER, PARTNER.c.partner_id == _TABLE.c.partner_id
        )
        if actor.is_partner:
            query = query.where(_TABLE.c.partner_id == actor.subject_id)
        if condition.partner_id:
            query = query.where(_TABLE.c.partner_id == condition.partner_id)
        if condition.state is not None:
            query = query.where(_TABLE.c.state == condition.state.value)
        rows = (await self._connection.execute(page.of(query, _TABLE.c.position))).all()
        shown, info = page.cut(rows, lambda row: int(row.position))
        return [(_change(row), int(row.revision)) for row in shown], info


def _data_columns(prefix: str, data: AccountData) -> dict[str, Any]:
    return {
        f"{prefix}_profile": data.profile.SerializeToString(deterministic=True),
        f"{prefix}_roles": list(data.roles),
        f"{prefix}_identifiers": [f"{kind} {value}" for kind, value in data.identifiers],
    }


def _data(profile: bytes, roles: Iterable[int], identifiers: Iterable[str]) -> AccountData:
    pairs = (item.partition(" ") for item in identifiers)
    return AccountData(
        PartnerProfile.FromString(profile),
        tuple(roles),
        tuple((int(kind), value) for kind, _, value in pairs),
    )


def _change(row: Any) -> PartnerChange:
    return PartnerChange(
        change_id=row.change_id,
        partner_id=row.partner_id,
        kind=ChangeKind(row.kind),
        state=ChangeState(row.state),
        base_revision=row.base_revision,
        note=row.note,
        decision_reason=row.decision_reason,
        requested_at=row.requested_at,
        decided_at=row.decided_at,
    )
