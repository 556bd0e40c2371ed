"""What a change makes of a contract's terms, by properties (1246, 1247)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.contract_amendment_pb2 import ProposedTerms
from gem.marketplace.v1.contract_pb2 import AddedService, ContractTerms
from marketplace.amendment import AmendmentKind, changed_terms, check_asked
from marketplace.contract import Contract, ContractState
from marketplace.contract_framework import shipped_framework
from marketplace.contract_period import Ending, Period
from marketplace.contract_section import take_values
from tests.contracts import DAY, START, framework_terms
from tests.control_plane import fields_of

pytestmark = pytest.mark.usecase(1246)

_FRAMEWORK = shipped_framework()
_ADDED = AddedService(service_id="s-2", interface_name="b.S", interface_version=3)
#: Sections that a contract of the framework can have or not, or with another value.
shapes = st.fixed_dictionaries({"notice_days": st.integers(0, 90), "micros": st.integers(0, 10**9)})


def _agreed(**fields: Any) -> ContractTerms:
    """Give terms as they stand in a contract that has a further service."""
    made = framework_terms(**fields)
    values: dict[str, Any] = {"sections": made["sections"], "price": made["price"]}
    terms = ContractTerms(
        **values,
        framework_version=1,
        interface_name="a.S",
        interface_version=2,
        service_title="Search",
        service_version="1.0",
        added_services=[_ADDED],
    )
    return take_values(terms)


def _proposed(**fields: Any) -> ProposedTerms:
    made = framework_terms(**fields)
    values: dict[str, Any] = {"sections": made["sections"], "price": made["price"]}
    return ProposedTerms(**values)


@given(before=shapes, after=shapes)
def test_a_change_gives_what_was_proposed_and_keeps_what_no_change_can_reach(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    terms, proposed = _agreed(**before), _proposed(**after)
    kept = terms.SerializeToString(deterministic=True)
    if before == after:
        with pytest.raises(MarketError) as caught:
            changed_terms(terms, proposed, _FRAMEWORK)
        assert fields_of(caught.value) == ["terms"]
        return
    found = changed_terms(terms, proposed, _FRAMEWORK)
    assert found == _agreed(**after), "the same as if it had been agreed on at first"
    assert list(found.added_services) == [_ADDED]
    assert (found.notice.notice_days, found.service_version) == (after["notice_days"], "1.0")
    assert terms.SerializeToString(deterministic=True) == kept, "what is in force stays as it is"


@given(before=shapes, after=shapes)
def test_a_change_there_and_back_is_the_contract_of_before(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    if before == after:
        return
    there = changed_terms(_agreed(**before), _proposed(**after), _FRAMEWORK)
    assert changed_terms(there, _proposed(**before), _FRAMEWORK) == _agreed(**before)


@given(without=st.sets(st.sampled_from(["parties", "term", "notice", "price", "liability"])))
def test_a_change_without_a_required_section_is_refused_whatever_else_it_holds(
    without: set[str],
) -> None:
    proposed = _proposed(micros=9, without=tuple(without))
    if without:
        with pytest.raises(MarketError) as caught:
            changed_terms(_agreed(), proposed, _FRAMEWORK)
        assert fields_of(caught.value)[0].startswith("terms.sections")
    else:
        assert changed_terms(_agreed(), proposed, _FRAMEWORK) == _agreed(micros=9)


instants = st.integers(-40, 80).map(lambda days: START + days * DAY)


@given(
    at=st.none() | instants,
    ends=instants,
    ending=st.sampled_from(Ending),
    kind=st.sampled_from([AmendmentKind.CHANGE, AmendmentKind.TERMINATION, AmendmentKind.ADDITION]),
)
def test_what_is_asked_for_lies_between_now_and_the_certain_end(
    at: Any, ends: Any, ending: Ending, kind: AmendmentKind
) -> None:
    period = Period(START - 99 * DAY, None if ending is Ending.NONE else ends, ending)
    values = ("c-1", 1, "evsp", "volt", "s-1", "o-1", ContractState.ACTIVE, b"", START, None)
    contract = Contract(*values, period=period)
    certain = ending in (Ending.EXPIRES, Ending.TERMINATES)
    fits = at is None or (at >= START and (not certain or at < ends))
    if fits:
        check_asked(contract, kind, at, START)
        return
    with pytest.raises(MarketError) as caught:
        check_asked(contract, kind, at, START)
    assert fields_of(caught.value) == ["effective_time"]


@given(st.timedeltas(timedelta(days=-60), timedelta(days=60)))
def test_a_prolongation_is_later_than_the_present_end(delta: timedelta) -> None:
    period = Period(START, START + 30 * DAY, Ending.EXPIRES)
    values = ("c-1", 1, "evsp", "volt", "s-1", "o-1", ContractState.SUSPENDED, b"", START, None)
    contract, at = Contract(*values, period=period), START + 30 * DAY + delta
    if delta > timedelta(0):
        check_asked(contract, AmendmentKind.PROLONGATION, at, START)
        return
    with pytest.raises(MarketError) as caught:
        check_asked(contract, AmendmentKind.PROLONGATION, at, START)
    assert fields_of(caught.value) == ["end_time"]
