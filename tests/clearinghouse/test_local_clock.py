"""Clock times of places, against looking at the clock every second that matters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.local_clock import edges, has_clock_change, zone_of

#: Zones whose changes are of an hour, half an hour, at midnight, and none.
ZONES = ("Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu")
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Europe/Berlin\0", "/"])
def test_a_zone_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone_of(name)


def shown(at: datetime, name: str) -> int:
    local = at.astimezone(zone_of(name))
    return local.hour * 60 + local.minute


@settings(max_examples=40)
@given(
    name=st.sampled_from(ZONES),
    start_minutes=st.integers(0, 364 * 1440),
    hours=st.integers(1, 30),
    minute=st.integers(0, 1439),
)
def test_no_change_of_the_display_from_or_to_a_range_is_missed(
    name: str, start_minutes: int, hours: int, minute: int
) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + start_minutes * MINUTE
    end = begin + timedelta(hours=hours)
    found = edges(begin, end, zone_of(name), {0, minute})
    at = begin + MINUTE
    while at < end:
        before, after = shown(at - MINUTE, name) < minute, shown(at, name) < minute
        if before != after:
            assert at in found
        at += MINUTE


@pytest.mark.parametrize(
    ("name", "day", "changes"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC), True),
        ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), True),
        ("Europe/Berlin", datetime(2026, 6, 1, tzinfo=UTC), False),
        ("Asia/Kathmandu", datetime(2026, 3, 29, tzinfo=UTC), False),
        ("UTC", datetime(2026, 3, 29, tzinfo=UTC), False),
    ],
)
def test_a_change_of_clocks_is_noticed(name: str, day: datetime, changes: bool) -> None:
    assert has_clock_change(day, day + timedelta(days=1), zone_of(name)) == changes


def test_edges_are_strictly_inside() -> None:
    zone = zone_of("UTC")
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert edges(noon, noon + timedelta(hours=1), zone, {720, 780}) == set()
    assert edges(noon, noon, zone, {720}) == set()
    assert edges(noon - MINUTE, noon + MINUTE, zone, {720}) == {noon}
