"""Interceptor: who calls. Only a certificate that the registry knows, and knows as good, passes.

TLS checks a certificate once per connection, so every call checks it again: validity in time, and
the registry's word on its fingerprint, which covers revocation and the partner's own state. Live
calls of a caller that is refused meanwhile are cut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from foundation.certificates import PeerIdentity, read_identity
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Caller, Handler
from interceptors.live_calls import LiveCalls


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """What the registry says about one registered certificate and its owner."""

    subject_id: str
    kind: Literal["partner", "operator"]
    #: Values of `gem.options.v1.AccessRole`.
    roles: frozenset[int]
    #: Whether the partner or operator is active.
    active: bool
    revoked: bool
    #: End of validity, seconds since 1970.
    not_after_s: float


class Registry(Protocol):
    """The registered certificates, in memory; an answer is never older than the last change."""

    def by_fingerprint(self, fingerprint: bytes) -> CertificateRecord | None:
        """Give the record for the SHA-256 of a certificate in DER, or None if never registered."""


class CertificateCheck:
    """Identifies callers; `is_public(method)` names methods that need no known caller."""

    def __init__(
        self,
        registry: Registry,
        trust_domain: str,
        is_public: Callable[[str], bool],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._trust_domain = trust_domain
        self._is_public = is_public
        self._now_s = now_s

    async def __call__(self, call: Call, proceed: Handler) -> None:
        """Set `call.caller` and go on.

        Raises MarketError: CERTIFICATE_MISSING, CERTIFICATE_NOT_ACCEPTED, CERTIFICATE_EXPIRED,
        CERTIFICATE_REVOKED, PARTNER_NOT_ACTIVE; a public method goes on without a caller instead.
        Whom a session identified needs no certificate.
        """
        if call.caller is not None:
            await proceed(call)
            return
        try:
            call.caller = self._caller_of(call.peer_certificate)
        except MarketError:
            if not self._is_public(call.method):
                raise
        await proceed(call)

    def still_accepted(self, caller: Caller) -> MarketError | None:
        """Say why a caller that was accepted would be refused now, or None."""
        return self._refusal(self._registry.by_fingerprint(caller.fingerprint))

    def cut_refused(self, live: LiveCalls) -> int:
        """Cut the calls of every caller that would be refused now; answers how many."""
        return live.cut_where(
            lambda call: (
                self.still_accepted(call.caller)
                if call.caller and not call.caller.session_id
                else None
            )
        )

    async def watch(self, live: LiveCalls, period_s: float = 0.5) -> None:
        """Cut refused callers' calls for ever, for expiry and for a notification that was missed.

        A change that is notified is acted on at once by `cut_refused`; this is the safety net.
        """
        while True:
            await asyncio.sleep(period_s)
            self.cut_refused(live)

    def _caller_of(self, pem: bytes | None) -> Caller:
        if pem is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_CERTIFICATE_MISSING,
                "The connection has no client certificate.",
            )
        identity = read_identity(pem)
        record = self._registry.by_fingerprint(identity.fingerprint)
        refusal = self._refusal(record)
        if refusal is not None:
            raise refusal
        if record is None or not self._names(identity, record):
            raise not_accepted()
        if self._now_s() < identity.not_before.timestamp():
            raise _expired()
        return Caller(record.subject_id, record.roles, identity.fingerprint)

    def _names(self, identity: PeerIdentity, record: CertificateRecord) -> bool:
        """Say whether the certificate names the very subject it is registered for."""
        return (
            identity.trust_domain == self._trust_domain
            and identity.kind == record.kind
            and identity.subject_id == record.subject_id
        )

    def _refusal(self, record: CertificateRecord | None) -> MarketError | None:
        if record is None:
            return not_accepted()
        if record.revoked:
            return MarketError(
                ErrorReason.ERROR_REASON_CERTIFICATE_REVOKED, "The certificate was revoked."
            )
        if self._now_s() >= record.not_after_s:
            return _expired()
        if not record.active:
            return MarketError(
                ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE, "The partner is not active."
            )
        return None


def not_accepted() -> MarketError:
    """Give the error for a certificate that is not registered as it is presented."""
    return MarketError(
        ErrorReason.ERROR_REASON_CERTIFICATE_NOT_ACCEPTED,
        "The certificate is not registered with the marketplace.",
    )


def _expired() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_CERTIFICATE_EXPIRED, "The certificate is not valid at this time."
    )
