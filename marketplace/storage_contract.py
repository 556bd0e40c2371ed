"""Contracts and their history, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.contract import ENDED, Contract, ContractState, ContractStep
from marketplace.contract_period import Ending, Period
from marketplace.contract_schedule import due_at
from marketplace.router.target import Price
from marketplace.storage_paging import Page
from marketplace.storage_price import price_columns
from marketplace.storage_tables import CONTRACT, CONTRACT_EVENT
from marketplace.storage_tables_contract import CONTRACT_REVISION, CONTRACT_SERVICE

_UNREAD = ("price_per_call_micros", "currency_code", "price_id", "due_at")
_COLUMNS = tuple(column for column in CONTRACT.c if column.name not in _UNREAD)
_PERIOD = tuple(field.name for field in fields(Period))
#: Lists leave out the terms: a page of them could be any size.
LIST_COLUMNS = tuple(column for column in _COLUMNS if column.name != "terms")


class ContractStorage:
    """Reads and writes contracts inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, contract: Contract, price: Price) -> Contract:
        """Write a new contract and give it with its position in the contract order.

        Raises MarketError ALREADY_EXISTS when the requester has one for the service in force.
        """
        row = {
            "contract_id": contract.contract_id,
            "requester_id": contract.requester_id,
            "provider_id": contract.provider_id,
            "service_id": contract.service_id,
            "offering_id": contract.offering_id,
            "state": contract.state.value,
            "terms": contract.terms,
            **price_columns(price),
            "created_at": contract.created_at,
            **_dates(contract),
        }
        statement = insert(CONTRACT).values(row).on_conflict_do_nothing().returning(*_COLUMNS)
        added = (await self._connection.execute(statement)).one_or_none()
        if added is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_ALREADY_EXISTS,
                "The partner has a contract for this service already.",
                metadata={"kind": "contract"},
            )
        return contract_of(added)

    async def get(self, contract_id: str) -> Contract:
        """Give a contract; raises MarketError NOT_FOUND."""
        return await self._one(contract_id, lock=False)

    async def locked(self, contract_id: str) -> Contract:
        """Give a contract that nobody else changes until the transaction ends."""
        return await self._one(contract_id, lock=True)

    async def overdue(self, requester_id: str, service_id: str, now: datetime) -> list[str]:
        """Give contracts for a service that had a step to take by themselves before now."""
        mine = (CONTRACT.c.requester_id == requester_id) & (CONTRACT.c.service_id == service_id)
        query = select(CONTRACT.c.contract_id).where(mine, CONTRACT.c.due_at <= now)
        return list(await self._connection.scalars(query))

    async def covers(self, requester_id: str, service_id: str) -> bool:
        """Say whether a contract of the requester that has not ended covers a service."""
        added = select(CONTRACT_SERVICE.c.contract_id).where(
            CONTRACT_SERVICE.c.service_id == service_id
        )
        query = select(CONTRACT.c.contract_id).where(
            CONTRACT.c.requester_id == requester_id,
            CONTRACT.c.state.not_in([state.value for state in ENDED]),
            (CONTRACT.c.service_id == service_id) | CONTRACT.c.contract_id.in_(added),
        )
        return (await self._connection.execute(query.limit(1))).one_or_none() is not None

    async def put(self, contract: Contract) -> None:
        """Write where a contract stands; what was agreed first is never written again."""
        statement = update(CONTRACT).where(CONTRACT.c.contract_id == contract.contract_id)
        values = {
            "state": contract.state.value,
            "terminated_at": contract.terminated_at,
            **_dates(contract),
        }
        del values["starts_at"]
        await self._connection.execute(statement.values(values))

    async def with_terms(self, contract: Contract) -> Contract:
        """Give a contract with the terms of its revision; the first is in the row itself."""
        if contract.revision == 1:
            return contract
        query = select(CONTRACT_REVISION.c.terms).where(
            CONTRACT_REVISION.c.contract_id == contract.contract_id,
            CONTRACT_REVISION.c.revision == contract.revision,
        )
        return replace(contract, terms=(await self._connection.execute(query)).scalar_one())

    async def remember(
        self, contract: Contract, step: ContractStep, actor: Actor, now: datetime
    ) -> None:
        """Write one row of the history; `contract` is as it is after the step."""
        row = {
            "contract_id": contract.contract_id,
            "kind": step.value,
            "state": contract.state.value,
            "actor": actor.name,
            "occurred_at": now,
        }
        await self._connection.execute(insert(CONTRACT_EVENT).values(row))

    async def events(
        self, page: Page[int], contract_id: str
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the history of a contract, the oldest first."""
        query = select(CONTRACT_EVENT).where(CONTRACT_EVENT.c.contract_id == contract_id)
        query = page.of(query, CONTRACT_EVENT.c.position)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: int(row.position))

    async def latest_events(self, contract_id: str, most: int) -> Sequence[Row[Any]]:
        """Give the latest entries of the history, the latest first."""
        query = select(CONTRACT_EVENT).where(CONTRACT_EVENT.c.contract_id == contract_id)
        query = query.order_by(CONTRACT_EVENT.c.position.desc()).limit(most)
        return (await self._connection.execute(query)).all()

    async def _one(self, contract_id: str, *, lock: bool) -> Contract:
        query = select(*_COLUMNS).where(CONTRACT.c.contract_id == contract_id)
        if lock:
            query = query.with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("contract")
        return await self.with_terms(contract_of(row))


def contract_of(row: Row[Any]) -> Contract:
    """Read a row; one of a list has no terms."""
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    dates = {name: values.pop(name) for name in _PERIOD}
    period = Period(**{**dates, "ending": Ending(dates["ending"])})
    values = {"terms": b"", **values, "state": ContractState(row.state), "period": period}
    return Contract(**values)


def _dates(contract: Contract) -> dict[str, Any]:
    dates = {name: getattr(contract.period, name) for name in _PERIOD}
    return {
        **dates,
        "ending": contract.period.ending.value,
        "revision": contract.revision,
        "changes_at": contract.changes_at,
        "due_at": due_at(contract),
    }
