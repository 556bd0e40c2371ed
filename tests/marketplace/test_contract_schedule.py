"""Periods of contracts and what comes about by itself, apart from any storage."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.contract_pb2 import ContractTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract import ENDED, Contract, ContractState
from marketplace.contract_period import (
    REMINDER,
    Ending,
    Period,
    first_period,
    instant,
    notice_end,
    prolonged,
    terminating,
)
from marketplace.contract_schedule import STEPS_MAX, as_of, due_at, due_steps, next_step
from tests.contracts import DAY, START, time
from tests.control_plane import fields_of
from tests.interceptors.support import raises

_ENDS, _CONTINUES = 2, 1


def _terms(
    days: int = 0, prolongation: int = 0, trial: tuple[int, int] | None = None, **term: Any
) -> ContractTerms:
    values: Any = {"prolongation_days": prolongation, **term}
    if days:
        values["duration_days"] = days
    trials: Any = {"trial_days": trial[0], "outcome": trial[1]} if trial else None
    return ContractTerms(term=values, trial=trials)


def _contract(period: Period, **fields: Any) -> Contract:
    pending = period.starts_at is not None and period.starts_at > START
    state = ContractState.PENDING if pending else ContractState.ACTIVE
    values = ("c-1", 1, "evsp", "volt", "s-1", "o-1", state, b"", START, None)
    return Contract(*values, period=period, **fields)


def _made(terms: ContractTerms, wanted: datetime | None = None, **fields: Any) -> Contract:
    return _contract(first_period(terms, wanted, START), **fields)


def _steps(contract: Contract, now: datetime) -> list[tuple[str, float]]:
    """Give the steps until now, each with the days from START to it."""
    return [(due.step.value, (due.occurred_at - START) / DAY) for due in due_steps(contract, now)]


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    """Give contracts with any term, trial period, start and change to come."""
    days = st.integers(1, 400)
    trial = st.none() | st.tuples(st.integers(1, 365), st.sampled_from([_ENDS, _CONTINUES]))
    terms = _terms(draw(st.just(0) | days), draw(st.just(0) | days), draw(trial))
    wanted = draw(st.none() | st.integers(0, 900).map(lambda count: START + count * DAY))
    made = _made(terms, wanted)
    if draw(st.booleans()):
        made = replace(made, changes_at=START + draw(days) * DAY)
    if draw(st.booleans()):
        made = replace(made, period=terminating(made.period, START + draw(days) * DAY))
    return made


instants = st.integers(0, 2000 * 24).map(lambda hours: START + timedelta(hours=hours))


def test_a_contract_without_a_term_never_ends() -> None:
    made = _made(ContractTerms())
    assert made.period == Period(starts_at=START)
    assert next_step(made) is None
    assert due_at(made) is None


def test_a_fixed_term_ends_at_its_instant_and_a_reminder_comes_before() -> None:
    made = _made(_terms(days=30))
    assert _steps(made, START + 30 * DAY) == [("REMINDED", 23), ("EXPIRED", 30)]
    assert _steps(made, START + 30 * DAY - timedelta(microseconds=1)) == [("REMINDED", 23)]
    assert as_of(made, START + 30 * DAY).state is ContractState.EXPIRED


def test_a_short_term_is_reminded_of_at_its_half() -> None:
    assert _made(_terms(days=2)).period.remind_at == START + DAY
    assert _made(_terms(days=100)).period.remind_at == START + 100 * DAY - REMINDER


def test_a_term_prolongs_itself_at_each_end_also_when_nobody_looked() -> None:
    made = _made(_terms(days=30, prolongation=10))
    found = _steps(made, START + 51 * DAY)
    assert [each for each in found if each[0] == "PROLONGED"] == [
        ("PROLONGED", 30),
        ("PROLONGED", 40),
        ("PROLONGED", 50),
    ]
    after = as_of(made, START + 51 * DAY)
    assert after.state is ContractState.ACTIVE
    assert after.period.ends_at == START + 60 * DAY


def test_a_contract_starts_later_where_that_is_agreed() -> None:
    made = _made(_terms(days=5), START + 10 * DAY)
    assert made.state is ContractState.PENDING
    assert _steps(made, START + 10 * DAY) == [("STARTED", 10)]
    assert as_of(made, START + 15 * DAY).state is ContractState.EXPIRED
    by_term = first_period(_terms(start_time=time(START + 3 * DAY)), None, START)
    assert by_term.starts_at == START + 3 * DAY


@pytest.mark.parametrize(
    ("outcome", "steps"),
    [
        (_CONTINUES, [("REMINDED", 7), ("TRIAL_ENDED", 14), ("REMINDED", 23), ("EXPIRED", 30)]),
        (_ENDS, [("REMINDED", 7), ("EXPIRED", 14)]),
    ],
)
def test_a_trial_period_ends_by_itself_as_its_section_says(
    outcome: int, steps: list[tuple[str, float]]
) -> None:
    assert _steps(_made(_terms(days=30, trial=(14, outcome))), START + 99 * DAY) == steps


def test_a_trial_period_lasts_no_longer_than_the_term() -> None:
    made = _made(_terms(days=10, trial=(14, _CONTINUES)))
    assert made.period.trial_ends_at == START + 10 * DAY
    assert _steps(made, START + 99 * DAY) == [("REMINDED", 5), ("EXPIRED", 10)]


def test_a_change_comes_into_force_at_its_instant_and_before_an_end_at_the_same() -> None:
    made = _made(_terms(days=30), changes_at=START + 30 * DAY)
    assert _steps(made, START + 30 * DAY)[1:] == [("CHANGED", 30), ("EXPIRED", 30)]
    assert as_of(made, START + 30 * DAY).revision == 2


def test_a_notice_runs_from_when_it_is_given_and_in_a_trial_it_takes_effect_at_once() -> None:
    trial = _made(_terms(trial=(14, _CONTINUES))).period
    assert notice_end(trial, 30, START + DAY) == START + DAY
    assert notice_end(trial, 30, START + 14 * DAY) == START + 44 * DAY
    assert notice_end(trial, 0, START + 14 * DAY) == START + 14 * DAY


def test_a_notice_never_makes_a_contract_longer_but_stops_its_prolongation() -> None:
    fixed = _made(_terms(days=30)).period
    assert terminating(fixed, START + 40 * DAY).ends_at == START + 30 * DAY
    prolonging = _made(_terms(days=30, prolongation=30)).period
    ending = terminating(prolonging, START + 40 * DAY)
    assert (ending.ends_at, ending.ending) == (START + 40 * DAY, Ending.TERMINATES)
    assert _steps(_contract(ending), START + 99 * DAY) == [("TERMINATED", 40)]


@pytest.mark.parametrize("seconds", [-1, 10**11, 2**62, -(2**62)])
def test_an_instant_beyond_all_reason_is_refused(seconds: int) -> None:
    with pytest.raises(MarketError) as caught:
        instant(Timestamp(seconds=seconds), "start_time")
    assert fields_of(caught.value) == ["start_time"]


def test_a_start_far_ahead_or_behind_the_end_is_refused() -> None:
    with pytest.raises(MarketError) as caught:
        first_period(ContractTerms(), START + 1001 * DAY, START)
    assert fields_of(caught.value) == ["start_time"]
    over = _terms(end_time=time(START + DAY))
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        first_period(over, START + DAY, START)
    assert first_period(over, START - 9 * DAY, START).starts_at == START


@given(contracts(), st.lists(instants, max_size=5))
def test_it_does_not_matter_when_and_how_often_somebody_looks(
    contract: Contract, looks: list[datetime]
) -> None:
    last = START + 3000 * DAY
    seen = contract
    for look in sorted(looks):
        seen = as_of(seen, look)
    assert as_of(seen, last) == as_of(contract, last)


@given(contracts(), instants)
def test_steps_come_in_order_never_after_now_and_an_end_is_the_last(
    contract: Contract, now: datetime
) -> None:
    steps = due_steps(contract, now)
    assert len(steps) <= STEPS_MAX
    times = [due.occurred_at for due in steps]
    assert times == sorted(times)
    assert all(instant <= now for instant in times)
    for before, after in itertools.pairwise(steps):
        assert before.after.state not in ENDED
        assert before.after != after.after
    following = due_at(as_of(contract, now))
    assert following is None or following > now


@given(contracts(), instants)
def test_calls_stop_exactly_when_the_contract_has_ended(contract: Contract, now: datetime) -> None:
    until = as_of(contract, now).period.routed_until()
    ended = as_of(contract, now).state in ENDED
    assert ended == (until is not None and until <= now)


@given(contracts())
def test_a_prolongation_moves_the_end_and_nothing_else(contract: Contract) -> None:
    period = contract.period
    if period.ending is Ending.NONE:
        return
    assert period.ends_at is not None
    after = prolonged(period, period.ends_at + DAY)
    assert after.ends_at == period.ends_at + DAY
    same = {"ends_at": None, "remind_at": None, "ending": Ending.NONE}
    assert replace(after, **same) == replace(period, **same)  # type: ignore[arg-type]  # a mapping
