"""Who is told of proposals, publications and users, over a real database (1257, 1618)."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1 import interface_proposal_pb2 as proposals
from gem.marketplace.v1.notification_pb2 import NotificationKind
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, EVSP, TECHNICAL, ControlPlane
from tests.interceptors.support import raises
from tests.proposals import sources, upload
from tests.session_plane import ADMINISTRATOR, BUYER, VIEWER, SessionPlane
from tests.session_plane import TECHNICAL as TECHNICAL_ROLE

CATALOG = "InterfaceCatalogService"
NOTIFICATIONS = "NotificationService"
NAME = "acme.depot.v1.SlotService"


async def propose(plane: ControlPlane, files: Any = None) -> Any:
    """Propose the sample, or these files."""
    messages = upload(files or sources(), part_bytes=5_000)
    (response,) = await plane.send("author", f"{CATALOG}/ProposeInterface", *messages)
    return response.proposal


async def step(plane: ControlPlane, who: str, rpc: str, proposal: Any, **fields: Any) -> Any:
    """Take a proposal one step on."""
    proposal_id = proposal.proposal_id
    return await plane.ask(who, f"{CATALOG}/{rpc}", proposal_id=proposal_id, **fields)


async def inbox(plane: ControlPlane, who: str) -> list[Any]:
    """Give somebody's inbox, the oldest first."""
    found = await plane.ask(who, f"{NOTIFICATIONS}/ListNotifications")
    return list(reversed(found.notifications))


async def kinds(plane: ControlPlane, who: str) -> list[str]:
    """Give the kinds of what somebody was told of interfaces and users."""
    names = [NotificationKind.Name(each.kind)[18:] for each in await inbox(plane, who)]
    return [name for name in names if not name.startswith("PARTNER")]


@pytest.fixture
async def market(plane: ControlPlane) -> ControlPlane:
    """Give a market with an author, another partner, and one that is not active any more."""
    for partner_id in ("author", "other", "gone"):
        await plane.partner(partner_id, EVSP)
    await plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id="gone")
    return plane


@pytest.mark.usecase(1257)
async def test_a_proposal_and_its_votes_are_told_to_author_and_operators_its_outcome_to_all(
    market: ControlPlane,
) -> None:
    proposal = await propose(market)
    vote = {"kind": proposals.PROPOSAL_VOTE_KIND_FOR, "comment": "A secret of mine."}
    await step(market, "other", "VoteOnProposal", proposal, **vote)
    first = ["INTERFACE_PROPOSED", "INTERFACE_PROPOSAL_VOTED"]
    for who in ("author", TECHNICAL, BUSINESS):
        assert await kinds(market, who) == first
    assert await kinds(market, "other") == []
    await step(market, TECHNICAL, "AcceptProposal", proposal, reason="Good.")
    await step(market, TECHNICAL, "PublishProposal", proposal)
    assert await kinds(market, "other") == ["INTERFACE_ACCEPTED", "INTERFACE_PUBLISHED"]
    assert await kinds(market, "author") == [*first, "INTERFACE_ACCEPTED", "INTERFACE_PUBLISHED"]
    assert await kinds(market, TECHNICAL) == [*first, "INTERFACE_ACCEPTED"]
    accepted = (await inbox(market, "other"))[-2]
    assert accepted.interface_name == NAME
    assert proposal.proposal_id in accepted.text
    voted = (await inbox(market, "author"))[-3]
    assert voted.sender_id == "other"
    assert "vote of other for it" in voted.text
    assert "secret" not in voted.text


@pytest.mark.usecase(1257)
async def test_a_rejection_is_told_to_all_and_what_was_never_open_to_its_author(
    market: ControlPlane,
) -> None:
    await propose(market, {"a.proto": b"no proto"})
    assert await kinds(market, "author") == ["INTERFACE_PROPOSED"]
    assert (await inbox(market, "author"))[-1].title == "Interface found invalid"
    assert await kinds(market, TECHNICAL) == []
    rejected = await propose(market)
    reason = "Too much like another."
    await step(market, TECHNICAL, "RejectProposal", rejected, reason=reason)
    assert await kinds(market, "other") == ["INTERFACE_REJECTED"]
    assert reason not in (await inbox(market, "other"))[-1].text
    withdrawn = await propose(market)
    await step(market, "author", "WithdrawProposal", withdrawn)
    assert [each.title for each in await inbox(market, TECHNICAL)] == [
        "Interface proposed",
        "Interface rejected",
        "Interface proposed",
        "Interface taken back",
    ]
    assert await kinds(market, "other") == ["INTERFACE_REJECTED"]


