"""Pools that stay open as long as the run: warm connections, statements compiled once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.database import open_engine

_SIZE = 5
#: By URL. A third of a control plane's test went into new connections and their statements.
_kept: dict[str, AsyncEngine] = {}


@asynccontextmanager
async def kept_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """Open the engine that `engine_of` lends for a database until the block ends."""
    engine = _kept[url] = open_engine(url, _SIZE)
    try:
        yield engine
    finally:
        del _kept[url]
        await engine.dispose()


@asynccontextmanager
async def engine_of(url: str) -> AsyncIterator[AsyncEngine]:
    """Lend the kept engine of a database; one of its own where there is none."""
    if url in _kept:
        yield _kept[url]
        return
    engine = open_engine(url, _SIZE)
    try:
        yield engine
    finally:
        await engine.dispose()
