from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from foundation import database
from foundation.database import check_database, connect_raw, open_engine, parse_url
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.errors import SettingsError

#: Answers as a server would that is set up differently; it is found before PostgreSQL's own.
_PRETEND = """
    CREATE SCHEMA pretended;
    CREATE FUNCTION pretended.current_setting(name text) RETURNS text LANGUAGE sql AS
    $$ SELECT CASE name WHEN '{name}' THEN '{value}' ELSE pg_catalog.current_setting(name) END $$;
    ALTER ROLE gemarket IN DATABASE "{database}" SET search_path = pretended, pg_catalog;
"""


@pytest.mark.parametrize("address", ["", "gem", "mysql://u:pw@h/d", "sqlite://", "postgresql:/x"])
def test_what_is_no_postgresql_address_is_refused_without_being_repeated(address: str) -> None:
    with pytest.raises(SettingsError, match="database_url") as refusal:
        parse_url(address)
    assert "pw" not in str(refusal.value)


def test_usual_spellings_name_the_one_driver() -> None:
    for scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        assert parse_url(f"{scheme}://u@h/d").drivername == "postgresql+asyncpg"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("server_version_num", "140012"),
    ],
)
async def test_a_server_that_could_lose_entries_is_refused(
    database_url: str, name: str, value: str
) -> None:
    connection = await connect_raw(database_url)
    own = await connection.fetchval("SELECT current_database()")
    await connection.execute(_PRETEND.format(name=name, value=value, database=own))
    await connection.close()
    engine = open_engine(database_url, 1)
    try:
        with pytest.raises(SettingsError, match=f"database_url: .*({name}|PostgreSQL)"):
            await check_database(engine)
    finally:
        await engine.dispose()


async def test_a_database_that_commits_without_waiting_is_refused(database_url: str) -> None:
    connection = await connect_raw(database_url)
    own = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{own}" SET synchronous_commit = off')
    await connection.close()
    engine = open_engine(database_url, 1)
    try:
        with pytest.raises(SettingsError, match="synchronous_commit=off"):
            await check_database(engine)
    finally:
        await engine.dispose()


async def test_the_embedded_server_is_accepted(database_url: str) -> None:
    engine = open_engine(database_url, 1)
    try:
        await check_database(engine)
    finally:
        await engine.dispose()


async def test_the_pool_is_bounded_and_says_so_in_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "POOL_TIMEOUT_S", 0.1)
    engine = open_engine(database_url, 1)
    try:
        async with engine.connect():
            with pytest.raises(PoolTimeoutError):
                await engine.connect()
    finally:
        await engine.dispose()


@pytest.mark.fault
async def test_a_connection_that_the_server_closed_is_replaced(database_url: str) -> None:
    engine = open_engine(database_url, 1)
    killer = await connect_raw(database_url)
    try:
        async with engine.connect() as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        await killer.execute("SELECT pg_terminate_backend($1)", pid)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
    finally:
        await killer.close()
        await engine.dispose()


async def test_a_raw_connection_copies_rows_and_reads_them_in_utc(database_url: str) -> None:
    connection = await connect_raw(database_url)
    await connection.execute("CREATE TABLE entry (id int)")
    await connection.copy_records_to_table("entry", records=[(1,), (2,)])
    assert await connection.fetchval("SELECT sum(id) FROM entry") == 3
    assert await connection.fetchval("SHOW timezone") == "UTC"
    await connection.close()


async def test_every_test_has_an_empty_database_of_its_own(
    database_url: str, postgres: EmbeddedPostgres
) -> None:
    assert database_url != postgres.url
    connection = await connect_raw(database_url)
    count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert await connection.fetchval(count) == 0
    await connection.close()


async def test_a_password_in_the_address_is_used(database_url: str) -> None:
    parts = parse_url(database_url).set(password="p@ss/word")
    connection = await connect_raw(parts.render_as_string(hide_password=False))
    await connection.close()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await connect_raw(parts.set(database="none").render_as_string(hide_password=False))