@pytest.mark.usecase(1257)
async def test_a_step_that_is_refused_or_repeated_is_not_told_again(market: ControlPlane) -> None:
    proposal = await propose(market)
    for _ in range(2):
        again = {"reason": "r", "request_id": "once"}
        await step(market, TECHNICAL, "RejectProposal", proposal, **again)
    with pytest.raises(MarketError):
        await step(market, TECHNICAL, "AcceptProposal", proposal, reason="r")
    assert await kinds(market, "other") == ["INTERFACE_REJECTED"]


@pytest.mark.usecase(1493)
async def test_a_publication_is_told_to_all_active_partners_unless_they_do_not_want_it(
    market: ControlPlane,
) -> None:
    preference = {"kind": NotificationKind.NOTIFICATION_KIND_INTERFACE_PUBLISHED}
    method = f"{NOTIFICATIONS}/SetNotificationPreference"
    await market.ask("other", method, preference=preference)
    await market.publish_interface()
    assert await kinds(market, "author") == ["INTERFACE_PUBLISHED"]
    assert await kinds(market, "other") == []
    await market.ask(BUSINESS, "PartnerService/ActivatePartner", partner_id="gone")
    assert await kinds(market, "gone") == []


async def test_operators_share_an_inbox_that_no_partner_reads_and_that_sends_no_mail(
    market: ControlPlane,
) -> None:
    await market.partner("business", EVSP)
    await propose(market)
    assert await kinds(market, "business") == []
    (notice,) = await inbox(market, TECHNICAL)
    marked = {"first_sequence": notice.sequence, "last_sequence": notice.sequence}
    method = f"{NOTIFICATIONS}/MarkNotificationsRead"
    assert (await market.ask(BUSINESS, method, **marked)).marked_count == 1
    assert (await inbox(market, TECHNICAL))[0].HasField("read_time")
    kind = NotificationKind.NOTIFICATION_KIND_INTERFACE_PROPOSED
    preference = {"kind": kind, "inbox": True, "email": True}
    method = f"{NOTIFICATIONS}/SetNotificationPreference"
    refused = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
    with pytest.raises(MarketError, check=refused):
        await market.ask(TECHNICAL, method, preference=preference)
    await market.ask(TECHNICAL, method, preference={"kind": kind})
    await propose(market)
    assert len(await inbox(market, BUSINESS)) == 1


@pytest.mark.usecase(1618)
async def test_a_partner_is_told_what_happens_to_its_users(plane: ControlPlane) -> None:
    people = SessionPlane(plane)
    for partner_id in ("volt", "watt"):
        await plane.partner(partner_id, EVSP)
    token = await people.user("volt", "ada", ADMINISTRATOR)
    await people.created("volt", "bob", BUYER, token=token)
    name = {"user_name": "bob"}
    await people.ask("SetUserRoles", token, roles=[VIEWER], **name)
    await people.ask("CreateOneTimeLink", token, **name)
    await people.ask("DisableUser", token, **name)
    await people.ask("EnableUser", token, **name)
    told = [each for each in await inbox(plane, "volt") if each.title == "User changed"]
    assert [each.text for each in told] == [
        "User ada was created, by an operator of the marketplace.",
        "User ada has set a password, by user ada.",
        "User bob was created, by user ada.",
        "User bob has other roles, by user ada.",
        "User bob was given a link for a password, by user ada.",
        "User bob was disabled, by user ada.",
        "User bob was enabled, by user ada.",
    ]
    assert [each.sender_id for each in told] == ["", *["volt"] * 6]
    assert "USER_CHANGED" not in await kinds(plane, "watt")
    await people.user("", "grace", TECHNICAL_ROLE)
    texts = [each.text for each in await inbox(plane, BUSINESS)]
    by = "by an operator of the marketplace."
    assert texts == [f"User grace was created, {by}", f"User grace has set a password, {by}"]
