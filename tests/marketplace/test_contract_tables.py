"""The tables as queries name them are the tables that the migrations make."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from marketplace import storage_tables_service  # noqa: F401  # its tables are compared too
from marketplace.storage_tables import METADATA
from tests.control_plane import ControlPlane


async def test_queries_know_every_column_that_the_migrations_make(plane: ControlPlane) -> None:
    query = text(
        "SELECT table_name, column_name, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'marketplace'"
    )
    made: dict[str, dict[str, bool]] = {}
    async with plane.engine.connect() as connection:
        for table, column, nullable in await connection.execute(query):
            made.setdefault(table, {})[column] = nullable == "YES"
    for table in METADATA.tables.values():
        named = {column.name: bool(column.nullable) for column in table.columns}
        assert named == made[table.name], table.name


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM marketplace.contract_event",
        "UPDATE marketplace.partner_event SET actor = 'nobody'",
        "UPDATE marketplace.interface_publication SET descriptor_set = ''",
        "UPDATE marketplace.offering SET terms = ''",
        "UPDATE marketplace.contract SET position = DEFAULT",
        "UPDATE marketplace.contract SET state = 'TERMINATED'",
        "UPDATE marketplace.contract SET state = 'PAUSED'",
        "INSERT INTO marketplace.routing_version VALUES (true, 1)",
    ],
)
async def test_the_database_itself_refuses_to_change_what_is_agreed_or_has_happened(
    plane: ControlPlane, statement: str
) -> None:
    (service,) = await plane.market("volt")
    await plane.contract("evsp", service)
    before = await _rows(plane)
    with pytest.raises(DBAPIError):
        async with plane.engine.begin() as connection:
            await connection.execute(text(statement))
    assert await _rows(plane) == before


async def _rows(plane: ControlPlane) -> list[Any]:
    names = ("contract", "contract_event", "offering", "partner_event")
    async with plane.engine.connect() as connection:
        return [
            (await connection.execute(text(f"SELECT * FROM marketplace.{name}"))).all()
            for name in names
        ]
