"""The states of a contract, and what accepting an offering agrees, apart from any storage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.contract_pb2 import OfferingTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.contract import (
    TRANSITIONS,
    Acceptance,
    Contract,
    ContractState,
    ContractStep,
    agree,
    check_accepted,
    check_parties,
    take_step,
)
from marketplace.partner import Partner, PartnerState
from marketplace.service import Service, ServiceState
from tests.control_plane import REQUIRED, TERMS, fields_of
from tests.interceptors.support import raises

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUESTER, PROVIDER = Actor("evsp", is_partner=True), Actor("volt", is_partner=True)
STRANGER = Actor("other", is_partner=True)
OPERATOR = Actor("business", is_partner=False)
OFFERING = OfferingTerms(**TERMS)
SERVICE = Service(
    "s-1", 1, "volt", "Search", "Finds.", "a.S", 3, "1.2", "h:1", ServiceState.PUBLISHED, NOW
)


def _contract(state: ContractState) -> Contract:
    return Contract("c-1", 1, "evsp", "volt", "s-1", "o-1", state, b"", NOW, None)


def _partner(partner_id: str, state: PartnerState = PartnerState.ACTIVE) -> Partner:
    return Partner(partner_id, state, (1,), 1, NOW)


@pytest.mark.usecase(1485)
def test_an_offering_that_is_not_accepted_makes_no_contract() -> None:
    with pytest.raises(MarketError) as caught:
        check_accepted(Acceptance(("price",), accepted=False))
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert fields_of(caught.value) == ["accepted"]


@pytest.mark.usecase(1485)
@pytest.mark.parametrize(
    ("chosen", "missing"), [((), 2), (("price",), 1), (("support", "service-level"), 1)]
)
def test_a_contract_without_all_required_sections_is_incomplete(
    chosen: tuple[str, ...], missing: int
) -> None:
    with pytest.raises(MarketError) as caught:
        agree(OFFERING, SERVICE, Acceptance(chosen, accepted=True))
    assert [violation.rule for violation in caught.value.violations] == (
        ["section_required"] * missing
    )


@pytest.mark.usecase(1485)
def test_a_section_that_was_not_offered_cannot_be_chosen() -> None:
    chosen = (*REQUIRED, "free-beer")
    with pytest.raises(MarketError) as caught:
        agree(OFFERING, SERVICE, Acceptance(chosen, accepted=True))
    assert fields_of(caught.value) == ["section_ids[2]"]
    assert "free-beer" not in repr(caught.value)


@pytest.mark.usecase(1485)
@given(st.sets(st.sampled_from(["support"])), st.permutations(REQUIRED))
def test_a_contract_has_the_chosen_sections_and_the_service_as_it_is(
    optional: set[str], required: list[str]
) -> None:
    terms = agree(OFFERING, SERVICE, Acceptance((*optional, *required), accepted=True))
    assert [section.section_id for section in terms.sections] == [*REQUIRED, *optional]
    assert terms.price == OFFERING.price
    assert (terms.interface_name, terms.interface_version) == ("a.S", 3)
    assert (terms.service_title, terms.service_version) == ("Search", "1.2")


@pytest.mark.parametrize("step", ContractStep)
def test_to_a_stranger_there_is_no_such_contract(step: ContractStep) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        take_step(_contract(ContractState.ACTIVE), step, STRANGER)


@pytest.mark.usecase(1490)
@pytest.mark.parametrize("actor", [PROVIDER, OPERATOR])
@pytest.mark.parametrize("step", [ContractStep.SUSPENDED, ContractStep.RESUMED])
def test_nobody_but_the_requester_suspends_and_resumes(actor: Actor, step: ContractStep) -> None:
    for state in ContractState:
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
            take_step(_contract(state), step, actor)


@pytest.mark.parametrize("actor", [REQUESTER, PROVIDER, OPERATOR])
def test_either_party_and_the_operator_can_end_a_contract(actor: Actor) -> None:
    for state in (ContractState.ACTIVE, ContractState.SUSPENDED):
        after = take_step(_contract(state), ContractStep.TERMINATED, actor)
        assert after is ContractState.TERMINATED


@pytest.mark.usecase(1490)
@given(st.lists(st.sampled_from(ContractStep), max_size=20))
def test_whatever_is_tried_only_the_table_moves_the_state(steps: list[ContractStep]) -> None:
    contract = _contract(ContractState.ACTIVE)
    for step in steps:
        if (contract.state, step) in TRANSITIONS:
            contract = replace(contract, state=take_step(contract, step, REQUESTER))
        else:
            with pytest.raises(
                MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
            ):
                take_step(contract, step, REQUESTER)
    ended = ContractState.TERMINATED
    assert not [after for (before, _), after in TRANSITIONS.items() if before is ended]


@pytest.mark.usecase(1485)
def test_only_a_started_service_of_another_active_partner_is_contracted() -> None:
    evsp, volt = _partner("evsp"), _partner("volt")
    refused = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
    with pytest.raises(MarketError, check=refused):
        check_parties(SERVICE, volt, volt)
    for state in (ServiceState.REGISTERED, ServiceState.STOPPED):
        with pytest.raises(MarketError, check=refused):
            check_parties(replace(SERVICE, state=state), evsp, volt)
    with pytest.raises(MarketError, check=refused):
        check_parties(SERVICE, evsp, _partner("volt", PartnerState.INACTIVE))
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE)):
        check_parties(SERVICE, _partner("evsp", PartnerState.INACTIVE), volt)
    check_parties(SERVICE, evsp, volt)
