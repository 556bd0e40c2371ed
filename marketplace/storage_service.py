"""Services with their offerings and history, in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Text, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import Actor, not_found
from marketplace.partner import BLOCKING_CONTRACTS_SHOWN
from marketplace.service import VISIBLE, Service, ServiceState, ServiceStep
from marketplace.service_description import indexed_words, known_words, search_text
from marketplace.storage_command import Lock
from marketplace.storage_contract_cover import covers, in_force
from marketplace.storage_paging import Page
from marketplace.storage_tables import CONTRACT, OFFERING, SERVICE, SERVICE_EVENT
from marketplace.storage_tables_contract import CONTRACT_REVISION
from marketplace.storage_tables_service import SERVICE_WORD

_NOT_SHOWN = {"registration_contract_version", "search_text", "words"}
#: Contracts that are read at a time.
_CHUNK = 500
_OWN_CONTRACTS_SHOWN = 100
COLUMNS = tuple(column for column in SERVICE.c if column.name not in _NOT_SHOWN)
_SHOWN = tuple(column.name for column in COLUMNS)


@dataclass(frozen=True, slots=True)
class ServiceFilter:
    """Conditions of a list of services, applied together; an empty one does not apply."""

    interface_name: str = ""
    provider_id: str = ""
    state: ServiceState | None = None


class ServiceStorage:
    """Reads and writes services inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, service: Service, registration_contract_version: int) -> Service:
        """Write a new service and give it with its position."""
        row = {
            "service_id": service.service_id,
            "provider_id": service.provider_id,
            "title": service.title,
            "description": service.description,
            "interface_name": service.interface_name,
            "interface_version": service.interface_version,
            "service_version": service.service_version,
            "endpoint": service.endpoint,
            "state": service.state.value,
            "registration_contract_version": registration_contract_version,
            "registered_at": service.registered_at,
            "category": service.category,
            "keywords": list(service.keywords),
            **await self._findable(service),
        }
        statement = insert(SERVICE).values(row).returning(*COLUMNS)
        return service_of((await self._connection.execute(statement)).one())

    async def get(self, service_id: str) -> Service:
        """Give a service; raises MarketError NOT_FOUND."""
        return await self._one(service_id)

    async def locked(self, service_id: str) -> Service:
        """Give a service that nobody else changes, nor contracts, until the transaction ends."""
        return await self._one(service_id, lock=Lock.ALONE)

    async def shared(self, service_id: str) -> Service:
        """Give a service that nobody changes until the transaction ends, while others may read."""
        return await self._one(service_id, lock=Lock.SHARED)

    async def page(
        self, page: Page[int], condition: ServiceFilter, actor: Actor
    ) -> tuple[list[Service], PageInfo]:
        """List the services that the actor may see, in the order of registration.

        Deleted ones only where the state asks for them.
        """
        query = select(*COLUMNS)
        if actor.is_partner:
            visible = SERVICE.c.state.in_([state.value for state in VISIBLE])
            query = query.where(visible | (SERVICE.c.provider_id == actor.subject_id))
        if condition.interface_name:
            query = query.where(SERVICE.c.interface_name == condition.interface_name)
        if condition.provider_id:
            query = query.where(SERVICE.c.provider_id == condition.provider_id)
        if condition.state is not None:
            query = query.where(SERVICE.c.state == condition.state.value)
        else:
            query = query.where(SERVICE.c.state != ServiceState.DELETED.value)
        rows = (await self._connection.execute(page.of(query, SERVICE.c.position))).all()
        shown, info = page.cut(rows, lambda row: int(row.position))
        return [service_of(row) for row in shown], info

    async def set_state(self, service_id: str, state: ServiceState) -> None:
        """Write the state."""
        await self._update(service_id, {"state": state.value})

    async def set_endpoint(self, service_id: str, endpoint: str) -> None:
        """Write the endpoint."""
        await self._update(service_id, {"endpoint": endpoint})

    async def describe(self, service: Service) -> None:
        """Write title, description and keywords."""
        values: dict[str, object] = {
            "title": service.title,
            "description": service.description,
            "keywords": list(service.keywords),
            **await self._findable(service),
        }
        await self._update(service.service_id, values)

    async def renew(self, service: Service) -> None:
        """Write versions and endpoint."""
        values: dict[str, object] = {
            "interface_version": service.interface_version,
            "service_version": service.service_version,
            "endpoint": service.endpoint,
        }
        await self._update(service.service_id, values)

    async def remember(
        self, service: Service, step: ServiceStep, actor: Actor, now: datetime, reason: str = ""
    ) -> None:
        """Write one row of the history; `service` is as it is after the step."""
        row = {
            "service_id": service.service_id,
            "kind": step.value,
            "state": service.state.value,
            "actor": actor.name,
            "occurred_at": now,
            "reason": reason,
        }
        await self._connection.execute(insert(SERVICE_EVENT).values(row))

    async def events(self, page: Page[int], service_id: str) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the history of a service, the oldest first."""
        query = select(SERVICE_EVENT).where(SERVICE_EVENT.c.service_id == service_id)
        rows = await self._connection.execute(page.of(query, SERVICE_EVENT.c.position))
        return page.cut(rows.all(), lambda row: int(row.position))

    async def offer(self, offering_id: str, service_id: str, terms: bytes, now: datetime) -> None:
        """Write a new offering; `terms` is a serialised OfferingTerms."""
        row = {
            "offering_id": offering_id,
            "service_id": service_id,
            "terms": terms,
            "created_at": now,
        }
        await self._connection.execute(insert(OFFERING).values(row))

    async def withdraw_offerings(self, service_id: str, now: datetime) -> None:
        """Let nobody accept the offerings that there are."""
        offered = (OFFERING.c.service_id == service_id) & OFFERING.c.withdrawn_at.is_(None)
        await self._connection.execute(update(OFFERING).where(offered).values(withdrawn_at=now))

    async def contracts_in_force(self, service_id: str) -> tuple[list[str], int]:
        """Give the first ids and the number of the contracts that cover a service, not ended."""
        mine = covers(service_id) & in_force()
        query = select(CONTRACT.c.contract_id).where(mine).order_by(CONTRACT.c.position)
        first = await self._connection.scalars(query.limit(BLOCKING_CONTRACTS_SHOWN))
        count = select(func.count()).select_from(CONTRACT).where(mine)
        return list(first), int(await self._connection.scalar(count) or 0)

    async def agreed_in_force(self, service_id: str) -> AsyncIterator[tuple[str, bytes]]:
        """Give id and terms of the contracts that cover a service, not ended, in contract order.

        The terms are those that were agreed last, in force already or not.
        """
        later = CONTRACT_REVISION.c
        last = select(later.terms).where(later.contract_id == CONTRACT.c.contract_id)
        last_terms = last.order_by(later.revision.desc()).limit(1).scalar_subquery()
        terms = func.coalesce(last_terms, CONTRACT.c.terms).label("terms")
        query = select(CONTRACT.c.position, CONTRACT.c.contract_id, terms)
        query = query.where(covers(service_id), in_force())
        after = 0
        while True:
            part = query.where(CONTRACT.c.position > after).order_by(CONTRACT.c.position)
            rows = (await self._connection.execute(part.limit(_CHUNK))).all()
            for row in rows:
                yield row.contract_id, bytes(row.terms)
            if len(rows) < _CHUNK:
                return
            after = rows[-1].position

    async def had_contract(self, service_id: str, requester_id: str) -> bool:
        """Say whether a partner has or had a contract for a service."""
        mine = covers(service_id) & (CONTRACT.c.requester_id == requester_id)
        query = select(CONTRACT.c.contract_id).where(mine)
        return (await self._connection.execute(query.limit(1))).first() is not None

    async def own_contracts(self, service_id: str, requester_id: str) -> Sequence[Row[Any]]:
        """Give a requester's contracts for a service in contract order, the latest of them."""
        mine = covers(service_id) & (CONTRACT.c.requester_id == requester_id)
        query = select(CONTRACT).where(mine)
        query = query.order_by(CONTRACT.c.position.desc()).limit(_OWN_CONTRACTS_SHOWN)
        return (await self._connection.execute(query)).all()[::-1]

    async def offerings(self, service_id: str) -> Sequence[Row[Any]]:
        """Give a service's offerings that can be accepted, the oldest first."""
        query = (
            select(OFFERING)
            .where(OFFERING.c.service_id == service_id, OFFERING.c.withdrawn_at.is_(None))
            .order_by(OFFERING.c.position)
        )
        return (await self._connection.execute(query)).all()

    async def offering(self, offering_id: str) -> Row[Any]:
        """Give an offering that can be accepted; raises MarketError NOT_FOUND."""
        query = select(OFFERING).where(
            OFFERING.c.offering_id == offering_id, OFFERING.c.withdrawn_at.is_(None)
        )
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("offering")
        return row

    async def _one(self, service_id: str, lock: Lock | None = None) -> Service:
        query = select(*COLUMNS).where(SERVICE.c.service_id == service_id)
        if lock is not None:
            query = query.with_for_update(read=lock is Lock.SHARED)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("service")
        return service_of(row)

    async def _findable(self, service: Service) -> dict[str, object]:
        """Give what a search finds the service by, after the dictionary has its words.

        It takes them in order: two who teach it the same ones wait, and not in a ring.
        """
        texts = (service.title, *service.keywords, service.category, service.description)
        searched = search_text(texts)
        words = select(func.unnest(literal(known_words(searched), ARRAY(Text))))
        learn = insert(SERVICE_WORD).from_select(["word"], words).on_conflict_do_nothing()
        await self._connection.execute(learn)
        indexed = literal(indexed_words(searched), ARRAY(Text))
        return {"search_text": searched, "words": func.array_to_tsvector(indexed)}

    async def _update(self, service_id: str, values: dict[str, object]) -> None:
        statement = update(SERVICE).where(SERVICE.c.service_id == service_id).values(values)
        await self._connection.execute(statement)


def service_of(row: Row[Any]) -> Service:
    """Give the service of a row that has the shown columns first, and maybe others."""
    values = dict(zip(_SHOWN, row, strict=False))
    values["state"], values["keywords"] = ServiceState(row.state), tuple(row.keywords)
    return Service(**values)
