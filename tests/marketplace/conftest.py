"""One migrated database for all tests of the control plane, emptied for each of them."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import marketplace
from foundation.certificates import CertificateAuthority
from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from marketplace.storage_tables import METADATA
from tests.engines import engine_of, kept_engine
from tests.partner_office import Office
from tests.transaction_log_support import empty_log

if TYPE_CHECKING:
    from tests.control_plane import ControlPlane

_DATABASE = "control_plane"
# All tables must be known before they are emptied.
for _module in pkgutil.iter_modules(marketplace.__path__, "marketplace."):
    if _module.name.startswith("marketplace.storage_tables_"):
        import_module(_module.name)
#: Without the triggers that refuse it; much faster than a fresh copy, or than TRUNCATE, which makes
#: every table's files anew.
_EMPTY = ";".join(
    [
        "SET LOCAL session_replication_role = replica",
        *(f"DELETE FROM {table.fullname}" for table in METADATA.tables.values()),
        "UPDATE marketplace.routing_version SET version = 1",
    ]
)


@pytest.fixture(scope="session")
async def _migrated_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    connection = await connect_raw(postgres.url)
    try:
        await connection.execute(f"CREATE DATABASE {_DATABASE} TEMPLATE template0")
    finally:
        await connection.close()
    head, _, query = postgres.url.partition("?")
    url = f"{head.rpartition('/')[0]}/{_DATABASE}?{query}"
    await migrate(url, "marketplace")
    async with kept_engine(url):
        yield url


@pytest.fixture
async def control_plane_url(_migrated_url: str) -> str:
    """Give the URL of a database whose control plane is empty."""
    async with engine_of(_migrated_url) as engine, engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute(_EMPTY)
    return _migrated_url


@pytest.fixture
async def log_url(_migrated_url: str) -> str:
    """Give the URL of a database whose transaction log is empty."""
    await empty_log(_migrated_url)
    return _migrated_url


@pytest.fixture
async def plane(
    control_plane_url: str, authority: CertificateAuthority
) -> AsyncIterator[ControlPlane]:
    """Give the services of an empty control plane."""
    # Not above: tests of the router beside this file need none of it.
    from tests.control_plane import control_plane

    async with control_plane(control_plane_url, authority) as opened:
        yield opened


@pytest.fixture
def office(plane: ControlPlane) -> Office:
    """Give what partners and applicants do with their accounts."""
    return Office(plane)
