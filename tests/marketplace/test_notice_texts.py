"""Whom notices of requests, proposals and users are for, and that they quote nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from marketplace.actor import Actor
from marketplace.notice import DEFAULT_PREFERENCES, OPERATORS_INBOX, Notice, NoticeKind
from marketplace.notice_proposal import concerns_all, proposal_notices, vote_notices
from marketplace.notice_service_request import change_notices, response_notices
from marketplace.notice_user import user_notices
from marketplace.proposal import Proposal, ProposalState, ProposalStep, VoteKind
from marketplace.proposal_findings import Finding
from marketplace.service_request import (
    RequestState,
    RequestStep,
    Response,
    ServiceRequest,
    Wish,
)
from marketplace.user import User, UserState, UserStep

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "told in confidence"
AUTHOR, OPERATOR = Actor("author", is_partner=True), Actor("tech", is_partner=False)
REQUEST = ServiceRequest(
    service_request_id="r-1",
    author_id="author",
    wish=Wish(SECRET, SECRET, SECRET, SECRET, "acme.v1.S", SECRET, (), SECRET, 1, None),
    valid_until=NOW + timedelta(days=1),
    kept_state=RequestState.OPEN,
    revision=4,
    created_at=NOW,
    changed_at=NOW,
)
PROPOSAL = Proposal(
    proposal_id="p-1",
    proposer_id="author",
    note=SECRET,
    state=ProposalState.IN_REVIEW,
    interface_names=("acme.v1.S", "acme.v1.T"),
    title=SECRET,
    category=SECRET,
    findings=(),
    digest=b"",
    decision_reason=SECRET,
    proposed_at=NOW,
)
USER = User("u-1", "volt", "ada", SECRET, (1,), UserState.ACTIVE, NOW)


def recipients(notices: tuple[Notice, ...]) -> list[str]:
    """Give whom notices are for; what they say is ours."""
    assert all(SECRET not in notice.title + notice.text for notice in notices)
    assert all(len(notice.title) <= 200 and len(notice.text) <= 4000 for notice in notices)
    return [notice.recipient_id for notice in notices]


#: What comes otherwise without a wish: who is not admitted yet, or never will be, has no inbox.
_OTHERWISE = {
    NoticeKind.PARTNER_REGISTERED: (True, True),
    NoticeKind.REGISTRATION_REFUSED: (False, True),
}


def test_every_kind_comes_into_the_inbox_and_not_by_mail_unless_it_is_wished() -> None:
    assert DEFAULT_PREFERENCES.keys() == set(NoticeKind)
    for kind, preference in DEFAULT_PREFERENCES.items():
        assert (preference.inbox, preference.email) == _OTHERWISE.get(kind, (True, False))


def test_no_partner_can_have_the_operators_inbox() -> None:
    assert "/" in OPERATORS_INBOX, "ids of partners are names of hosts"


@pytest.mark.parametrize("service_id", ["", "s-1"])
def test_a_response_is_told_to_the_author_with_the_service_it_names(service_id: str) -> None:
    response = Response("a-1", "r-1", "seller", SECRET, service_id, None, 4, NOW)
    notices = response_notices(REQUEST, response)
    assert recipients(notices) == ["author"]
    (notice,) = notices
    assert notice.kind is NoticeKind.SERVICE_REQUEST_RESPONDED
    assert (notice.sender_id, notice.service_id) == ("seller", service_id)
    assert ("s-1" in notice.text) is bool(service_id)
    assert "r-1" in notice.text


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (RequestStep.CHANGED, "changed"),
        (RequestStep.CLOSED, "closed"),
        (RequestStep.DELETED, "deleted"),
    ],
)
def test_responders_are_told_what_became_of_a_request(step: RequestStep, words: str) -> None:
    notices = change_notices(REQUEST, step, ["seller", "rival"], NOW)
    assert recipients(notices) == ["seller", "rival"]
    for notice in notices:
        assert notice.kind is NoticeKind.SERVICE_REQUEST_CHANGED
        assert words in notice.text
        assert "revision is 4" in notice.text
        assert notice.sender_id == "author"
    assert change_notices(REQUEST, step, [], NOW) == ()


@pytest.mark.parametrize(
    ("step", "kind", "to_operators", "to_all"),
    [
        (ProposalStep.FOUND_INVALID, NoticeKind.INTERFACE_PROPOSED, False, False),
        (ProposalStep.REVIEW_OPENED, NoticeKind.INTERFACE_PROPOSED, True, False),
        (ProposalStep.WITHDRAWN, NoticeKind.INTERFACE_PROPOSED, True, False),
        (ProposalStep.ACCEPTED, NoticeKind.INTERFACE_ACCEPTED, True, True),
        (ProposalStep.REJECTED, NoticeKind.INTERFACE_REJECTED, True, True),
    ],
)
def test_a_step_of_a_proposal_is_told_to_whom_it_concerns(
    step: ProposalStep, kind: NoticeKind, to_operators: bool, to_all: bool
) -> None:
    assert concerns_all(step) is to_all
    everybody = ["author", "other", "third"] if to_all else []
    notices = proposal_notices(PROPOSAL, step, OPERATOR, NOW, everybody)
    expected = {"author", *everybody} | ({OPERATORS_INBOX} if to_operators else set())
    assert sorted(expected) == recipients(notices)
    for notice in notices:
        assert notice.kind is kind
        assert notice.interface_name == "acme.v1.S"
        assert notice.sender_id == "", "which operator it was is not told"
        assert "p-1" in notice.text
        assert "tech" not in notice.text


@pytest.mark.parametrize("step", [ProposalStep.PROPOSED, ProposalStep.PUBLISHED])
def test_what_is_told_elsewhere_is_not_told_twice(step: ProposalStep) -> None:
    assert proposal_notices(PROPOSAL, step, AUTHOR, NOW, ["other"]) == ()
    assert not concerns_all(step)


def test_names_of_a_proposal_that_was_refused_are_not_shown() -> None:
    finding = Finding("a.proto", 1, "", "rule", "text")
    refused = replace(PROPOSAL, findings=(finding,))
    (notice,) = proposal_notices(refused, ProposalStep.FOUND_INVALID, AUTHOR, NOW)
    assert notice.interface_name == ""
    assert "acme" not in notice.text


@pytest.mark.parametrize("vote", VoteKind)
def test_a_vote_is_told_to_the_author_and_the_operators(vote: VoteKind) -> None:
    voter = Actor("other", is_partner=True, user_name="ada")
    notices = vote_notices(PROPOSAL, vote, voter, NOW)
    assert recipients(notices) == ["author", OPERATORS_INBOX]
    for notice in notices:
        assert notice.kind is NoticeKind.INTERFACE_PROPOSAL_VOTED
        assert notice.sender_id == "other"
        assert f"vote of other {vote.value.lower()} it" in notice.text
        assert "ada" not in notice.text, "the person is the partner's own matter"


@pytest.mark.parametrize("step", UserStep)
@pytest.mark.parametrize(
    ("actor", "by", "sender"),
    [
        ("volt:grace", "by user grace.", "volt"),
        ("volt", "by volt.", "volt"),
        ("operator/bob", "by an operator of the marketplace.", ""),
    ],
)
def test_a_step_of_a_user_is_told_to_its_partner(
    step: UserStep, actor: str, by: str, sender: str
) -> None:
    (notice,) = user_notices(USER, step, actor, NOW)
    assert recipients((notice,)) == ["volt"]
    assert notice.kind is NoticeKind.USER_CHANGED
    assert notice.text.startswith("User ada ")
    assert notice.text.endswith(by)
    assert notice.sender_id == sender


def test_steps_of_an_operator_are_told_to_the_operators() -> None:
    (notice,) = user_notices(replace(USER, partner_id=""), UserStep.DISABLED, "operator/bob", NOW)
    assert notice.recipient_id == OPERATORS_INBOX
