"""The states of a partner's account, apart from any storage."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.partner import (
    CERTIFICATES_MAX,
    TRANSITIONS,
    Partner,
    PartnerState,
    activate,
    check_active,
    check_may_have_certificate,
    check_not_deleted,
    check_partner_contract,
    check_revision,
    delete,
    inactivate,
)
from tests.interceptors.support import raises

NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)


@pytest.mark.usecase(1374)
@pytest.mark.parametrize("version", [0, 1, 3])
def test_any_but_the_current_partner_contract_is_refused(version: int) -> None:
    check_partner_contract(2, 2)
    with pytest.raises(MarketError) as caught:
        check_partner_contract(version, 2)
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert caught.value.metadata == {"current_version": "2"}


@pytest.mark.usecase(1379)
def test_an_active_partner_cannot_be_activated() -> None:
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        activate(PartnerState.ACTIVE)


@pytest.mark.usecase(1380)
@pytest.mark.parametrize("state", [PartnerState.REGISTERED, PartnerState.INACTIVE])
def test_only_an_active_partner_can_be_inactivated(state: PartnerState) -> None:
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        inactivate(state, [], 0)


@pytest.mark.usecase(1380)
def test_inactivation_is_refused_with_the_contracts_in_the_way() -> None:
    with pytest.raises(MarketError, check=NOT_ALLOWED) as caught:
        inactivate(PartnerState.ACTIVE, ["c-1", "c-2"], 41)
    assert caught.value.details == (BlockingContracts(contract_ids=["c-1", "c-2"]),)
    assert caught.value.metadata == {"contracts": "41"}


def test_an_inactive_partner_gets_no_certificate() -> None:
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        check_may_have_certificate(PartnerState.INACTIVE, 0)


def test_the_number_of_valid_certificates_is_limited() -> None:
    check_may_have_certificate(PartnerState.REGISTERED, CERTIFICATES_MAX - 1)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        check_may_have_certificate(PartnerState.ACTIVE, CERTIFICATES_MAX)


def test_who_is_not_active_is_told_so() -> None:
    partner = Partner("acme", PartnerState.INACTIVE, (), 1, datetime.now(UTC))
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE)):
        check_active(partner)


@given(st.lists(st.sampled_from(["activate", "inactivate"]), max_size=20))
def test_whatever_is_tried_only_the_table_moves_the_state(steps: list[str]) -> None:
    state = PartnerState.REGISTERED
    for step in steps:
        try:
            after = activate(state) if step == "activate" else inactivate(state, [], 0)
        except MarketError:
            continue
        assert after in {to for (start, _), to in TRANSITIONS.items() if start == state}
        assert (after is PartnerState.ACTIVE) == (step == "activate")
        state = after


@pytest.mark.parametrize("state", [PartnerState.REGISTERED, PartnerState.ACTIVE])
def test_only_an_inactive_partner_can_be_deleted(state: PartnerState) -> None:
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        delete(state)
    assert delete(PartnerState.INACTIVE) is PartnerState.DELETED


def test_from_a_deleted_account_no_step_leads_anywhere() -> None:
    for step in (activate, delete):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            step(PartnerState.DELETED)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        inactivate(PartnerState.DELETED, [], 0)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        check_may_have_certificate(PartnerState.DELETED, 0)
    assert not [start for start, _ in TRANSITIONS if start is PartnerState.DELETED]


@pytest.mark.parametrize("state", PartnerState)
def test_what_leaves_the_state_as_it_is_is_refused_after_a_deletion_only(
    state: PartnerState,
) -> None:
    partner = Partner("acme", state, (), 1, datetime.now(UTC))
    if state is not PartnerState.DELETED:
        check_not_deleted(partner)
        return
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        check_not_deleted(partner)


@pytest.mark.usecase(1376, 1378)
@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_change_for_another_revision_is_refused_with_the_one_there_is(
    there: int, meant: int
) -> None:
    partner = Partner("acme", PartnerState.ACTIVE, (), 1, datetime.now(UTC), there)
    if there == meant:
        check_revision(partner, meant)
        return
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_CONFLICT)) as caught:
        check_revision(partner, meant)
    assert caught.value.metadata == {"revision": str(there)}
