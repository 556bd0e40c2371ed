"""What tests of clearing stand on: a clearing house, its EVSPs, a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clearinghouse.storage import open_pool
from tests.clearinghouse.clearing import EVSP, Clearing, market_client
from tests.clearinghouse.contract_holder import ContractHolder, HolderMarket, holder_market
from tests.conftest import MigratedDatabase
from tests.identities import Identity, MakeIdentity


@pytest.fixture(scope="session")
async def holders_market(marketplace_identity: Identity) -> AsyncIterator[HolderMarket]:
    """Serve EVSPs for the session; each test has its own."""
    async with holder_market({}, marketplace_identity) as market:
        yield market


@pytest.fixture
def holder(holders_market: HolderMarket) -> ContractHolder:
    """Give the EVSP of the test."""
    holders_market.holders.clear()
    holders_market.holders[EVSP] = ContractHolder()
    return holders_market.holders[EVSP]


@pytest.fixture
async def clearing(
    migrated_database: MigratedDatabase,
    holders_market: HolderMarket,
    holder: ContractHolder,
    make_identity: MakeIdentity,
    tmp_path: Path,
) -> AsyncIterator[Clearing]:
    """Give a clearing house with a fresh database."""
    client = market_client(holders_market.port, make_identity("clearinghouse"), tmp_path)
    url = await migrated_database("clearinghouse")
    async with open_pool(url, 4) as pool:
        yield Clearing(pool, client)
    await client.close()
