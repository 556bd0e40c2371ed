"""One whole market for the session; a test that kills parts of it starts its own instead."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.end_to_end.whole_market import WholeMarket, running_market


@pytest.fixture(scope="session")
async def whole() -> AsyncIterator[WholeMarket]:
    """Run a market with two workers as processes of their own."""
    async with running_market() as running:
        yield running
