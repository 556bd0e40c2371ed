"""When contracts are reminded of, and which instants are accepted, by properties."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.contract_pb2 import ContractTerms
from marketplace.contract_period import (
    START_AHEAD_DAYS,
    Ending,
    Period,
    first_period,
    instant,
    refused,
    with_reminder,
)
from tests.contracts import DAY, START
from tests.control_plane import fields_of

spans = st.timedeltas(timedelta(seconds=1), timedelta(days=900))


@given(spans, spans, st.sampled_from(Ending))
def test_a_reminder_comes_before_what_it_is_of_and_not_twice(
    since: timedelta, length: timedelta, ending: Ending
) -> None:
    ends_at = None if ending is Ending.NONE else START + since + length
    period = with_reminder(Period(START, ends_at, ending), START + since)
    reminded = ending in (Ending.EXPIRES, Ending.PROLONGS)
    assert (period.remind_at is not None) == reminded
    if period.remind_at is not None and ends_at is not None:
        assert START + since <= period.remind_at < ends_at
        assert with_reminder(period, ends_at).remind_at is None


@given(st.integers(0, 32_472_144_000), st.integers(0, 999_999_999))
def test_an_instant_is_rounded_up_to_what_is_stored(seconds: int, nanos: int) -> None:
    """Never down: what begins at an instant must not begin before it."""
    found = instant(Timestamp(seconds=seconds, nanos=nanos), "start_time")
    since = found - datetime(1970, 1, 1, tzinfo=START.tzinfo)
    total_ns = (since // timedelta(microseconds=1)) * 1000
    assert 0 <= total_ns - (seconds * 10**9 + nanos) < 1000


@pytest.mark.parametrize("ahead", [timedelta(microseconds=1), DAY, 10_000 * DAY])
def test_the_field_of_a_start_too_far_ahead_is_named(ahead: timedelta) -> None:
    last = START + START_AHEAD_DAYS * DAY
    assert first_period(ContractTerms(), last, START).starts_at == last
    with pytest.raises(MarketError) as caught:
        first_period(ContractTerms(), last + ahead, START)
    assert fields_of(caught.value) == ["start_time"]
    assert fields_of(refused("a.b", "must be so", "rule")) == ["a.b"]
