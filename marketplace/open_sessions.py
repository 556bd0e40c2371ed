"""The sessions as the interceptors see them: implements `interceptors.session.Sessions`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Caller
from marketplace.session import (
    TOUCH_EVERY,
    SessionLimits,
    secret_digest,
    session_not_accepted,
)
from marketplace.storage_command import transaction
from marketplace.storage_session import OpenedBy, SessionStorage
from marketplace.user import UserState, access_of


class OpenSessions:
    """Looks every session up at every call, so that its end and its user's roles count at once."""

    def __init__(
        self,
        engine: AsyncEngine,
        limits: SessionLimits,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._clock = clock

    async def caller_of(self, token: str) -> Caller:
        """Give who has the token, and remember that the session is in use.

        Raises MarketError: SESSION_NOT_ACCEPTED, PARTNER_NOT_ACTIVE, STORAGE_UNAVAILABLE.
        """
        now = self._clock()
        async with transaction(self._engine) as connection:
            storage = SessionStorage(connection)
            found = await storage.by_token(secret_digest(token))
            refusal = self._refusal(found, now)
            if found is None or refusal is not None:
                raise refusal or session_not_accepted()
            if now - found.session.last_used_at >= TOUCH_EVERY:
                await storage.touch(found.session.session_id, now)
        user = found.user
        return Caller(
            user.partner_id or user.user_name,
            access_of(user.roles),
            b"",
            session_id=found.session.session_id,
            user_name=user.user_name,
        )

    async def refused(self, session_ids: Collection[str]) -> Mapping[str, MarketError]:
        """Say which of these sessions would be refused now, and why."""
        now = self._clock()
        async with transaction(self._engine) as connection:
            rows = await SessionStorage(connection).by_ids(session_ids)
        found = {row.session.session_id: row for row in rows}
        refusals = {key: self._refusal(found.get(key), now) for key in session_ids}
        return {key: refusal for key, refusal in refusals.items() if refusal is not None}

    def _refusal(self, found: OpenedBy | None, now: datetime) -> MarketError | None:
        if found is None or not found.session.is_usable(now, self._limits):
            return session_not_accepted()
        if found.user.state is not UserState.ACTIVE:
            return session_not_accepted()
        if not found.partner_active:
            return partner_not_active()
        return None


def partner_not_active() -> MarketError:
    """Give the error for a user whose partner may not act."""
    return MarketError(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE, "The partner is not active.")
