"""Proposals over a real database: repetitions, races, what others see, what never changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.errors import MarketError
from gem.marketplace.v1 import interface_proposal_pb2 as proposals
from gem.marketplace.v1.interface_pb2 import INTERFACE_LABEL_CURRENT, INTERFACE_LABEL_DEPRECATED
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.proposal import OPEN_MAX
from tests.control_plane import EVSP, TECHNICAL, ControlPlane
from tests.interceptors.support import raises
from tests.proposals import sources, upload

pytestmark = pytest.mark.usecase(1257)

CATALOG = "InterfaceCatalogService"
NAME = "acme.depot.v1.SlotService"


async def propose(
    plane: ControlPlane, who: str = "author", request_id: str = "", **values: Any
) -> Any:
    """Propose the sample, or what `values` make of it."""
    messages = upload(sources(**values), request_id, part_bytes=5_000)
    (response,) = await plane.send(who, f"{CATALOG}/ProposeInterface", *messages)
    return response.proposal


async def step(plane: ControlPlane, who: str, rpc: str, proposal: Any, **fields: Any) -> Any:
    """Take a proposal one step on."""
    if rpc in ("AcceptProposal", "RejectProposal"):
        fields.setdefault("reason", "Because.")
    proposal_id = proposal.proposal_id
    return await plane.ask(who, f"{CATALOG}/{rpc}", proposal_id=proposal_id, **fields)


async def published(plane: ControlPlane, **values: Any) -> Any:
    """Propose, accept and publish."""
    proposal = await propose(plane, **values)
    await step(plane, TECHNICAL, "AcceptProposal", proposal)
    return await step(plane, TECHNICAL, "PublishProposal", proposal)


async def kinds(plane: ControlPlane, proposal: Any) -> list[str]:
    """Give the history of a proposal."""
    found = await step(plane, "author", "ListProposalEvents", proposal)
    return [proposals.ProposalEventKind.Name(each.kind)[20:] for each in found.events]


@pytest.fixture
async def market(plane: ControlPlane) -> ControlPlane:
    """Give a market with an author and another partner."""
    await plane.partner("author", EVSP)
    await plane.partner("other", EVSP)
    return plane


async def test_a_repeated_upload_gives_the_first_result_and_another_under_its_id_is_refused(
    market: ControlPlane,
) -> None:
    first = await propose(market, request_id="once")
    assert await propose(market, request_id="once") == first
    assert await kinds(market, first) == ["PROPOSED", "REVIEW_OPENED"]
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)):
        await propose(market, request_id="once", text_length=7)


async def test_one_of_two_conflicting_steps_wins_and_the_history_is_one_line(
    market: ControlPlane,
) -> None:
    proposal = await propose(market)
    outcomes = await asyncio.gather(
        step(market, TECHNICAL, "AcceptProposal", proposal),
        step(market, TECHNICAL, "RejectProposal", proposal),
        step(market, "author", "WithdrawProposal", proposal),
        return_exceptions=True,
    )
    refused = [each for each in outcomes if isinstance(each, MarketError)]
    assert all(each.reason == ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED for each in refused)
    history = await kinds(market, proposal)
    assert history[:2] == ["PROPOSED", "REVIEW_OPENED"]
    assert len(history) == 2 + len(outcomes) - len(refused)
    # An accepted one may still be rejected or withdrawn; what has ended stays so.
    assert history[2:] in (
        ["REJECTED"],
        ["WITHDRAWN"],
        ["ACCEPTED", "REJECTED"],
        ["ACCEPTED", "WITHDRAWN"],
    )


async def test_a_vote_and_an_acceptance_at_once_leave_nobody_overruled_unseen(
    market: ControlPlane,
) -> None:
    proposal = await propose(market)
    against = proposals.PROPOSAL_VOTE_KIND_AGAINST
    outcomes: Sequence[Any] = await asyncio.gather(
        step(market, TECHNICAL, "AcceptProposal", proposal),
        step(market, "other", "VoteOnProposal", proposal, kind=against),
        return_exceptions=True,
    )
    assert sum(isinstance(each, MarketError) for each in outcomes) == 1
    assert (await kinds(market, proposal))[2:] in (["ACCEPTED"], ["VOTED"])


async def test_of_two_equal_proposals_one_is_published(market: ControlPlane) -> None:
    one = await propose(market)
    other = await propose(market, "other", package="rival.yard.v1")
    for proposal in (one, other):
        assert list(proposal.findings) == []
        await step(market, TECHNICAL, "AcceptProposal", proposal)
    outcomes: Sequence[Any] = await asyncio.gather(
        *(step(market, TECHNICAL, "PublishProposal", each) for each in (one, other)),
        return_exceptions=True,
    )
    (refused,) = [each for each in outcomes if isinstance(each, MarketError)]
    assert refused.reason in {
        ErrorReason.ERROR_REASON_CONFLICT,
        ErrorReason.ERROR_REASON_INTERFACE_INVALID,
    }
    (loser,) = [
        each
        for each, outcome in zip((one, other), outcomes, strict=True)
        if isinstance(outcome, MarketError)
    ]
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_INTERFACE_INVALID)):
        await step(market, TECHNICAL, "PublishProposal", loser)
    listed = await market.ask("other", f"{CATALOG}/ListInterfaces")
    assert len(listed.interfaces) == 1


async def test_undecided_proposals_of_one_partner_are_bounded(market: ControlPlane) -> None:
    proposal = await propose(market)
    copies = text(
        "INSERT INTO marketplace.interface_proposal (proposal_id, proposer_id, note, state,"
        " interface_names, title, category, findings, descriptor_set, digest, proposed_at)"
        " SELECT 'copy-' || n, proposer_id, note, state, interface_names, title, category,"
        " findings, descriptor_set, digest, proposed_at"
        " FROM marketplace.interface_proposal, generate_series(2, :most) n"
    )
    async with market.engine.begin() as connection:
        await connection.execute(copies, {"most": OPEN_MAX})
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        await propose(market, text_length=5)
    await step(market, "author", "WithdrawProposal", proposal)
    assert list((await propose(market, text_length=5)).findings) == []


async def test_others_do_not_see_what_is_invalid_or_withdrawn(market: ControlPlane) -> None:
    invalid = await propose(market, service="Slots")
    withdrawn = await propose(market)
    await step(market, "author", "WithdrawProposal", withdrawn)
    for proposal in (invalid, withdrawn):
        for rpc in ("GetProposal", "ListProposalEvents", "DescribeProposal", "ListProposalVotes"):
            with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
                await step(market, "other", rpc, proposal)
    seen = {
        who: len((await market.ask(who, f"{CATALOG}/ListProposals")).proposals)
        for who in ("other", "author", TECHNICAL)
    }
    assert seen == {"other": 0, "author": 2, TECHNICAL: 2}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE marketplace.interface_version SET title = 'x'",
        "DELETE FROM marketplace.interface_version",
        "UPDATE marketplace.interface_publication SET digest = sha256('x')",
        "UPDATE marketplace.interface_proposal SET descriptor_set = ''",
        "DELETE FROM marketplace.interface_proposal_event",
        "UPDATE marketplace.interface_label_event SET version = 9",
    ],
)
@pytest.mark.usecase(1493)
async def test_what_is_published_or_has_happened_never_changes(
    market: ControlPlane, statement: str
) -> None:
    await published(market)
    with pytest.raises(DBAPIError, match="never changes"):
        async with market.engine.begin() as connection:
            await connection.execute(text(statement))


@pytest.mark.usecase(1493)
async def test_labels_move_and_never_contradict_each_other(market: ControlPlane) -> None:
    await published(market)
    label = f"{CATALOG}/LabelInterface"
    only = {"interface_name": NAME, "version": 1}
    for wrong in (INTERFACE_LABEL_CURRENT, INTERFACE_LABEL_DEPRECATED):
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
            await market.ask(TECHNICAL, label, **only, label=wrong)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await market.ask(
            TECHNICAL, label, interface_name=NAME, version=2, label=INTERFACE_LABEL_CURRENT
        )
    await published(market, text_length=200)
    when = {"seconds": 2_000_000_000}
    old = await market.ask(
        TECHNICAL, label, **only, label=INTERFACE_LABEL_DEPRECATED, effective_time=when
    )
    assert old.interface.deprecate_time.seconds == when["seconds"]
    assert not old.interface.current
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        await market.ask(TECHNICAL, label, **only, label=INTERFACE_LABEL_CURRENT)
    unlabelled = await market.ask(TECHNICAL, f"{CATALOG}/UnlabelInterface", **only)
    assert not unlabelled.interface.HasField("deprecate_time")
    back = await market.ask(TECHNICAL, label, **only, label=INTERFACE_LABEL_CURRENT)
    assert back.interface.current
    newest = await market.ask("other", f"{CATALOG}/GetInterface", interface_name=NAME)
    assert (newest.interface.version, newest.interface.current) == (2, False)
