"""Interceptor: which person calls. The token of a session stands in for a certificate.

People come to a listener that asks for no client certificate, so a call without one is a person's;
on the listener for back ends the handshake makes sure that there is one, and tokens are not read.
A session has none of the roles that make routed calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Caller, Handler
from interceptors.live_calls import LiveCalls

SESSION_KEY = "gem-session"


class Sessions(Protocol):
    """The sessions as the storage knows them; an answer is never older than the last change."""

    async def caller_of(self, token: str) -> Caller:
        """Give who has the token.

        Raises MarketError: SESSION_NOT_ACCEPTED, PARTNER_NOT_ACTIVE, STORAGE_UNAVAILABLE.
        """

    async def refused(self, session_ids: Collection[str]) -> Mapping[str, MarketError]:
        """Say which of these sessions would be refused now, and why."""


class SessionCheck:
    """Identifies people; `is_public(method)` names methods that need no known caller."""

    def __init__(self, sessions: Sessions, is_public: Callable[[str], bool]) -> None:
        self._sessions = sessions
        self._is_public = is_public

    async def __call__(self, call: Call, proceed: Handler) -> None:
        """Set `call.caller` of a call without a certificate and go on.

        Raises MarketError: SESSION_MISSING, and what `Sessions.caller_of` raises; a public method
        goes on without a caller instead.
        """
        if call.peer_certificate is None:
            try:
                call.caller = await self._caller_of(call)
            except MarketError:
                if not self._is_public(call.method):
                    raise
        await proceed(call)

    async def cut_refused(self, live: LiveCalls) -> int:
        """Cut the calls of sessions that would be refused now; answers how many."""
        callers = [call.caller for call in live if call.caller and call.caller.session_id]
        if not callers:
            return 0
        refused = await self._sessions.refused({caller.session_id for caller in callers})
        return live.cut_where(
            lambda call: refused.get(call.caller.session_id) if call.caller else None
        )

    async def watch(self, live: LiveCalls, period_s: float = 0.5) -> None:
        """Cut the calls of ended sessions for ever."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.cut_refused(live)
            except MarketError as error:
                # Without storage nobody knows better; calls end by their own time limits.
                structlog.get_logger(__name__).warning("sessions not checked", reason=error.reason)

    async def _caller_of(self, call: Call) -> Caller:
        token = call.metadata.get(SESSION_KEY)
        if not isinstance(token, str) or not token:
            raise MarketError(
                ErrorReason.ERROR_REASON_SESSION_MISSING,
                "The call has neither a client certificate nor a session.",
            )
        return await self._sessions.caller_of(token)
