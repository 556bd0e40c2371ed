"""Requests of one party of a contract to the other, apart from any storage."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.contract_amendment_pb2 import ProposedTerms
from gem.marketplace.v1.contract_pb2 import ContractTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.amendment import (
    TRANSITIONS,
    Amendment,
    AmendmentKind,
    AmendmentState,
    AmendmentStep,
    advance_amendment,
    changed_terms,
    check_asked,
    decide,
)
from marketplace.contract import ENDED, Contract, ContractState
from marketplace.contract_framework import shipped_framework
from marketplace.contract_period import Ending, Period
from marketplace.contract_section import take_values
from tests.contracts import DAY, START, framework_terms, price, section
from tests.control_plane import TERMS, fields_of
from tests.interceptors.support import raises

REQUESTER, PROVIDER = Actor("evsp", is_partner=True), Actor("volt", is_partner=True)
STRANGER = Actor("other", is_partner=True)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
_FINAL = frozenset(AmendmentState) - {AmendmentState.PENDING, AmendmentState.SCHEDULED}
_DECISIONS = (AmendmentStep.ACCEPTED, AmendmentStep.REJECTED, AmendmentStep.REVOKED)


def _contract(
    state: ContractState = ContractState.ACTIVE, period: Period | None = None
) -> Contract:
    values = ("c-1", 1, "evsp", "volt", "s-1", "o-1", state, b"", START, None)
    return Contract(*values, period=period or Period())


def _amendment(state: AmendmentState = AmendmentState.PENDING) -> Amendment:
    kind = AmendmentKind.CHANGE
    return Amendment("a-1", "c-1", kind, state, "evsp", "Because.", b"", None, START)


def _fixed(ending: Ending = Ending.EXPIRES) -> Period:
    return Period(START, START + 30 * DAY, ending, prolongation_days=30)


@pytest.mark.usecase(1247, 1481)
@pytest.mark.parametrize("step", _DECISIONS)
def test_who_asked_revokes_and_the_other_party_decides(step: AmendmentStep) -> None:
    revoked = step is AmendmentStep.REVOKED
    right, wrong = (REQUESTER, PROVIDER) if revoked else (PROVIDER, REQUESTER)
    decide(_contract(), _amendment(), step, right)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        decide(_contract(), _amendment(), step, wrong)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        decide(_contract(), _amendment(), step, STRANGER)


@pytest.mark.usecase(1247, 1481)
@given(st.lists(st.sampled_from(_DECISIONS), max_size=6))
def test_of_all_decisions_the_first_counts(steps: list[AmendmentStep]) -> None:
    amendment, taken = _amendment(), 0
    for step in steps:
        who = REQUESTER if step is AmendmentStep.REVOKED else PROVIDER
        if taken:
            with pytest.raises(MarketError, check=NOT_ALLOWED):
                decide(_contract(), amendment, step, who)
            continue
        amendment = replace(amendment, state=decide(_contract(), amendment, step, who))
        taken += 1
    assert taken == min(len(steps), 1)


@given(st.lists(st.sampled_from(AmendmentStep), max_size=10))
def test_only_the_table_moves_a_request_and_what_is_over_stays_over(
    steps: list[AmendmentStep],
) -> None:
    state = AmendmentState.PENDING
    for step in steps:
        if (state, step) in TRANSITIONS:
            state = advance_amendment(state, step)
        else:
            with pytest.raises(MarketError, check=NOT_ALLOWED):
                advance_amendment(state, step)
    assert not [before for before, _ in TRANSITIONS if before in _FINAL]


@pytest.mark.usecase(1246, 1480)
@pytest.mark.parametrize("kind", AmendmentKind)
@pytest.mark.parametrize("state", ENDED)
def test_nothing_is_asked_about_a_contract_that_has_ended(
    kind: AmendmentKind, state: ContractState
) -> None:
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        check_asked(_contract(state), kind, None, START)


@pytest.mark.usecase(1246, 1480)
@pytest.mark.parametrize("kind", [AmendmentKind.CHANGE, AmendmentKind.TERMINATION])
@pytest.mark.parametrize("at", [START - DAY, START + 30 * DAY])
def test_what_is_asked_for_is_to_come_and_before_the_end(kind: AmendmentKind, at: datetime) -> None:
    with pytest.raises(MarketError) as caught:
        check_asked(_contract(period=_fixed()), kind, at, START)
    assert fields_of(caught.value) == ["effective_time"]
    check_asked(_contract(period=_fixed(Ending.PROLONGS)), kind, START + 30 * DAY, START)
    check_asked(_contract(period=_fixed()), kind, None, START)


def test_only_a_contract_with_an_end_of_its_own_is_prolonged_and_only_for_longer() -> None:
    kind, later = AmendmentKind.PROLONGATION, START + 31 * DAY
    for period in (Period(), _fixed(Ending.TERMINATES)):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            check_asked(_contract(period=period), kind, later, START)
    with pytest.raises(MarketError) as caught:
        check_asked(_contract(period=_fixed()), kind, START + 30 * DAY, START)
    assert fields_of(caught.value) == ["end_time"]
    check_asked(_contract(period=_fixed()), kind, later, START)


def _terms(**fields: Any) -> dict[str, Any]:
    made = framework_terms(**fields)
    return {"sections": made["sections"], "price": made["price"]}


def _agreed(**fields: Any) -> ContractTerms:
    return take_values(ContractTerms(**_terms(**fields), framework_version=1))


@pytest.mark.usecase(1246)
@pytest.mark.parametrize(
    ("proposed", "rule"),
    [
        (_terms(), "terms_changed"),
        (_terms(without=("price",)), "section_required"),
        (_terms(term={"duration_days": 3}), "term_unchanged"),
        (_terms(trial={"trial_days": 3, "outcome": 1}), "term_unchanged"),
        (_terms(extra=(section("odd"),)), "section_known"),
    ],
)
def test_a_form_that_is_not_complete_or_changes_nothing_is_refused(
    proposed: dict[str, Any], rule: str
) -> None:
    with pytest.raises(MarketError) as caught:
        changed_terms(_agreed(), ProposedTerms(**proposed), shipped_framework())
    assert [each.rule for each in caught.value.violations] == [rule]


@pytest.mark.usecase(1246)
def test_a_change_leaves_what_it_does_not_name() -> None:
    before = _agreed(notice_days=5)
    before.interface_name, before.service_title = "a.S", "Search"
    proposed = ProposedTerms(**_terms(notice_days=9, micros=7))
    after = changed_terms(before, proposed, shipped_framework())
    assert after.notice.notice_days == 9
    assert after.price.per_call.price.amount_micros == 7
    assert (after.interface_name, after.service_title) == ("a.S", "Search")
    assert before.notice.notice_days == 5


def test_without_framework_required_sections_stay_and_are_text() -> None:
    before = ContractTerms(**TERMS)
    sections = TERMS["sections"]
    for changed, rule in (
        (sections[1:], "section_required"),
        ([*sections, section("notice", notice={"notice_days": 1})], "framework_version"),
    ):
        with pytest.raises(MarketError) as caught:
            changed_terms(before, ProposedTerms(sections=changed, price=price(1)), None)
        assert [each.rule for each in caught.value.violations] == [rule]
    after = changed_terms(before, ProposedTerms(sections=sections[:2], price=price(1)), None)
    assert len(after.sections) == 2
