"""Routes that change by themselves: at the agreed instants, and as they are at each of them."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.router.snapshot import RouteName
from marketplace.router.target import Price, Target
from marketplace.routing_clock import RoutingClock
from marketplace.routing_schedule import RoutingSchedule, Window, Windows, in_force

_NEVER = float("inf")
Routes = dict[RouteName, tuple[Target, ...] | None]


def target(number: int) -> Target:
    """Give a target of a contract."""
    return Target(f"contract-{number}", "volt", "s", "1.0", "h:1", Price())


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    """Give windows with any bounds, also none and past ones."""
    bounds = st.integers(0, 20).map(float)
    found = []
    for number in range(draw(st.integers(0, 4))):
        opens, closes = draw(st.just(-_NEVER) | bounds), draw(st.just(_NEVER) | bounds)
        found.append(Window(target(number), opens, closes))
    return tuple(found)


names = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"]))
puts = st.tuples(st.integers(0, 20), st.dictionaries(names, windows(), max_size=3))


@given(st.lists(puts, max_size=8), st.lists(st.integers(0, 25), max_size=8))
def test_whoever_follows_the_schedule_has_what_is_in_force(
    changes: list[tuple[int, dict[RouteName, Windows]]], looks: list[int]
) -> None:
    schedule, known, followed = RoutingSchedule(), {}, Routes()
    steps: list[tuple[int, dict[RouteName, Windows]]] = [*changes, *((at, {}) for at in looks)]
    for at, change in sorted(steps, key=lambda step: step[0]):
        now_s = float(at)
        followed.update(schedule.due(now_s))
        schedule.put(change, now_s)
        followed.update({name: in_force(found, now_s) or None for name, found in change.items()})
        known.update(change)
        assert followed == {name: in_force(found, now_s) or None for name, found in known.items()}
        assert schedule.next_s() > now_s


def test_a_target_is_one_from_its_first_instant_on_and_not_at_its_last() -> None:
    only = (Window(target(1), 5.0, 7.0),)
    found = [bool(in_force(only, now_s)) for now_s in (4.9, 5.0, 6.9, 7.0)]
    assert found == [False, True, True, False]


def test_what_never_changes_takes_no_room() -> None:
    schedule = RoutingSchedule()
    schedule.put({("a", "x"): (Window(target(1)), Window(target(2), 1.0, 2.0))}, 3.0)
    assert (len(schedule), schedule.next_s()) == (0, _NEVER)
    for number in range(1000):
        schedule.put({("a", "x"): (Window(target(1), 10.0 + number),)}, 3.0)
    assert len(schedule) == 1
    assert len(schedule._due) < 200  # what must not grow without bound


async def test_the_clock_follows_an_instant_when_it_comes() -> None:
    heard: list[Routes] = []
    came = asyncio.Event()

    def follow(routes: Routes) -> None:
        heard.append(routes)
        came.set()

    clock = RoutingClock(follow)
    at_s = time.time() + 0.1
    clock.put({("a", "x"): (Window(target(1), at_s),), ("b", "x"): (Window(target(2)),)})
    await asyncio.wait_for(came.wait(), 5)
    assert heard == [{("a", "x"): (target(1),)}]
    assert time.time() >= at_s
    clock.stop()


async def test_a_clock_that_starts_anew_catches_up_with_what_came_meanwhile() -> None:
    heard: list[Routes] = []
    now_s = [10.0]
    clock = RoutingClock(heard.append, lambda: now_s[0])
    clock.put({("old", "x"): (Window(target(9), 50.0),)})
    clock.restart({("a", "x"): (Window(target(1), 5.0, 9.0), Window(target(2), 9.0, 20.0))})
    clock.tick()
    assert heard == [{("a", "x"): (target(2),)}]
    now_s[0] = 20.0
    clock.tick()
    assert heard[1:] == [{("a", "x"): None}]
    now_s[0] = 99.0
    clock.tick()
    assert len(heard) == 2, "what was forgotten does not come"
    clock.stop()


@pytest.mark.fault
async def test_a_clock_that_was_set_is_noticed() -> None:
    heard: list[Routes] = []
    now_s = [0.0]
    clock = RoutingClock(heard.append, lambda: now_s[0])
    clock.put({("a", "x"): (Window(target(1), 1e9),)})
    now_s[0] = 2e9
    clock.tick()
    assert heard == [{("a", "x"): (target(1),)}]
    clock.stop()
