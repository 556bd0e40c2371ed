"""Sessions: how long one lasts, and how logins that fail are slowed down (1618, 1619). Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

#: Sessions of one user at a time; a further one ends the oldest.
SESSIONS_MAX = 20
#: Bytes of randomness in a token or a link.
SECRET_BYTES = 32
#: Logins that may fail before the next one has to wait.
FREE_FAILURES = 5
FIRST_LOCK = timedelta(seconds=30)
LONGEST_LOCK = timedelta(hours=1)
#: After so long without an attempt, those before are forgotten; longer than any lock.
FORGET_AFTER = timedelta(hours=24)
#: Use of a session is written down no more often than this; idle timeouts are that inexact.
TOUCH_EVERY = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long sessions last."""

    #: Longest time without a call.
    idle: timedelta = timedelta(minutes=30)
    #: Longest time in all.
    longest: timedelta = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a user."""

    session_id: str
    user_id: str
    created_at: datetime
    last_used_at: datetime
    ended_at: datetime | None = None

    def is_usable(self, now: datetime, limits: SessionLimits) -> bool:
        """Say whether the session has neither ended nor run out."""
        return (
            self.ended_at is None
            and now < self.created_at + limits.longest
            and now < self.last_used_at + limits.idle
        )


@dataclass(frozen=True, slots=True)
class Attempts:
    """The logins with one name that came since the last good one."""

    failure_count: int
    last_at: datetime
    locked_until: datetime


def count_attempt(before: Attempts | None, now: datetime) -> Attempts:
    """Count a login before its password is looked at: as a failure, until it turns out good.

    Counted beforehand, any number of logins at the same time get no more tries than one by one.

    Raises:
        MarketError: LOGIN_LOCKED, with the time to wait.
    """
    if before is None or now >= before.last_at + FORGET_AFTER:
        return Attempts(1, now, now)
    if now < before.locked_until:
        raise MarketError(
            ErrorReason.ERROR_REASON_LOGIN_LOCKED,
            "Too many logins with this name failed: wait before the next one.",
            retry_after_s=(before.locked_until - now).total_seconds(),
        )
    count = before.failure_count + 1
    return Attempts(count, now, now + lock_after(count))


def lock_after(failure_count: int) -> timedelta:
    """Give how long the next login has to wait: none at first, then twice as long each time."""
    if failure_count < FREE_FAILURES:
        return timedelta(0)
    doublings = min(failure_count - FREE_FAILURES, 16)
    return min(LONGEST_LOCK, FIRST_LOCK * (1 << doublings))


def secret_digest(secret: str) -> bytes:
    """Give what is kept of a random secret; a fast hash does, since it cannot be guessed."""
    return hashlib.sha256(secret.encode()).digest()


def login_digest(partner_id: str, user_name: str) -> bytes:
    """Give the key under which attempts are counted, whether or not there is such a user."""
    return hashlib.sha256(f"{partner_id}\0{user_name}".encode()).digest()


def login_failed() -> MarketError:
    """Give the one error for a wrong name, a wrong password, and a user who may not log in."""
    return MarketError(
        ErrorReason.ERROR_REASON_LOGIN_FAILED, "The name and the password do not belong together."
    )


def session_not_accepted() -> MarketError:
    """Give the error for a token that opens no session, for whatever reason."""
    return MarketError(
        ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED,
        "The session does not exist, has ended, or was not used for too long: log in again.",
    )
