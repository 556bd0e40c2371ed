"""Hashing of passwords with argon2id, at the same cost whether or not there is one to compare."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.password import normalised

_RETRY_S = 1.0


class PasswordHashing:
    """Hashes in a thread, one password at a time: each takes 64 MiB and a tenth of a second.

    Made inside the event loop.
    """

    def __init__(self, hasher: PasswordHasher | None = None, waiting_max: int = 32) -> None:
        # RFC 9106, second recommended choice, with one lane: there is one thread.
        self._hasher = hasher or PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)
        self._waiting_max = waiting_max
        self._waiting = 0
        self._turn = asyncio.Semaphore(1)
        self._nobody = ""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the one place; raises MarketError TOO_MANY_CALLS where too many wait."""
        if self._waiting >= self._waiting_max:
            raise MarketError(
                ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                "Too many logins at once: try again.",
                retry_after_s=_RETRY_S,
            )
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def hashed(self, password: str) -> str:
        """Give what to keep; to be called inside `turn`."""
        return await asyncio.to_thread(self._hasher.hash, normalised(password))

    async def matches(self, password: str, kept: str) -> bool:
        """Say whether a hash is the password's; to be called inside `turn`.

        An empty hash is nobody's, which takes as long to find out.
        """
        if not self._nobody:
            self._nobody = await self.hashed(secrets.token_urlsafe())
        same = await asyncio.to_thread(self._verify, kept or self._nobody, normalised(password))
        return same and bool(kept)

    def is_outdated(self, kept: str) -> bool:
        """Say whether a hash was made at another cost than hashes are made now."""
        return self._hasher.check_needs_rehash(kept)

    def _verify(self, kept: str, password: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False
