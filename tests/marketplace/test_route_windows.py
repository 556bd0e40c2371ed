"""Prices and services that follow each other in a route: never none, never two at an instant."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from marketplace.router.target import Price, Target
from marketplace.routing_schedule import RoutingSchedule, Window, Windows, in_force

_NEVER = float("inf")
NAME = ("evsp", "a.S")
bounds = st.lists(st.integers(1, 50).map(float), min_size=2, max_size=8, unique=True).map(sorted)


def _target(contract: str, micros: int, service: str = "s-1") -> Target:
    return Target(contract, "volt", service, "1.0", "h:1", Price(micros, "EUR"))


def _revisions(instants: list[float], contract: str = "c-1", service: str = "s-1") -> Windows:
    """Give one window for each price of a contract, from the first instant to the last."""
    pairs = enumerate(itertools.pairwise(instants))
    return tuple(Window(_target(contract, n, service), *pair) for n, pair in pairs)


@given(bounds, st.floats(0, 60))
def test_at_every_instant_of_a_contract_one_price_is_in_force(
    instants: list[float], now_s: float
) -> None:
    found = in_force(_revisions(instants), now_s)
    assert len(found) == (instants[0] <= now_s < instants[-1])
    if found:
        begun = [instant for instant in instants if instant <= now_s]
        assert found[0].price.per_call_micros == len(begun) - 1, "that of the last that began"


@given(bounds, bounds, st.floats(0, 60))
def test_services_of_a_contract_come_and_go_by_themselves(
    own: list[float], added: list[float], now_s: float
) -> None:
    """An added service is routed beside the contract's own one, in this order, not instead."""
    windows = (*_revisions(own), *_revisions(added, service="s-2"))
    services = [target.service_id for target in in_force(windows, now_s)]
    expected = [("s-1", own), ("s-2", added)]
    assert services == [name for name, each in expected if each[0] <= now_s < each[-1]]


@given(bounds, st.lists(st.floats(0, 60), max_size=10))
def test_whoever_looks_late_gets_the_newest_price_and_misses_no_end(
    instants: list[float], looks: list[float]
) -> None:
    schedule, windows = RoutingSchedule(), _revisions(instants)
    schedule.put({NAME: windows}, 0.0)
    known = in_force(windows, 0.0) or None
    for now_s in sorted(looks):
        known = schedule.due(now_s).get(NAME, known)
        assert known == (in_force(windows, now_s) or None)
        following = [instant for instant in instants if instant > now_s]
        assert schedule.next_s() == min(following, default=_NEVER)


@given(bounds, bounds)
def test_a_contract_that_ends_early_takes_its_later_prices_with_it(
    before: list[float], after: list[float]
) -> None:
    schedule = RoutingSchedule()
    schedule.put({NAME: _revisions(before)}, 0.0)
    schedule.put({NAME: ()}, 0.5)
    assert (len(schedule), schedule.due(_NEVER)) == (0, {})
    schedule.put({NAME: _revisions(after, "c-2")}, 0.5)
    seen = {
        target.contract_id
        for instant in sorted({*before, *after})
        for target in schedule.due(instant).get(NAME) or ()
    }
    assert seen == {"c-2"}
    assert schedule.next_s() == _NEVER


def test_nothing_is_due_that_did_not_change() -> None:
    schedule = RoutingSchedule()
    schedule.put({NAME: _revisions([5.0, 7.0]), ("other", "a.S"): _revisions([6.0, 9.0])}, 0.0)
    assert schedule.due(4.9) == {}
    assert list(schedule.due(5.0)) == [NAME]
    assert schedule.due(5.5) == {}
    assert list(schedule.due(6.0)) == [("other", "a.S")]
    assert schedule.due(100.0) == {NAME: None, ("other", "a.S"): None}
