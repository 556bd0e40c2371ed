"""Proposals without storage: states, votes, uploads, likeness, findings and written sources."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_proposal_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.proposal import (
    OPEN,
    OPEN_MAX,
    PRIVATE,
    TRANSITIONS,
    Proposal,
    ProposalState,
    ProposalStep,
    VoteKind,
    check_may_propose,
    check_overruled,
    check_visible,
    take_step,
)
from marketplace.proposal_upload import (
    FILES_MAX,
    MESSAGES_MAX,
    UPLOAD_BYTES_MAX,
    Upload,
    read_upload,
)
from tests.control_plane import INTERFACE
from tests.interceptors.support import raises
from tests.proposals import upload

pytestmark = pytest.mark.usecase(1257)

AUTHOR, OTHER = Actor("author", is_partner=True), Actor("other", is_partner=True)
OPERATOR = Actor("technical", is_partner=False)
STATES, STEPS = st.sampled_from(ProposalState), st.sampled_from(ProposalStep)
ENDED = {ProposalState.REJECTED, ProposalState.PUBLISHED, ProposalState.WITHDRAWN}


def proposal(state: ProposalState = ProposalState.IN_REVIEW, **values: Any) -> Proposal:
    """Give a proposal of `author`."""
    known: dict[str, Any] = {
        "proposal_id": "p",
        "proposer_id": "author",
        "note": "",
        "state": state,
        "interface_names": (INTERFACE,),
        "title": "T",
        "category": "c",
        "findings": (),
        "digest": bytes(32),
        "decision_reason": "",
        "proposed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Proposal(**{**known, **values})


@given(STATES, STEPS)
def test_what_the_table_does_not_have_is_refused(state: ProposalState, step: ProposalStep) -> None:
    actor = OTHER if step is ProposalStep.VOTED else AUTHOR
    hidden = actor is OTHER and state in PRIVATE
    if (state, step) in TRANSITIONS and not hidden:
        assert take_step(proposal(state), step, actor) is TRANSITIONS[state, step]
        return
    reason = "NOT_FOUND" if hidden else "STATE_NOT_ALLOWED"
    wanted = ErrorReason.Value(f"ERROR_REASON_{reason}")
    with pytest.raises(MarketError, check=raises(wanted)):
        take_step(proposal(state), step, actor)


def test_what_has_ended_never_begins_again() -> None:
    assert {state for state, _ in TRANSITIONS}.isdisjoint(ENDED)
    assert OPEN.isdisjoint(ENDED | {ProposalState.INVALID})
    assert ProposalState.PUBLISHED not in {
        after for (before, _), after in TRANSITIONS.items() if before is not ProposalState.ACCEPTED
    }


def test_the_names_are_those_of_the_interface() -> None:
    for members, enum, prefix in (
        (ProposalState, interface_proposal_pb2.ProposalState, "PROPOSAL_STATE_"),
        (ProposalStep, interface_proposal_pb2.ProposalEventKind, "PROPOSAL_EVENT_KIND_"),
        (VoteKind, interface_proposal_pb2.ProposalVoteKind, "PROPOSAL_VOTE_KIND_"),
    ):
        names = [f"{prefix}{member.value}" for member in members]
        assert [f"{prefix}UNSPECIFIED", *names] == enum.keys()


@pytest.mark.parametrize(
    ("step", "actor"),
    [
        (ProposalStep.WITHDRAWN, OTHER),
        (ProposalStep.WITHDRAWN, OPERATOR),
        (ProposalStep.VOTED, AUTHOR),
    ],
)
def test_only_the_author_withdraws_and_only_others_vote(step: ProposalStep, actor: Actor) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        take_step(proposal(), step, actor)


@given(STATES)
def test_what_is_private_is_seen_by_author_and_operators(state: ProposalState) -> None:
    for actor in (AUTHOR, OPERATOR):
        check_visible(proposal(state), actor)
    if state not in PRIVATE:
        check_visible(proposal(state), OTHER)
        return
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        check_visible(proposal(state), OTHER)


@given(st.integers(0, 5), st.integers(0, 5))
def test_an_acceptance_names_the_votes_that_it_overrules(against: int, overruled: int) -> None:
    counted = proposal(votes_against=against)
    if against == overruled:
        check_overruled(counted, overruled)
        return
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        check_overruled(counted, overruled)


def test_undecided_proposals_of_one_partner_are_bounded() -> None:
    check_may_propose(OPEN_MAX - 1)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        check_may_propose(OPEN_MAX)


# Uploads.


async def read(messages: Iterable[catalog.ProposeInterfaceRequest]) -> Upload:
    """Read an upload as it comes in."""

    async def coming() -> AsyncIterator[catalog.ProposeInterfaceRequest]:
        for message in messages:
            yield message

    return await read_upload(coming())


def message(**part: Any) -> catalog.ProposeInterfaceRequest:
    """Give one message of an upload."""
    return catalog.ProposeInterfaceRequest(**{"request_id": "r", **part})


def piece(name: str, content: bytes = b"x") -> catalog.ProposeInterfaceRequest:
    """Give one piece of a source."""
    return message(source_part=catalog.SourcePart(name=name, content=content))


HEADER = message(header=catalog.ProposalHeader())


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "header"),
        ([piece("a.proto")], "header"),
        ([HEADER], "part"),
        ([HEADER, HEADER], "part"),
        ([HEADER, message()], "part"),
        ([HEADER, piece("a.proto"), message(descriptor_set_part=b"x")], "part"),
        ([HEADER, piece("a"), piece("b"), piece("a")], "source_part.name"),
        ([HEADER, message(request_id="s", descriptor_set_part=b"x")], "request_id"),
        (
            [message(header=catalog.ProposalHeader(content_digest=bytes(32))), piece("a")],
            "header.content_digest",
        ),
    ],
)
async def test_an_upload_out_of_order_is_refused(
    messages: list[catalog.ProposeInterfaceRequest], field: str
) -> None:
    with pytest.raises(MarketError) as caught:
        await read(messages)
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    "make",
    [
        lambda: [message(descriptor_set_part=bytes(250_000))] * (UPLOAD_BYTES_MAX // 250_000 + 1),
        lambda: [piece("a", b"")] * MESSAGES_MAX,
        lambda: [piece(f"{number}", b"") for number in range(FILES_MAX + 1)],
    ],
    ids=["bytes", "messages", "files"],
)
async def test_an_upload_without_end_is_cut_off(
    make: Callable[[], list[catalog.ProposeInterfaceRequest]],
) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE)):
        await read([HEADER, *make()])


async def test_pieces_make_the_files_again_however_they_are_cut() -> None:
    whole = {"a.proto": b"abcdefgh", "b.proto": b"", "c.proto": b"xyz"}
    digest = hashlib.sha256(b"abcdefghxyz").digest()
    commands = set()
    for size in (1, 3, 100):
        read_back = await read(upload(whole, "r", part_bytes=size))
        assert {name: bytes(text) for name, text in read_back.sources.items()} == whole
        assert list(read_back.sources) == list(whole)
        assert read_back.digest == digest
        commands.add(read_back.command().SerializeToString(deterministic=True))
    assert len(commands) == 1
    moved = await read(upload({"a.proto": b"abcdefg", "c.proto": b"hxyz"}, "r"))
    assert moved.digest == digest
    assert moved.command().SerializeToString(deterministic=True) not in commands
