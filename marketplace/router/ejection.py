"""Which endpoints are left out for a while because they failed repeatedly. Pure: time is passed in.

A breaker of three states: closed (asked), open (left out), half open (one call finds out whether
the endpoint is well again). Only what the endpoint alone is to blame for counts, see `ask.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Partner id and `host:port`: nobody can have another partner's endpoint left out.
EndpointKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class EjectionLimits:
    """When an endpoint is left out and for how long."""

    #: Failures in a row that eject an endpoint.
    failures: int = 5
    #: First time out, in seconds; doubles with each further failure of the call that tries again.
    base_s: float = 1.0
    #: Longest time out, in seconds.
    longest_s: float = 60.0
    #: Endpoints whose failures are remembered; beyond that the oldest is forgotten.
    endpoints: int = 10_000


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    ejections: int = 0
    until_s: float = 0.0
    trying: bool = False


class Ejection:
    """Remembers the endpoints in trouble; an endpoint in order costs one look-up."""

    def __init__(self, limits: EjectionLimits) -> None:
        self._limits = limits
        self._troubles: dict[EndpointKey, _Trouble] = {}

    def admits(self, key: EndpointKey, now_s: float) -> bool:
        """Say whether the endpoint may be asked now; the first yes after a time out is the probe.

        Whoever got a yes reports `succeeded`, `failed` or `abandoned`.
        """
        trouble = self._troubles.get(key)
        if trouble is None or not trouble.ejections:
            return True
        if now_s < trouble.until_s:
            return False
        if trouble.trying:
            # The probe never reported within another time out: it no longer keeps others away.
            if now_s < trouble.until_s + self._limits.longest_s:
                return False
            trouble.until_s = now_s
        trouble.trying = True
        return True

    def leaves_out(self, key: EndpointKey, now_s: float) -> bool:
        """Say whether calls leave the endpoint out now; unlike `admits`, it takes no probe."""
        trouble = self._troubles.get(key)
        return trouble is not None and trouble.ejections > 0 and now_s < trouble.until_s

    def succeeded(self, key: EndpointKey) -> None:
        """The endpoint answered, with whatever: it is in order."""
        if self._troubles:
            self._troubles.pop(key, None)

    def abandoned(self, key: EndpointKey) -> None:
        """The call ended without saying anything about the endpoint; the next one may probe."""
        trouble = self._troubles.get(key)
        if trouble is not None:
            trouble.trying = False

    def failed(self, key: EndpointKey, now_s: float) -> None:
        """The endpoint failed: count it, and leave it out when it is too much."""
        limits = self._limits
        trouble = self._troubles.get(key)
        if trouble is None:
            if len(self._troubles) >= limits.endpoints:
                del self._troubles[next(iter(self._troubles))]
            trouble = self._troubles[key] = _Trouble()
        trouble.failures += 1
        if now_s < trouble.until_s:
            return  # A call that began before the ejection: it says nothing new.
        if trouble.trying or trouble.failures >= limits.failures:
            doubled = limits.base_s * 2.0 ** min(trouble.ejections, 30)
            trouble.until_s = now_s + min(limits.longest_s, doubled)
            trouble.ejections += 1
            trouble.failures = 0
            trouble.trying = False
