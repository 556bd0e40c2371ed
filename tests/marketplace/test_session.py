"""Sessions and failed logins as pure facts: when one ends, how long the next has to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.session import (
    FIRST_LOCK,
    FORGET_AFTER,
    FREE_FAILURES,
    LONGEST_LOCK,
    Attempts,
    Session,
    SessionLimits,
    count_attempt,
    lock_after,
    login_digest,
    secret_digest,
)
from tests.interceptors.support import raises

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = SessionLimits(idle=timedelta(minutes=30), longest=timedelta(hours=12))
LOCKED = raises(ErrorReason.ERROR_REASON_LOGIN_LOCKED)


def after_failures(count: int, now: datetime = START) -> Attempts:
    """Give what is known after so many failures, each as soon as it was allowed."""
    attempts = count_attempt(None, now)
    for _ in range(count - 1):
        attempts = count_attempt(attempts, max(now, attempts.locked_until))
    return attempts


def test_a_session_that_was_ended_is_not_usable() -> None:
    ended = Session("s", "u", START, START, ended_at=START)
    assert not ended.is_usable(START, LIMITS)


@given(
    st.timedeltas(timedelta(0), timedelta(hours=13)),
    st.timedeltas(timedelta(0), timedelta(hours=1)),
)
def test_a_session_is_usable_until_it_was_idle_or_lasted_too_long(
    used: timedelta, idle: timedelta
) -> None:
    session = Session("s", "u", START, START + used)
    usable = session.is_usable(START + used + idle, LIMITS)
    assert usable == (idle < LIMITS.idle and used + idle < LIMITS.longest)


def test_the_first_failures_are_free_and_then_a_login_has_to_wait() -> None:
    attempts = after_failures(FREE_FAILURES)
    assert attempts.locked_until == START + FIRST_LOCK
    with pytest.raises(MarketError, check=LOCKED) as caught:
        count_attempt(attempts, START + timedelta(seconds=10))
    assert caught.value.retry_after_s == pytest.approx(FIRST_LOCK.total_seconds() - 10)
    assert count_attempt(attempts, START + FIRST_LOCK).failure_count == FREE_FAILURES + 1


def test_a_refused_login_does_not_make_the_wait_longer() -> None:
    attempts = after_failures(FREE_FAILURES)
    for second in range(1, 20):
        with pytest.raises(MarketError, check=LOCKED):
            count_attempt(attempts, START + timedelta(seconds=second))
    assert count_attempt(attempts, attempts.locked_until).failure_count == FREE_FAILURES + 1


@given(st.integers(1, 10_000))
def test_the_wait_doubles_up_to_an_hour(count: int) -> None:
    before, after = lock_after(count), lock_after(count + 1)
    assert timedelta(0) <= before <= after <= LONGEST_LOCK
    if count < FREE_FAILURES:
        assert before == timedelta(0)
    elif after < LONGEST_LOCK:
        assert after == before * 2


@given(st.integers(1, 40))
def test_after_a_day_without_an_attempt_all_is_forgotten(count: int) -> None:
    attempts = after_failures(count)
    again = count_attempt(attempts, attempts.last_at + FORGET_AFTER)
    assert again.failure_count == 1
    assert again.locked_until == again.last_at


def test_guessing_for_a_day_tries_few_passwords() -> None:
    attempts, tries = count_attempt(None, START), 1
    while attempts.locked_until < START + timedelta(days=1):
        attempts = count_attempt(attempts, attempts.locked_until)
        tries += 1
    assert tries < 50


def test_what_is_kept_of_a_secret_is_not_the_secret() -> None:
    assert len(secret_digest("secret")) == 32
    assert b"secret" not in secret_digest("secret")
    assert secret_digest("secret") != secret_digest("secrets")


@given(st.text(max_size=10), st.text(max_size=10), st.text(max_size=10), st.text(max_size=10))
def test_attempts_are_counted_by_partner_and_name(a: str, b: str, c: str, d: str) -> None:
    parts = (a.replace("\0", ""), b.replace("\0", ""))
    others = (c.replace("\0", ""), d.replace("\0", ""))
    assert (login_digest(*parts) == login_digest(*others)) == (parts == others)
