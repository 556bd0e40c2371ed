"""Requests about contracts, later revisions of their terms, and added services, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, literal, select, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import not_found
from marketplace.amendment import Amendment, AmendmentKind, AmendmentState
from marketplace.router.target import Price
from marketplace.storage_paging import Page
from marketplace.storage_price import price_columns
from marketplace.storage_tables import CONTRACT
from marketplace.storage_tables_contract import (
    CONTRACT_AMENDMENT,
    CONTRACT_REVISION,
    CONTRACT_SERVICE,
)

_OPEN = [AmendmentState.PENDING.value, AmendmentState.SCHEDULED.value]
_COLUMNS = tuple(column for column in CONTRACT_AMENDMENT.c if column.name != "position")


class AmendmentStorage:
    """Reads and writes requests inside a transaction that the caller owns.

    Whoever changes one holds the lock of its contract.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, amendment: Amendment) -> None:
        """Write a new request; raises MarketError STATE_NOT_ALLOWED where one is open."""
        row = {
            "amendment_id": amendment.amendment_id,
            "contract_id": amendment.contract_id,
            "kind": amendment.kind.value,
            "state": amendment.state.value,
            "requested_by": amendment.requested_by,
            "reason": amendment.reason,
            "content": amendment.content,
            "effective_at": amendment.effective_at,
            "created_at": amendment.created_at,
        }
        statement = insert(CONTRACT_AMENDMENT).values(row).on_conflict_do_nothing()
        if (await self._connection.execute(statement)).rowcount == 0:
            raise MarketError(
                ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
                "The contract has a request that is pending, or accepted for later.",
            )

    async def get(self, amendment_id: str) -> Amendment:
        """Give a request; raises MarketError NOT_FOUND."""
        mine = CONTRACT_AMENDMENT.c.amendment_id == amendment_id
        row = (await self._connection.execute(select(*_COLUMNS).where(mine))).one_or_none()
        if row is None:
            raise not_found("request")
        return _amendment(row)

    async def open(self, contract_id: str) -> Amendment | None:
        """Give the request of a contract that is pending or scheduled."""
        mine = CONTRACT_AMENDMENT.c.contract_id == contract_id
        query = select(*_COLUMNS).where(mine, CONTRACT_AMENDMENT.c.state.in_(_OPEN))
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else _amendment(row)

    async def set_state(
        self, amendment: Amendment, state: AmendmentState, now: datetime, note: str | None = None
    ) -> Amendment:
        """Write the state, and when and with which note it was decided; gives it after that."""
        after = replace(
            amendment,
            state=state,
            decided_at=amendment.decided_at or now,
            note=amendment.note if note is None else note,
        )
        mine = CONTRACT_AMENDMENT.c.amendment_id == amendment.amendment_id
        values = {"state": state.value, "decided_at": after.decided_at, "note": after.note}
        await self._connection.execute(update(CONTRACT_AMENDMENT).where(mine).values(values))
        return after

    async def page(self, page: Page[int], contract_id: str) -> tuple[list[Amendment], PageInfo]:
        """List the requests about a contract, the oldest first."""
        query = select(CONTRACT_AMENDMENT).where(CONTRACT_AMENDMENT.c.contract_id == contract_id)
        query = page.of(query, CONTRACT_AMENDMENT.c.position)
        rows = (await self._connection.execute(query)).all()
        shown, info = page.cut(rows, lambda row: int(row.position))
        return [_amendment(row) for row in shown], info

    async def add_revision(
        self, amendment: Amendment, revision: int, terms: bytes, price: Price, at: datetime
    ) -> None:
        """Write terms that hold from an instant on, because of a request."""
        row = {
            "contract_id": amendment.contract_id,
            "revision": revision,
            "terms": terms,
            **price_columns(price),
            "effective_at": at,
            "amendment_id": amendment.amendment_id,
        }
        await self._connection.execute(insert(CONTRACT_REVISION).values(row))

    async def revisions(
        self, page: Page[int], contract_id: str, last: int
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the revisions up to `last`, the oldest first; the first is the contract's row."""
        later = CONTRACT_REVISION.c
        rows = union_all(
            select(
                literal(1).label("revision"),
                CONTRACT.c.terms,
                func.coalesce(CONTRACT.c.starts_at, CONTRACT.c.created_at).label("effective_at"),
            ).where(CONTRACT.c.contract_id == contract_id),
            select(later.revision, later.terms, later.effective_at).where(
                later.contract_id == contract_id, later.revision <= last
            ),
        ).subquery()
        query = page.of(select(rows), rows.c.revision)
        found = (await self._connection.execute(query)).all()
        return page.cut(found, lambda row: int(row.revision))

    async def add_service(
        self, contract_id: str, service_id: str, offering_id: str, price: Price, at: datetime
    ) -> None:
        """Write a further service of a contract that calls reach from an instant on."""
        row = {
            "contract_id": contract_id,
            "service_id": service_id,
            "offering_id": offering_id,
            **price_columns(price),
            "effective_at": at,
        }
        await self._connection.execute(insert(CONTRACT_SERVICE).values(row))


def _amendment(row: Row[Any]) -> Amendment:
    values = {name: value for name, value in row._mapping.items() if name != "position"}  # noqa: SLF001  # SQLAlchemy's public name for it
    kinds = {"kind": AmendmentKind(row.kind), "state": AmendmentState(row.state)}
    return Amendment(**{**values, **kinds})
