"""Gives up uploads that nobody goes on with, and drops the content of removed files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import utc_now
from foundation.errors import MarketError
from marketplace.service_content import FileState
from marketplace.storage_certification import MARKETPLACE
from marketplace.storage_command import transaction
from marketplace.storage_service_content import ServiceContentStorage

_log = structlog.get_logger(__name__)
SWEEP_EVERY_S = 15.0


async def sweep_files(engine: AsyncEngine, clock: Callable[[], datetime] = utc_now) -> int:
    """Sweep once; gives how many files lost their content. Any number of workers may do so."""
    async with transaction(engine) as connection:
        storage, now = ServiceContentStorage(connection), clock()
        expired = await storage.expired(now)
        for file in expired:
            removed = file
            if file.state is FileState.UPLOADING:
                removed = await storage.remove(file, FileState.ABANDONED, MARKETPLACE, now)
            await storage.drop(removed)
    return len(expired)


async def keep_sweeping(*sweeps: Callable[[], Awaitable[int]]) -> None:
    """Do all sweeps every now and then until cancelled; what fails is tried again."""
    while True:
        for sweep in sweeps:
            try:
                await sweep()
            except MarketError as error:
                _log.warning("sweep_failed", reason=error.reason)
        await asyncio.sleep(SWEEP_EVERY_S)
