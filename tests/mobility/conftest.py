"""What the tests of the EVSE search stand on: a migrated database and a few EVSEs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mobility.storage import EvseStorage, open_pool
from tests.conftest import MigratedDatabase


@pytest.fixture
async def mobility_url(migrated_database: MigratedDatabase) -> str:
    """Give the URL of a fresh database with the schema `mobility`."""
    return await migrated_database("mobility")


@pytest.fixture
async def storage(mobility_url: str) -> AsyncIterator[EvseStorage]:
    """Give the storage of a fresh database."""
    async with open_pool(mobility_url, 2) as pool:
        yield EvseStorage(pool)
