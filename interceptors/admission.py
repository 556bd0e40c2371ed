"""Interceptor: how much of a worker one party may use at once and per second.

A party is whoever the certificate names that the handshake verified, accepted or not; its calls in
flight and its rate are limited, and so are all calls of the worker together. A refusal says when to
come again and has cost no more than a few lookups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from foundation.certificates import read_identity
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Handler

_RETRY_S = 0.1
#: Added to a delay, so that who waits just that long is not refused by a rounding error.
_ROUNDING_S = 0.001
#: Parties whose use is remembered; more than that and those that use nothing are forgotten.
_MAX_PARTIES = 10_000
#: The party of a connection without a certificate that names anybody: one for all of them.
_NOBODY = ""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Limits of one worker."""

    #: All calls in flight.
    max_calls: int = 4000
    #: Calls in flight of one party.
    party_max_calls: int = 200
    #: Calls per second of one party, over time; as many may come at once after a quiet second.
    party_calls_per_s: float = 2000.0


class _Use:
    """What one party uses: calls in flight, and a bucket of tokens for its rate."""

    __slots__ = ("calls", "filled_s", "tokens")

    def __init__(self, tokens: float, filled_s: float) -> None:
        self.calls = 0
        self.tokens = tokens
        self.filled_s = filled_s


class Admission:
    """Counts calls of every party; for one event loop, whose clock is `now_s`."""

    def __init__(self, limits: AdmissionLimits, now_s: Callable[[], float] | None = None) -> None:
        self._limits = limits
        self._now_s = now_s or asyncio.get_running_loop().time
        self._uses: dict[str, _Use] = {}
        self._calls = 0
        self._closed = False

    def close(self) -> None:
        """Refuse every call from now on, because the worker drains."""
        self._closed = True

    async def __call__(self, call: Call, proceed: Handler) -> None:
        """Go on within the limits.

        Raises MarketError: DRAINING, TOO_MANY_CALLS, RATE_EXCEEDED.
        """
        use = self._admit(call)
        use.calls += 1
        self._calls += 1
        try:
            await proceed(call)
        finally:
            use.calls -= 1
            self._calls -= 1

    def _admit(self, call: Call) -> _Use:
        if self._closed:
            raise MarketError(
                ErrorReason.ERROR_REASON_DRAINING,
                "This worker is shutting down; try again on another connection.",
                retry_after_s=_RETRY_S,
            )
        limits = self._limits
        if self._calls >= limits.max_calls:
            raise _too_many("The marketplace serves as many calls as it may.")
        use = self._use_of(_party_of(call.peer_certificate))
        if use.calls >= limits.party_max_calls:
            raise _too_many("The partner has as many calls in flight as it may.")
        self._take_token(use)
        return use

    def _take_token(self, use: _Use) -> None:
        now_s = self._now_s()
        rate = self._limits.party_calls_per_s
        use.tokens = min(max(rate, 1.0), use.tokens + (now_s - use.filled_s) * rate)
        use.filled_s = now_s
        if use.tokens < 1.0:
            raise MarketError(
                ErrorReason.ERROR_REASON_RATE_EXCEEDED,
                "The partner calls more often than it may.",
                retry_after_s=(1.0 - use.tokens) / rate + _ROUNDING_S,
            )
        use.tokens -= 1.0

    def _use_of(self, party: str) -> _Use:
        use = self._uses.get(party)
        if use is None:
            if len(self._uses) >= _MAX_PARTIES:
                self._uses = {name: use for name, use in self._uses.items() if use.calls}
            rate = self._limits.party_calls_per_s
            use = self._uses[party] = _Use(max(rate, 1.0), self._now_s())
        return use


def _party_of(pem: bytes | None) -> str:
    if pem is None:
        return _NOBODY
    try:
        return read_identity(pem).uri
    except MarketError:
        return _NOBODY


def _too_many(message: str) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_TOO_MANY_CALLS, message, retry_after_s=_RETRY_S)
