"""Which days a monthly fee is charged for."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from marketplace.price_days import days_by_price, fee_micros, in_force

FIRST = datetime(2026, 2, 1, tzinfo=UTC)
END = datetime(2026, 3, 1, tzinfo=UTC)


def at(day: float) -> datetime:
    """Give an instant so many days into the month."""
    return FIRST + timedelta(days=day)


def test_a_suspended_contract_is_in_force_and_a_terminated_one_is_not() -> None:
    events = [("ACTIVE", at(1)), ("SUSPENDED", at(2)), ("ACTIVE", at(3)), ("TERMINATED", at(4))]
    assert in_force(events) == [(at(1), at(4))]
    assert in_force([]) == []
    assert in_force([("PENDING", at(0)), ("ACTIVE", at(2))]) == [(at(2), None)]
    assert in_force([("PENDING", at(0)), ("TERMINATED", at(2))]) == []


def test_a_whole_month_counts_all_its_days() -> None:
    for intervals in ([(at(-40), None)], [(at(0), at(28))], [(at(-1), at(90))]):
        assert days_by_price(intervals, [(1, at(-40))], FIRST, END) == {1: 28}


def test_a_day_counts_where_any_time_of_it_was_in_force() -> None:
    assert days_by_price([(at(4.9), at(5.1))], [(1, at(4.9))], FIRST, END) == {1: 2}
    assert days_by_price([(at(4), at(5))], [(1, at(4))], FIRST, END) == {1: 1}
    assert days_by_price([(at(4.2), at(4.3)), (at(4.6), None)], [(1, at(0))], FIRST, END) == {1: 24}
    assert days_by_price([(at(-5), at(0))], [(1, at(-5))], FIRST, END) == {}
    assert days_by_price([(at(28), None)], [(1, at(28))], FIRST, END) == {}


def test_a_change_of_price_counts_from_the_next_day_on() -> None:
    prices = [(1, at(-5)), (2, at(10.5)), (None, at(20))]
    assert days_by_price([(at(-5), None)], prices, FIRST, END) == {1: 11, 2: 9}


def test_a_price_that_was_noted_a_moment_after_the_contract_counts_from_its_first_day() -> None:
    assert days_by_price([(at(3.5), None)], [(1, at(3.6))], FIRST, END) == {1: 25}


@given(
    start=st.floats(-40, 40),
    length=st.none() | st.floats(0.01, 60),
    changes=st.lists(st.floats(-50, 40), max_size=5),
)
def test_every_day_in_force_is_charged_once(
    start: float, length: float | None, changes: list[float]
) -> None:
    """Whatever the prices are, their days add up to those of a contract with one price."""
    stop = None if length is None else at(start + length)
    since = [(1, at(start)), *((n, at(max(start, c))) for n, c in enumerate(sorted(changes), 2))]
    many = days_by_price([(at(start), stop)], since, FIRST, END)
    one = days_by_price([(at(start), stop)], [(1, at(start))], FIRST, END)
    assert sum(many.values()) == sum(one.values()) <= 28
    assert all(days > 0 for days in many.values())


@given(price=st.integers(0, 10**12), days=st.integers(1, 31), length=st.integers(28, 31))
def test_fees_grow_with_the_days_up_to_the_price_itself(price: int, days: int, length: int) -> None:
    days = min(days, length)
    assert fee_micros(price, length, length) == price
    assert fee_micros(price, days - 1, length) <= fee_micros(price, days, length)
    assert abs(fee_micros(price, days, length) * length - price * days) * 2 <= length


hours = st.integers(0, 28 * 24)


@given(
    services=st.lists(st.lists(hours, min_size=1, max_size=4), min_size=1, max_size=4),
    began=hours,
    length=hours,
)
def test_each_service_is_charged_for_each_of_its_days_once(
    services: list[list[int]], began: int, length: int
) -> None:
    """Days of several services add up; a service has none before its own first day."""
    start = FIRST + timedelta(hours=began)
    intervals = [(start, start + timedelta(hours=length + 1))]
    total: Counter[int] = Counter()
    most = 0
    for number, changes in enumerate(services):
        since = [FIRST + timedelta(hours=hour) for hour in sorted(changes)]
        prices = [(10 * number + place, at) for place, at in enumerate(since)]
        found = days_by_price(intervals, prices, FIRST, END)
        last = min(intervals[0][1], END)
        first = max(start, since[0])
        expected = max(0, (last - timedelta(microseconds=1) - first.replace(hour=0)).days + 1)
        assert sum(found.values()) == (expected if first < END else 0)
        total.update(found)
        most += 28
    assert total.total() <= most
    assert sum(fee_micros(28, days, 28) for days in total.values()) == total.total()
