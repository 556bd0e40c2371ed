"""What partners and applicants are told about accounts, apart from any storage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.notice import DEFAULT_PREFERENCES, NoticeKind
from marketplace.partner import Partner, PartnerState
from marketplace.partner_change import ChangeKind, ChangeState, PartnerChange
from marketplace.partner_contract import ContractVersion, first_contract
from marketplace.partner_notice import (
    change_notice,
    contract_published_notices,
    decided_notice,
    person_notice,
)
from marketplace.partner_registration import Registration, RegistrationState
from marketplace.partner_rendering import (
    render_change,
    render_contract,
    render_partner,
    render_registration,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = Registration("r-1", "acme", RegistrationState.REQUESTED, (1,), (), 1, NOW)
CHANGE = PartnerChange(
    "c-1", "acme", ChangeKind.ACCOUNT_DATA, ChangeState.REQUESTED, 3, "secret note", "", NOW
)
PARTNER = Partner("acme", PartnerState.ACTIVE, (1, 2), 1, NOW, 7)


def test_an_approval_is_told_to_the_partner_and_a_refusal_to_the_applicant() -> None:
    approved = decided_notice(replace(REQUEST, state=RegistrationState.APPROVED), NOW)
    assert (approved.recipient_id, approved.kind) == ("acme", NoticeKind.PARTNER_REGISTERED)
    assert "once each" in approved.text
    refused = replace(REQUEST, state=RegistrationState.REFUSED, decision_reason="In no register.")
    told = decided_notice(refused, NOW)
    assert (told.recipient_id, told.kind) == ("applicant/r-1", NoticeKind.REGISTRATION_REFUSED)
    assert told.text.endswith("In no register.")
    for notice in (approved, told):
        assert DEFAULT_PREFERENCES[notice.kind].email, "who has no inbox gets a letter"


@given(st.text(min_size=1, max_size=2000))
def test_the_longest_reason_fits_into_a_notification(reason: str) -> None:
    refused = replace(REQUEST, state=RegistrationState.REFUSED, decision_reason=reason)
    assert len(decided_notice(refused, NOW).text) <= 4000
    change = replace(CHANGE, state=ChangeState.REFUSED, decision_reason=reason)
    assert len(change_notice(change, NOW).text) <= 4000


def test_a_partner_is_told_what_became_of_its_change_and_nothing_of_its_content() -> None:
    approved = change_notice(replace(CHANGE, state=ChangeState.APPROVED), NOW)
    assert (approved.recipient_id, approved.kind) == ("acme", NoticeKind.PARTNER_CHANGED)
    refused = change_notice(replace(CHANGE, state=ChangeState.REFUSED, decision_reason="No."), NOW)
    assert refused.kind is NoticeKind.PARTNER_CHANGE_REFUSED
    assert refused.text.endswith("No.")
    for notice in (approved, refused):
        assert "c-1" in notice.text
        assert "secret" not in notice.text
        assert len(notice.title) <= 200


def test_a_new_person_is_told_of_without_a_name() -> None:
    notice = person_notice(PARTNER, NOW)
    assert (notice.recipient_id, notice.kind) == ("acme", NoticeKind.PARTNER_CHANGED)
    assert notice.text == "The responsible person of partner acme was changed."


def test_each_partner_is_told_once_of_a_version() -> None:
    notices = contract_published_notices(2, ["acme", "volt"], NOW)
    assert [notice.recipient_id for notice in notices] == ["acme", "volt"]
    assert {notice.kind for notice in notices} == {NoticeKind.PARTNER_CONTRACT_PUBLISHED}
    assert all(notice.text.startswith("Version 2 of the partner contract") for notice in notices)
    assert contract_published_notices(2, [], NOW) == ()


def test_the_first_contract_comes_with_the_marketplace_and_is_whole() -> None:
    first = first_contract()
    assert (first.version, first.published_at) == (1, None)
    assert first.text.startswith("Between the operator of this marketplace")
    assert [f"\n{number}. " in f"\n{first.text}" for number in range(1, 11)] == [True] * 10
    assert max(map(len, first.text.splitlines())) <= 100
    rendered = render_contract(first)
    assert not rendered.HasField("publish_time")
    later = render_contract(ContractVersion(2, "Second", "", NOW))
    assert (later.version, later.publish_time.ToDatetime(tzinfo=UTC)) == (2, NOW)


@pytest.mark.parametrize("state", PartnerState)
def test_a_rendered_partner_has_no_personal_data_in_any_state(state: PartnerState) -> None:
    rendered = render_partner(replace(PARTNER, state=state), [])
    assert rendered.partner_id == "acme"
    assert rendered.revision == 7
    assert not rendered.HasField("profile")
    assert list(rendered.roles) == [1, 2]


@pytest.mark.parametrize("state", RegistrationState)
def test_a_rendered_request_shows_when_it_was_decided(state: RegistrationState) -> None:
    decided_at = None if state is RegistrationState.REQUESTED else NOW
    rendered = render_registration(replace(REQUEST, state=state, decided_at=decided_at))
    assert rendered.HasField("decide_time") == (decided_at is not None)
    assert not rendered.HasField("profile")


@pytest.mark.parametrize("state", ChangeState)
@pytest.mark.parametrize("revision", [3, 4])
def test_only_a_request_that_waits_can_be_outdated(state: ChangeState, revision: int) -> None:
    decided_at = None if state is ChangeState.REQUESTED else NOW
    change = replace(CHANGE, state=state, decided_at=decided_at)
    rendered = render_change(change, revision)
    assert rendered.outdated == (state is ChangeState.REQUESTED and revision != 3)
    assert rendered.note == ""
    assert not rendered.field_changes
