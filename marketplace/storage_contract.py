"""Contracts and their history, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor, not_found
from marketplace.contract import Contract, ContractState, ContractStep
from marketplace.router.target import Price
from marketplace.storage_paging import Page
from marketplace.storage_price import price_columns
from marketplace.storage_tables import CONTRACT, CONTRACT_EVENT

_PRICE = ("price_per_call_micros", "currency_code", "price_id")
_COLUMNS = tuple(column for column in CONTRACT.c if column.name not in _PRICE)
#: Lists leave out the terms: a page of them could be any size.
_LIST_COLUMNS = tuple(column for column in _COLUMNS if column.name != "terms")


@dataclass(frozen=True, slots=True)
class ContractFilter:
    """Conditions of a list of contracts, applied together; an empty one does not apply."""

    requester_id: str = ""
    provider_id: str = ""
    service_id: str = ""
    state: ContractState | None = None


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
        }
        statement = insert(CONTRACT).values(row).on_conflict_do_nothing().returning(*_COLUMNS)
        added = (await self._connection.execute(statement)).one_or_none()
        if added is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_ALREADY_EXISTS,
                "The partner has a contract for this service already.",
                metadata={"kind": "contract"},
            )
        return _contract(added)

    async def get(self, contract_id: str) -> Contract:
        """Give a contract; raises MarketError NOT_FOUND."""
        return await self._one(contract_id, lock=False)

    async def locked(self, contract_id: str) -> Contract:
        """Give a contract that nobody else changes until the transaction ends."""
        return await self._one(contract_id, lock=True)

    async def set_state(
        self, contract_id: str, state: ContractState, terminated_at: datetime | None
    ) -> None:
        """Write the state, and when it ended."""
        statement = update(CONTRACT).where(CONTRACT.c.contract_id == contract_id)
        values = {"state": state.value, "terminated_at": terminated_at}
        await self._connection.execute(statement.values(values))

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

    async def page(
        self, page: Page[int], condition: ContractFilter, actor: Actor
    ) -> tuple[list[Contract], PageInfo]:
        """List the contracts that the actor may see, in contract order, with empty terms."""
        query = select(*_LIST_COLUMNS)
        if actor.is_partner:
            mine = CONTRACT.c.requester_id == actor.subject_id
            query = query.where(mine | (CONTRACT.c.provider_id == actor.subject_id))
        for name in ("requester_id", "provider_id", "service_id"):
            value = getattr(condition, name)
            if value:
                query = query.where(CONTRACT.c[name] == value)
        if condition.state is not None:
            query = query.where(CONTRACT.c.state == condition.state.value)
        rows = (await self._connection.execute(page.of(query, CONTRACT.c.position))).all()
        shown, info = page.cut(rows, lambda row: int(row.position))
        return [_contract(row) for row in shown], info

    async def events(
        self, page: Page[int], contract_id: str
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the history of a contract, the oldest first."""
        query = select(CONTRACT_EVENT).where(CONTRACT_EVENT.c.contract_id == contract_id)
        query = page.of(query, CONTRACT_EVENT.c.position)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: int(row.position))

    async def _one(self, contract_id: str, *, lock: bool) -> Contract:
        query = select(*_COLUMNS).where(CONTRACT.c.contract_id == contract_id)
        if lock:
            query = query.with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("contract")
        return _contract(row)


def _contract(row: Row[Any]) -> Contract:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    return Contract(**{"terms": b"", **values, "state": ContractState(row.state)})
