"""Interceptor: whether this caller may call this method.

Core methods state their roles in their proto; a routed method may be called by any active partner,
and what it gets is decided by its contracts. A method that is neither does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1 import options_pb2
from interceptors.call import Call, Handler
from interceptors.certificate import not_accepted
from interceptors.chain import method_unknown

_PUBLIC = options_pb2.ACCESS_ROLE_PUBLIC
_ROUTED = frozenset({options_pb2.ACCESS_ROLE_PARTNER})


class AccessCheck:
    """Decides by a core method's roles, or by `is_routed(method)`; both are read at each call."""

    def __init__(
        self, core_access: Mapping[str, frozenset[int]], is_routed: Callable[[str], bool]
    ) -> None:
        self._core_access = core_access
        self._is_routed = is_routed

    def is_public(self, method: str) -> bool:
        """Say whether a method needs no known caller."""
        return _PUBLIC in self._core_access.get(method, ())

    async def __call__(self, call: Call, proceed: Handler) -> None:
        """Go on where the caller may call the method.

        Raises MarketError: METHOD_UNKNOWN, ROLE_NOT_ALLOWED; CERTIFICATE_NOT_ACCEPTED without a
        known caller.
        """
        roles = self._core_access.get(call.method)
        if roles is None:
            if not self._is_routed(call.method):
                raise method_unknown()
            roles = _ROUTED
        if _PUBLIC not in roles:
            if call.caller is None:
                raise not_accepted()
            if roles.isdisjoint(call.caller.roles):
                raise MarketError(
                    ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
                    "The caller's role may not call this method.",
                )
        await proceed(call)
