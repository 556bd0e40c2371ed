"""What the tests of the clearing house's process stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clearinghouse.house import HOUSE, House, house_settings, running_house
from tests.clearinghouse.market_stand import MarketStand
from tests.conftest import MigratedDatabase
from tests.identities import Identity, MakeIdentity


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
