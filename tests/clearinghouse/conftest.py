"""What tests of clearing stand on: a clearing house, its EVSPs, a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clearinghouse.storage import Pool, open_pool
from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from tests.clearinghouse.clearing import EVSP, Clearing, market_client
from tests.clearinghouse.contract_holder import ContractHolder, HolderMarket, holder_market
from tests.clearinghouse.house import HOUSE, House, house_settings, running_house
from tests.clearinghouse.market_stand import MarketStand
from tests.conftest import MigratedDatabase, fresh_database
from tests.identities import Identity, MakeIdentity

_WRITTEN = (
    *("cdr", "cdr_event", "cdr_reason", "delivery", "receiver", "dispute", "operator_key"),
    *("authorization", "tariff_version", "booking", "ledger_posting", "command"),
)


@pytest.fixture(scope="session")
async def shared_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """Give one database to all tests that need none of their own: making one takes long."""
    async for url in fresh_database(postgres, "template0"):
        await migrate(url, "clearinghouse")
        connection = await connect_raw(url)
        # What nobody kills need not be on the disk.
        await connection.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off',"
            " current_database()); END $$"
        )
        await connection.close()
        yield url


@pytest.fixture
async def pool(shared_url: str) -> AsyncIterator[Pool]:
    """Give connections to the shared database, empty."""
    async with open_pool(shared_url, 6) as opened:
        tables = ", ".join(f"clearinghouse.{name}" for name in _WRITTEN)
        await opened.execute(f"TRUNCATE {tables} CASCADE")
        yield opened


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
    pool: Pool, holders_market: HolderMarket, make_identity: MakeIdentity, tmp_path: Path
) -> AsyncIterator[Clearing]:
    """Give a clearing house with an empty database."""
    client = market_client(holders_market.port, make_identity("clearinghouse"), tmp_path)
    yield Clearing(pool, client)
    await client.close()


@pytest.fixture
async def stand(marketplace_identity: Identity) -> AsyncIterator[MarketStand]:
    """Run what stands where the marketplace is."""
    made = MarketStand()  # type: ignore[abstract]  # nothing else of the core is asked
    await made.start(marketplace_identity)
    yield made
    await made.stop()


@pytest.fixture
async def house(
    migrated_database: MigratedDatabase,
    tmp_path: Path,
    make_identity: MakeIdentity,
    stand: MarketStand,
    marketplace_identity: Identity,
) -> AsyncIterator[House]:
    """Run a clearing house on a fresh database."""
    settings = house_settings(
        tmp_path,
        make_identity(HOUSE),
        database_url=await migrated_database("clearinghouse"),
        market_address=f"localhost:{stand.port}",
    )
    async with running_house(settings, stand, marketplace_identity) as made:
        yield made
