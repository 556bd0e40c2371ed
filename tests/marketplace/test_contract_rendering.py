"""Contracts, requests and offerings as messages, and what a search means; no storage."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1 import contract_amendment_pb2 as amendments
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1.contract_pb2 import ContractSection, ContractTerms, OfferingTerms
from gem.marketplace.v1.contract_search_pb2 import ContractCriteria
from marketplace.actor import MARKET, Actor
from marketplace.amendment import Amendment, AmendmentKind, AmendmentState
from marketplace.contract import Contract, ContractState, ContractStep
from marketplace.contract_changes import routes_of
from marketplace.contract_period import Ending, Period
from marketplace.contract_rendering import (
    digest_of,
    render_amendment,
    render_contract,
    render_event,
    render_offering,
    render_revision,
)
from marketplace.contract_search import contract_filter
from marketplace.contract_section import choice_violations, group_of, take_values
from marketplace.notice import contract_notices
from marketplace.storage_contract_search import ContractFilter
from tests.contracts import DAY, START, framework_terms, time
from tests.control_plane import fields_of

TERMS = ContractTerms(interface_name="a.S", service_title="Search", framework_version=1)
RAW = TERMS.SerializeToString(deterministic=True)
EVSP = Actor("evsp", is_partner=True)
OPERATOR = Actor("boss", is_partner=False)


def _contract(state: ContractState = ContractState.ACTIVE, **fields: Any) -> Contract:
    values = ("c-1", 1, "evsp", "volt", "s-1", "o-1", state)
    return Contract(*values, **{"terms": RAW, "created_at": START, "terminated_at": None, **fields})


def _amendment(kind: AmendmentKind, content: bytes = b"", **fields: Any) -> Amendment:
    state = AmendmentState.PENDING
    values = ("a-1", "c-1", kind, state, "evsp", "Why.", content, None, START)
    return Amendment(*values, **fields)


@pytest.mark.parametrize("state", ContractState)
@pytest.mark.parametrize("ending", Ending)
def test_every_state_and_ending_has_a_name_on_the_wire(
    state: ContractState, ending: Ending
) -> None:
    ends_at = None if ending is Ending.NONE else START + DAY
    made = render_contract(_contract(state, period=Period(START, ends_at, ending)))
    assert contract_pb2.ContractState.Name(made.state) == f"CONTRACT_STATE_{state.value}"
    name = "UNSPECIFIED" if ending is Ending.NONE else ending.value
    assert contract_pb2.ContractEnding.Name(made.ending) == f"CONTRACT_ENDING_{name}"
    assert made.HasField("end_time") == (ending is not Ending.NONE)


def test_a_contract_from_before_there_were_periods_started_when_it_was_made() -> None:
    made = render_contract(_contract())
    assert made.start_time == made.create_time == time(START)
    assert made.revision == 1
    assert not made.HasField("trial_end_time")


def test_the_digest_is_of_the_terms_as_they_are_kept() -> None:
    made = render_contract(_contract())
    assert made.terms_digest == digest_of(RAW) == hashlib.sha256(RAW).digest()
    again = made.terms.SerializeToString(deterministic=True)
    assert hashlib.sha256(again).digest() == made.terms_digest
    listed = render_contract(_contract(terms=b""))
    assert (listed.terms_digest, listed.HasField("terms")) == (b"", False)


@pytest.mark.parametrize("step", ContractStep)
def test_every_step_has_a_name_in_the_history(step: ContractStep) -> None:
    row = SimpleNamespace(kind=step.value, state="ACTIVE", actor="evsp:ada", occurred_at=START)
    made = render_event(row)
    assert contract_pb2.ContractEventKind.Name(made.kind) == f"CONTRACT_EVENT_KIND_{step.value}"
    assert made.actor == "evsp", "the person stays inside"


@pytest.mark.parametrize("kind", AmendmentKind)
@pytest.mark.parametrize("state", AmendmentState)
def test_every_request_shows_what_it_asks_for(kind: AmendmentKind, state: AmendmentState) -> None:
    terms = amendments.ProposedTerms(sections=[ContractSection(section_id="price")])
    addition = amendments.ServiceAddition(offering_id="o-2")
    contents = {AmendmentKind.CHANGE: terms, AmendmentKind.ADDITION: addition}
    content = contents[kind].SerializeToString() if kind in contents else b""
    values = ("a-1", "c-1", kind, state, "evsp", "Why.", content, START + DAY, START)
    made = render_amendment(Amendment(*values, decided_at=START, note="Fine."))
    assert amendments.AmendmentKind.Name(made.kind) == f"AMENDMENT_KIND_{kind.value}"
    assert amendments.AmendmentState.Name(made.state) == f"AMENDMENT_STATE_{state.value}"
    assert made.HasField("terms") == (kind is AmendmentKind.CHANGE)
    assert made.HasField("addition") == (kind is AmendmentKind.ADDITION)
    assert made.effective_time == time(START + DAY)
    assert (made.reason, made.note) == ("Why.", "Fine.")


def test_what_is_not_decided_has_no_time_of_decision() -> None:
    made = render_amendment(_amendment(AmendmentKind.TERMINATION))
    assert not made.HasField("decide_time")
    assert not made.HasField("effective_time")


def test_revisions_and_offerings_say_from_when_and_to_when_they_hold() -> None:
    revision = render_revision(SimpleNamespace(revision=2, terms=RAW, effective_at=START))
    assert (revision.revision, revision.terms) == (2, TERMS)
    assert revision.terms_digest == digest_of(RAW)
    row = SimpleNamespace(
        offering_id="o-2",
        service_id="s-1",
        terms=OfferingTerms(framework_version=1).SerializeToString(),
        created_at=START,
        revision=2,
        previous_offering_id="o-1",
        withdrawn_at=START + timedelta(hours=1),
    )
    offering = render_offering(row)
    assert (offering.revision, offering.previous_offering_id) == (2, "o-1")
    assert offering.withdraw_time == time(START + timedelta(hours=1))
    first = render_offering(
        SimpleNamespace(**{**vars(row), "previous_offering_id": None, "withdrawn_at": None})
    )
    assert first.previous_offering_id == ""
    assert not first.HasField("withdraw_time")


def test_added_services_are_routed_by_their_own_interface() -> None:
    terms = ContractTerms(interface_name="a.S")
    for name in ("a.S", "b.T"):
        terms.added_services.add(interface_name=name)
    found = routes_of(_contract(terms=terms.SerializeToString()))
    assert found == {("evsp", "a.S"), ("evsp", "b.T")}


def test_what_comes_about_by_itself_is_nobodys_act() -> None:
    assert MARKET.name == ""
    assert OPERATOR.name == "operator/boss"
    told = contract_notices(_contract(), ContractStep.STARTED, MARKET, START, "It ends.")
    assert {each.sender_id for each in told} == {""}
    assert all("by the marketplace, as agreed." in each.text for each in told)
    assert all(each.text.endswith("It ends.") for each in told)


@pytest.mark.usecase(1245)
def test_a_partner_searches_its_own_contracts_unless_it_names_another() -> None:
    assert contract_filter(ContractCriteria(), EVSP) == ContractFilter(party_ids=("evsp",))
    assert contract_filter(ContractCriteria(), OPERATOR) == ContractFilter()
    both = ContractCriteria(party_id="volt", partner_id="watt")
    assert contract_filter(both, OPERATOR).party_ids == ("volt", "watt")


@pytest.mark.usecase(1245)
@pytest.mark.parametrize(
    ("role", "requester", "provider"),
    [("CONTRACT_ROLE_REQUESTER", "evsp", "volt"), ("CONTRACT_ROLE_PROVIDER", "volt", "evsp")],
)
def test_a_role_says_on_which_side_who_is(role: str, requester: str, provider: str) -> None:
    criteria: Any = {"role": role, "partner_id": "volt"}
    found = contract_filter(ContractCriteria(**criteria), EVSP)
    assert (found.requester_id, found.provider_id) == (requester, provider)
    assert found.party_ids == ()


@pytest.mark.usecase(1245)
def test_an_instant_beyond_all_reason_finds_nothing_and_says_so() -> None:
    criteria = ContractCriteria()
    criteria.valid_at_time.seconds = 2**60
    with pytest.raises(MarketError) as caught:
        contract_filter(criteria, EVSP)
    assert fields_of(caught.value) == ["criteria.valid_at_time"]


@given(st.sets(st.sampled_from(range(9)), min_size=1))
def test_the_values_of_terms_are_those_of_the_chosen_sections(places: set[int]) -> None:
    trial = {"trial_days": 3, "outcome": 1}
    offered = OfferingTerms(**framework_terms(notice_days=4, trial=trial)).sections
    chosen = [section for place, section in enumerate(offered) if place in places]
    terms = take_values(ContractTerms(sections=chosen))
    named = {section.WhichOneof("value") for section in chosen}
    for name in ("term", "notice", "trial", "service_level"):
        assert terms.HasField(name) == (name in named)
    assert bool(terms.purposes) == ("purposes" in named)
    assert take_values(ContractTerms.FromString(terms.SerializeToString())) == terms


@given(st.data())
def test_a_choice_is_right_exactly_when_each_required_group_has_one(data: st.DataObject) -> None:
    groups = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
    required = {name: data.draw(st.booleans()) for name in "abc"}
    sections = [
        ContractSection(section_id=f"s-{place}", framework_section_id=name, required=required[name])
        for place, name in enumerate(groups)
    ]
    chosen = [each for each in sections if data.draw(st.booleans())]
    counts = {name: sum(group_of(each) == name for each in chosen) for name in groups}
    right = all(count == 1 or (count == 0 and not required[name]) for name, count in counts.items())
    found = choice_violations(sections, [each.section_id for each in chosen])
    assert (not found) == right
