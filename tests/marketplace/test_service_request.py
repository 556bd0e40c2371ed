"""Requests for new services without a database: states, who may do what, what time does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1 import service_request_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.service_request import (
    OPEN_MAX,
    RESPONSES_MAX,
    RESPONSES_OF_ONE_MAX,
    TRANSITIONS,
    VALIDITY_MAX,
    RequestState,
    RequestStep,
    ServiceRequest,
    Wish,
    check_may_open,
    check_may_respond,
    check_revision,
    check_validity,
    check_visible,
    sees_responses,
    take_step,
)
from marketplace.service_request_rendering import read_wish, render_request, render_wish
from tests.interceptors.support import raises

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUTHOR, OTHER = Actor("author", is_partner=True), Actor("other", is_partner=True)
OPERATOR = Actor("author", is_partner=False)
WISH = Wish("Title", "Text", "", "", "", "parking", ("DE", "FR"), "Alps", 1000, NOW)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
HIDDEN = raises(ErrorReason.ERROR_REASON_NOT_FOUND)


def request_in(state: RequestState) -> ServiceRequest:
    """Give a request that stands so at NOW."""
    expired = state is RequestState.EXPIRED
    return ServiceRequest(
        service_request_id="r",
        author_id="author",
        wish=WISH,
        valid_until=NOW if expired else NOW + timedelta(days=1),
        kept_state=RequestState.OPEN if expired else state,
        revision=3,
        created_at=NOW,
        changed_at=NOW,
        response_count=2,
    )


@pytest.mark.parametrize("step", RequestStep)
@pytest.mark.parametrize("state", RequestState)
def test_a_step_that_the_table_does_not_have_is_refused(
    state: RequestState, step: RequestStep
) -> None:
    actor = OTHER if step is RequestStep.RESPONDED else AUTHOR
    request = request_in(state)
    if (state, step) in TRANSITIONS:
        assert take_step(request, step, actor, NOW) is TRANSITIONS[state, step]
        return
    # To others a deleted request is not there at all.
    hidden = state is RequestState.DELETED and actor is OTHER
    with pytest.raises(MarketError, check=HIDDEN if hidden else NOT_ALLOWED):
        take_step(request, step, actor, NOW)


@given(st.sampled_from(RequestStep), st.sampled_from(RequestState))
def test_nobody_but_the_author_changes_and_nobody_but_others_respond(
    step: RequestStep, state: RequestState
) -> None:
    wrong = AUTHOR if step is RequestStep.RESPONDED else OTHER
    hidden = state is RequestState.DELETED and wrong is OTHER
    with pytest.raises(MarketError, check=HIDDEN if hidden else FORBIDDEN):
        take_step(request_in(state), step, wrong, NOW)


def test_nothing_leads_out_of_deleted() -> None:
    assert not [step for state, step in TRANSITIONS if state is RequestState.DELETED]
    assert RequestState.EXPIRED not in TRANSITIONS.values()


@given(st.integers(-(10**6), 10**6))
def test_the_instant_expires_a_request_and_nothing_else(microseconds: int) -> None:
    request = request_in(RequestState.OPEN)
    at = request.valid_until + timedelta(microseconds=microseconds)
    expected = RequestState.OPEN if microseconds < 0 else RequestState.EXPIRED
    assert request.state_at(at) is expected
    closed = replace(request, kept_state=RequestState.CLOSED)
    assert closed.state_at(at) is RequestState.CLOSED


def test_a_deleted_request_is_seen_by_its_author_and_operators_only() -> None:
    deleted = request_in(RequestState.DELETED)
    for actor in (AUTHOR, OPERATOR):
        check_visible(deleted, actor)
    with pytest.raises(MarketError, check=HIDDEN):
        check_visible(deleted, OTHER)
    for state in (RequestState.OPEN, RequestState.CLOSED, RequestState.EXPIRED):
        check_visible(request_in(state), OTHER)


def test_responses_are_seen_by_the_author_and_operators() -> None:
    request = request_in(RequestState.OPEN)
    assert sees_responses(request, AUTHOR)
    assert sees_responses(request, OPERATOR)
    assert not sees_responses(request, OTHER)


@pytest.mark.parametrize("revision", [1, 2, 4])
def test_a_change_of_another_revision_is_a_conflict(revision: int) -> None:
    request = request_in(RequestState.OPEN)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_CONFLICT)):
        check_revision(request, revision)
    for read in (0, 3):
        check_revision(request, read)


@pytest.mark.parametrize(
    "ahead",
    [timedelta(0), -timedelta(days=1), VALIDITY_MAX + timedelta(microseconds=1)],
    ids=["now", "before", "far ahead"],
)
def test_a_request_is_valid_for_a_time_ahead(ahead: timedelta) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        check_validity(NOW + ahead, NOW)
    check_validity(NOW + timedelta(microseconds=1), NOW)
    check_validity(NOW + VALIDITY_MAX, NOW)


def test_open_requests_and_responses_are_bounded() -> None:
    check_may_open(OPEN_MAX - 1)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        check_may_open(OPEN_MAX)
    check_may_respond(RESPONSES_MAX - 1, RESPONSES_OF_ONE_MAX - 1)
    for counts in ((RESPONSES_MAX, 0), (0, RESPONSES_OF_ONE_MAX)):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            check_may_respond(*counts)


def test_a_wish_comes_back_from_the_wire_as_it_was() -> None:
    assert read_wish(render_wish(WISH)) == WISH
    bare = replace(WISH, wished_start_at=None, country_codes=())
    assert read_wish(render_wish(bare)) == bare


def test_how_many_responded_is_told_to_whom_it_concerns() -> None:
    request = request_in(RequestState.EXPIRED)
    for actor, shown in ((AUTHOR, True), (OPERATOR, True), (OTHER, False)):
        rendered = render_request(request, actor, NOW)
        assert rendered.HasField("response_count") is shown
        assert rendered.state == wire.SERVICE_REQUEST_STATE_EXPIRED
    in_list = render_request(request, OTHER, NOW, in_list=True)
    assert in_list.wish.title == "Title"
    assert in_list.wish.description == ""
