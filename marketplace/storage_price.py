"""Price models, and which a contract has had, in PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.marketplace.v1.contract_pb2 import PriceModel
from marketplace.price import SIMPLE_MODELS, check_tiers, check_unit, price_of, unit_of
from marketplace.price_days import Interval, in_force
from marketplace.router.descriptor_files import compile_files
from marketplace.router.target import Price
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_tables import CONTRACT_EVENT
from marketplace.storage_tables_price import CONTRACT_PRICE, PRICE_MODEL


class PriceStorage:
    """Reads and writes prices inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def kept(self, model: PriceModel) -> Price:
        """Give a model's price with its id, under which the model is kept from now on.

        Whoever writes a contract's price writes all of `price_columns` of it.
        """
        if model.WhichOneof("model") in SIMPLE_MODELS:
            return price_of(model)
        content = model.SerializeToString(deterministic=True)
        row = {"digest": hashlib.sha256(content).digest(), "model": content}
        add = insert(PRICE_MODEL).values(row).on_conflict_do_nothing()
        await self._connection.execute(add)
        found = select(PRICE_MODEL.c.price_id).where(PRICE_MODEL.c.digest == row["digest"])
        return price_of(model, int((await self._connection.execute(found)).scalar_one()))

    async def models(self, price_ids: Collection[int]) -> dict[int, PriceModel]:
        """Give models by their ids."""
        columns = PRICE_MODEL.c
        query = select(columns.price_id, columns.model).where(columns.price_id.in_(price_ids))
        rows = (await self._connection.execute(query)).all()
        return {row.price_id: PriceModel.FromString(row.model) for row in rows}

    async def prices_of(self, contract_id: str) -> list[list[tuple[int | None, datetime]]]:
        """Give for each service which prices with an id a contract has had, and since when.

        None is a price without an id.
        """
        columns = CONTRACT_PRICE.c
        query = select(columns.service_id, columns.price_id, columns.effective_at)
        query = query.where(columns.contract_id == contract_id).order_by(columns.position)
        found: dict[str, list[tuple[int | None, datetime]]] = {}
        for service_id, price_id, since in await self._connection.execute(query):
            found.setdefault(service_id, []).append((price_id, since))
        return list(found.values())

    async def in_force(self, contract_id: str) -> list[Interval]:
        """Give when a contract was in force, by its history."""
        columns = CONTRACT_EVENT.c
        query = select(columns.state, columns.occurred_at)
        query = query.where(columns.contract_id == contract_id).order_by(columns.position)
        return in_force((row[0], row[1]) for row in await self._connection.execute(query))


def price_columns(price: Price) -> dict[str, Any]:
    """Give the columns of a contract that say its price to the router."""
    return {
        "price_per_call_micros": price.per_call_micros,
        "currency_code": price.currency_code,
        "price_id": price.price_id,
    }


async def check_price(
    connection: AsyncConnection, interface: Any, model: PriceModel, field: str
) -> None:
    """Refuse a price that the interface's answers do not allow to work out.

    `interface` is a row of `InterfaceStorage.get`; `field` is how the request names the model.

    Raises:
        MarketError: REQUEST_INVALID, naming the field.
    """
    check_tiers(model, field)
    if unit_of(model) is None:
        return
    descriptor_set = await InterfaceStorage(connection).descriptor_set(interface.publication_id)
    methods = await asyncio.to_thread(methods_of, descriptor_set, interface.interface_name)
    check_unit(model, methods, field)


def methods_of(descriptor_set: bytes, interface_name: str) -> dict[str, MethodDescriptor]:
    """Give the methods of a published interface by name; takes milliseconds."""
    files = compile_files(descriptor_set)
    return dict(files.pool.FindServiceByName(interface_name).methods_by_name)
