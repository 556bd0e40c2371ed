"""Dates of contracts by properties: starts, ends, trials, notices, prolongations."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gem.marketplace.v1.contract_pb2 import ContractTerms
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
from tests.contracts import DAY, START, time

_CONTINUES, _ENDS = 1, 2
spans = st.timedeltas(timedelta(seconds=1), timedelta(days=900))


@st.composite
def terms(draw: st.DrawFn) -> ContractTerms:
    """Give terms with any term and trial period that the catalogue allows."""
    term: dict[str, Any] = {}
    if draw(st.booleans()):
        term["start_time"] = time(START + draw(spans))
    match draw(st.sampled_from(["none", "duration", "end"])):
        case "duration":
            term["duration_days"] = draw(st.integers(1, 3650))
        case "end":
            # Behind any start that is drawn.
            term["end_time"] = time(START + 900 * DAY + draw(spans))
    if len(term) > ("start_time" in term) and draw(st.booleans()):
        term["prolongation_days"] = draw(st.integers(1, 400))
    trial = draw(st.none() | st.tuples(st.integers(1, 365), st.sampled_from([_CONTINUES, _ENDS])))
    named = {"trial": {"trial_days": trial[0], "outcome": trial[1]}} if trial else {}
    made: Any = ContractTerms
    found: ContractTerms = made(term=term, **named)
    return found


wishes = st.none() | spans.map(lambda span: START + span)


def _made(given_terms: ContractTerms, wanted: datetime | None) -> Period:
    """Give the first period."""
    return first_period(given_terms, wanted, START)


@given(terms(), wishes)
def test_a_period_begins_when_both_parties_allow_and_lasts(
    given_terms: ContractTerms, wanted: datetime | None
) -> None:
    period = _made(given_terms, wanted)
    allowed = [START, *([wanted] if wanted else [])]
    if given_terms.term.HasField("start_time"):
        allowed.append(instant(given_terms.term.start_time, "term.start_time"))
    assert period.starts_at == max(allowed)
    assert (period.ends_at is None) == (period.ending is Ending.NONE)
    assert period.ends_at is None or period.ends_at > period.starts_at
    assert (period.prolongation_days > 0) == (period.ending is Ending.PROLONGS)


@given(terms(), wishes)
def test_a_trial_lies_within_its_period_and_ends_or_continues_as_agreed(
    given_terms: ContractTerms, wanted: datetime | None
) -> None:
    period = _made(given_terms, wanted)
    assert (period.trial_ends_at is not None) == given_terms.HasField("trial")
    if period.trial_ends_at is None:
        assert not period.in_trial(START)
        return
    assert period.starts_at is not None
    until = period.routed_until()
    assert until is None or period.trial_ends_at <= until
    assert period.trial_ends_at - period.starts_at <= given_terms.trial.trial_days * DAY
    assert period.in_trial(period.trial_ends_at - timedelta(microseconds=1))
    assert not period.in_trial(period.trial_ends_at)
    if given_terms.trial.outcome == _ENDS:
        assert (period.ending, until) == (Ending.EXPIRES, period.trial_ends_at)
        assert not period.trial_pending


@given(terms(), wishes, spans, st.integers(0, 400))
def test_a_notice_ends_within_its_days_and_never_later_than_the_term(
    given_terms: ContractTerms, wanted: datetime | None, after: timedelta, days: int
) -> None:
    period = _made(given_terms, wanted)
    now = START + after
    at = notice_end(period, days, now)
    assert at == (now if period.in_trial(now) else now + days * DAY)
    ended = terminating(period, at)
    assert (ended.ending, ended.remind_at) == (Ending.TERMINATES, None)
    assert ended.ends_at is not None
    assert ended.ends_at <= at
    if period.ending in (Ending.NONE, Ending.PROLONGS):
        assert ended.ends_at == at, "what goes on otherwise ends by the notice"
    assert terminating(ended, at) == ended
    assert replace(ended, ends_at=None) == replace(terminating(period, at + DAY), ends_at=None)


@given(st.integers(1, 3650), st.integers(1, 400), wishes, st.integers(1, 30))
def test_prolongations_add_up_and_each_is_reminded_of(
    days: int, more_days: int, wanted: datetime | None, times: int
) -> None:
    made: Any = {"duration_days": days, "prolongation_days": more_days}
    first = period = _made(ContractTerms(term=made), wanted)
    assert (first.ending, first.prolongation_days) == (Ending.PROLONGS, more_days)
    assert first.ends_at is not None
    for number in range(1, times + 1):
        began, period = period.ends_at, prolonged(period)
        assert period.ends_at == first.ends_at + number * first.prolongation_days * DAY
        assert began is not None
        assert period.remind_at is not None
        assert began <= period.remind_at < period.ends_at
        assert period.ends_at - period.remind_at <= REMINDER
