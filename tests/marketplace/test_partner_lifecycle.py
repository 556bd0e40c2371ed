"""The tables of a partner's life, apart from any storage: accounts, requests, changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind, OwnedIdentifier
from gem.marketplace.v1 import (
    partner_change_pb2,
    partner_pb2,
    partner_registration_pb2,
    partner_search_pb2,
)
from gem.marketplace.v1.partner_pb2 import PartnerProfile
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace import partner, partner_change, partner_registration
from marketplace.actor import Actor
from marketplace.partner import PartnerState, PartnerStep
from marketplace.partner_change import (
    AccountData,
    ChangeKind,
    ChangeState,
    ChangeStep,
    PartnerChange,
    differences,
    wanted,
)
from marketplace.partner_registration import (
    KEPT_AFTER_DECISION,
    Registration,
    RegistrationState,
    RegistrationStep,
    Waiting,
)
from marketplace.transition import advance
from tests.interceptors.support import raises

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
WAITS = Registration("r", "acme", RegistrationState.REQUESTED, (1,), (), 1, NOW)
CHANGE = PartnerChange("c", "acme", ChangeKind.ACCOUNT_DATA, ChangeState.REQUESTED, 1, "", "", NOW)
OPERATOR = Actor("business", is_partner=False)


class AccountLife(RuleBasedStateMachine):
    """Any steps in any order, beside what the use cases say in words."""

    @initialize()
    def register(self) -> None:
        self.state = PartnerState.REGISTERED
        self.was_active = False
        self.deleted = False

    def _try(self, step: PartnerStep) -> bool:
        try:
            self.state = advance(partner.TRANSITIONS, self.state, step, "refused")
        except MarketError:
            return False
        return True

    @rule()
    def activate(self) -> None:
        before = self.state
        done = self._try(PartnerStep.ACTIVATED)
        assert done == (before in (PartnerState.REGISTERED, PartnerState.INACTIVE))
        self.was_active |= done

    @rule()
    def inactivate(self) -> None:
        before = self.state
        assert self._try(PartnerStep.INACTIVATED) == (before is PartnerState.ACTIVE)

    @rule()
    def delete(self) -> None:
        before = self.state
        done = self._try(PartnerStep.DELETED)
        assert done == (before is PartnerState.INACTIVE)
        self.deleted |= done

    @rule(step=st.sampled_from(PartnerStep))
    def any_step(self, step: PartnerStep) -> None:
        if step not in (PartnerStep.ACTIVATED, PartnerStep.INACTIVATED, PartnerStep.DELETED):
            assert not self._try(step), "no other step moves the state"

    @invariant()
    def deletion_is_for_ever_and_never_of_an_active_partner(self) -> None:
        if not hasattr(self, "deleted"):
            return
        assert self.deleted == (self.state is PartnerState.DELETED)
        assert not self.deleted or self.was_active


TestAccountLife = pytest.mark.usecase(1379, 1380)(AccountLife.TestCase)


@pytest.mark.parametrize(
    ("names", "enum", "prefix"),
    [
        (PartnerState, partner_pb2.PartnerState, "PARTNER_STATE"),
        (PartnerStep, partner_search_pb2.PartnerEventKind, "PARTNER_EVENT_KIND"),
        (
            RegistrationState,
            partner_registration_pb2.PartnerRegistrationState,
            "PARTNER_REGISTRATION_STATE",
        ),
        (
            RegistrationStep,
            partner_registration_pb2.PartnerRegistrationEventKind,
            "PARTNER_REGISTRATION_EVENT_KIND",
        ),
        (ChangeState, partner_change_pb2.PartnerChangeState, "PARTNER_CHANGE_STATE"),
        (ChangeKind, partner_change_pb2.PartnerChangeKind, "PARTNER_CHANGE_KIND"),
    ],
)
def test_the_names_here_are_those_of_the_schema(names: Any, enum: Any, prefix: str) -> None:
    schema = {name.removeprefix(f"{prefix}_") for name in enum.keys()}  # noqa: SIM118  # an enum wrapper
    assert schema == {*map(str, names), "UNSPECIFIED"}


@given(st.lists(st.sampled_from(RegistrationStep), max_size=8))
def test_a_request_is_decided_once_whatever_is_tried(steps: list[RegistrationStep]) -> None:
    registration, decisions = WAITS, 0
    for step in steps:
        try:
            state = partner_registration.take_step(registration, step)
        except MarketError:
            continue
        decisions += state is not registration.state
        registration = replace(registration, state=state)
    assert decisions <= 1
    assert (registration.state is RegistrationState.REQUESTED) == (decisions == 0)


@given(st.sampled_from(ChangeState), st.sampled_from(ChangeStep))
def test_a_change_request_is_decided_once(state: ChangeState, step: ChangeStep) -> None:
    change = replace(CHANGE, state=state)
    if state is not ChangeState.REQUESTED:
        with pytest.raises(MarketError, check=NOT_NOW):
            partner_change.take_step(change, step, OPERATOR)
        return
    assert partner_change.take_step(change, step, OPERATOR).value == step.value
    other = Actor("volt", is_partner=True)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        partner_change.take_step(change, step, other)


@pytest.mark.parametrize(
    "waiting",
    [
        Waiting(partner_registration.WAITING_MAX, 0, 0),
        Waiting(0, partner_registration.WAITING_OF_PERSON_MAX, 0),
        Waiting(0, 0, partner_registration.HOURLY_MAX),
    ],
)
def test_each_limit_refuses_with_the_same_words(waiting: Waiting) -> None:
    partner_registration.check_room(Waiting(0, 0, 0))
    with pytest.raises(MarketError) as caught:
        partner_registration.check_room(waiting)
    assert caught.value.message == "Too many registration requests wait to be decided."


def test_a_reference_is_good_for_each_access_once_and_in_time() -> None:
    approved = replace(WAITS, state=RegistrationState.APPROVED, decided_at=NOW)
    certificate = RegistrationStep.CERTIFICATE_ISSUED
    partner_registration.take_access(approved, certificate, NOW)
    with pytest.raises(MarketError, check=NOT_NOW):
        partner_registration.take_access(
            replace(approved, certificate_issued=True), certificate, NOW
        )
    with pytest.raises(MarketError, check=NOT_NOW):
        partner_registration.take_access(WAITS, certificate, NOW)
    last = NOW + KEPT_AFTER_DECISION
    partner_registration.take_access(approved, certificate, last - timedelta(seconds=1))
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        partner_registration.take_access(approved, certificate, last)


def test_applicants_are_told_apart_by_address_and_are_no_partners() -> None:
    one = partner_registration.applicant_of("Ada@A.example")
    assert one == partner_registration.applicant_of("ada@a.EXAMPLE")
    assert one != partner_registration.applicant_of("bob@a.example")
    assert "/" in one.name
    assert "ada" not in one.name
    assert len(one.name) <= 64


_TEXTS = st.text("abc", min_size=1, max_size=3)
_IDENTIFIERS = st.frozensets(
    st.tuples(st.sampled_from([1, 2]), st.sampled_from(["DEAAA", "DEBBB", "DECCC"])), max_size=4
)
_ACCOUNTS: st.SearchStrategy[AccountData] = st.builds(
    AccountData,
    st.builds(lambda name, address: PartnerProfile(company_name=name, postal_address=address),
              _TEXTS, _TEXTS),
    st.frozensets(st.sampled_from([1, 2, 3]), min_size=1).map(lambda s: tuple(sorted(s))),
    _IDENTIFIERS.map(lambda found: tuple(sorted(found))),
)  # fmt: skip


def _identifiers(pairs: Any) -> list[OwnedIdentifier]:
    return [OwnedIdentifier(kind=kind, value=value) for kind, value in pairs]


@given(_ACCOUNTS, _ACCOUNTS)
def test_what_is_wanted_is_got_and_the_differences_say_what_that_is(
    old: AccountData, new: AccountData
) -> None:
    added = _identifiers(set(new.identifiers) - set(old.identifiers))
    removed = _identifiers(set(old.identifiers) - set(new.identifiers))
    if old == new:
        with pytest.raises(MarketError, check=INVALID):
            wanted(old, new.profile, new.roles, added, removed)
        assert differences(old, new) == ()
        return
    assert wanted(old, new.profile, new.roles, added, removed) == new
    changed: Mapping[str, Any] = {each.field: each for each in differences(old, new)}
    assert changed
    assert ("roles" in changed) == (old.roles != new.roles)
    assert ("identifiers" in changed) == (old.identifiers != new.identifiers)
    for field, back in ((each.field, each) for each in differences(new, old)):
        assert (back.old_values, back.new_values) == (
            changed[field].new_values,
            changed[field].old_values,
        )


def test_what_is_not_owned_cannot_be_removed_and_there_is_a_limit() -> None:
    old = AccountData(PartnerProfile(company_name="A"), (1,), ((1, "DEAAA"),))
    kind = IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID
    with pytest.raises(MarketError, check=INVALID):
        wanted(old, None, (), (), [OwnedIdentifier(kind=kind, value="DE*BBB")])
    many = [OwnedIdentifier(kind=kind, value=f"DE{number:03}") for number in range(100)]
    with pytest.raises(MarketError, check=INVALID):
        wanted(old, None, (), many, ())
    # Spelled otherwise it is the same identifier.
    same = [OwnedIdentifier(kind=kind, value="de*aaa")]
    assert wanted(old, None, (), (), same).identifiers == ()
