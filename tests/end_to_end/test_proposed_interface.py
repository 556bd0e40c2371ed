"""A partner's own standard, from its sources to the first call, over mutual TLS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc import StatusCode, aio

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_pb2
from gem.marketplace.v1 import interface_proposal_pb2 as proposals
from gemarket.administration import new_request_id
from gemarket.client import ReflectionClient
from tests.end_to_end.charging import reason_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket
from tests.proposals import file_of, sources, upload

#: Each test's interface has another length of its texts: equal ones are refused.
_numbers = itertools.count(1)


class Draft:
    """An interface that no other test has."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.package = f"acme.slots{'abcdefghkm'[self.number]}.v1"
        self.interface = f"{self.package}.SlotService"
        self.files = sources(self.package, text_length=self.number * 10)


async def propose(party: Party, messages: Iterator[catalog.ProposeInterfaceRequest]) -> Any:
    """Send an upload; gives the proposal."""
    return (await party.core.catalog.ProposeInterface(messages, timeout=30)).proposal


async def vote(party: Party, proposal: Any, kind: proposals.ProposalVoteKind.ValueType) -> Any:
    """Vote on a proposal."""
    request = catalog.VoteOnProposalRequest(
        request_id=new_request_id(), proposal_id=proposal.proposal_id, kind=kind, comment="Seen."
    )
    return (await party.core.catalog.VoteOnProposal(request, timeout=10)).proposal


def acceptance(proposal: Any, overruled: int = 0) -> catalog.AcceptProposalRequest:
    """Accept a proposal."""
    return catalog.AcceptProposalRequest(
        request_id=new_request_id(),
        proposal_id=proposal.proposal_id,
        reason="It fits.",
        overruled_votes_count=overruled,
    )


def publication(proposal: Any) -> catalog.PublishProposalRequest:
    """Publish a proposal."""
    return catalog.PublishProposalRequest(
        request_id=new_request_id(), proposal_id=proposal.proposal_id
    )


async def published(whole: WholeMarket, draft: Draft, author: Party) -> Any:
    """Bring a draft into the catalogue; gives the answer of the publication."""
    proposal = await propose(author, upload(draft.files))
    assert list(proposal.findings) == []
    operator = whole.technical.core.catalog
    await operator.AcceptProposal(acceptance(proposal), timeout=10)
    return await operator.PublishProposal(publication(proposal), timeout=20)


def pool_of(files: bytes) -> descriptor_pool.DescriptorPool:
    """Load a descriptor set."""
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(files).file:
        pool.Add(file)
    return pool


def broken(files: dict[str, bytes], old: bytes, new: bytes) -> Iterator[Any]:
    """Spoil the sources and give their upload."""
    assert all(old in content for content in files.values())
    return upload({name: content.replace(old, new) for name, content in files.items()})


@pytest.mark.usecase(1257)
@pytest.mark.parametrize(
    ("old", "new", "rule", "line"),
    [
        (b"repeated Slot slots", b"repeated Slod slots", "protoc", 34),
        (b"MERGE_RULE_CONCAT", b"MERGE_RULE_SUM", "merge.rule", 34),
        (b"SlotService", b"Slots", "buf.SERVICE_SUFFIX", 13),
        (b"// A slot.", b"", "buf.COMMENT_MESSAGE", 47),
    ],
    ids=["does not compile", "merge rule", "name", "comment"],
)
async def test_what_breaks_a_rule_is_invalid_by_file_line_and_rule(
    whole: WholeMarket, old: bytes, new: bytes, rule: str, line: int
) -> None:
    author, package = await whole.requester(), "acme.broken.v1"
    proposal = await propose(author, broken(sources(package), old, new))
    assert proposal.state == proposals.PROPOSAL_STATE_INVALID
    found = {(each.file, each.line_number, each.rule) for each in proposal.findings}
    assert (file_of(package), line, rule) in found
    with pytest.raises(aio.AioRpcError) as refused:
        await whole.technical.core.catalog.AcceptProposal(acceptance(proposal), timeout=10)
    assert reason_of(refused.value) == "STATE_NOT_ALLOWED"
    stranger = await whole.requester()
    request = catalog.GetProposalRequest(proposal_id=proposal.proposal_id)
    with pytest.raises(aio.AioRpcError) as refused:
        await stranger.core.catalog.GetProposal(request, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND


@pytest.mark.usecase(1257)
async def test_an_interface_that_exists_is_refused_however_it_is_renamed(
    whole: WholeMarket,
) -> None:
    author, draft = await whole.requester(), Draft()
    await published(whole, draft, author)
    renamed = {
        file_of("other.yard.v1"): content.replace(draft.package.encode(), b"other.yard.v1")
        .replace(b"Slot", b"Place")
        .replace(b"slots", b"places")
        for content in draft.files.values()
    }
    again = await propose(await whole.requester(), upload(renamed))
    assert again.state == proposals.PROPOSAL_STATE_INVALID
    (finding,) = again.findings
    assert finding.rule == "interface.exists"
    assert draft.interface in finding.description
    same = await propose(author, upload(draft.files))
    assert "interface.exists" in {finding.rule for finding in same.findings}


@pytest.mark.usecase(1257)
async def test_a_rejected_proposal_ends_with_the_reason_that_all_see(whole: WholeMarket) -> None:
    author, draft = await whole.requester(), Draft()
    proposal = await propose(author, upload(draft.files))
    request = catalog.RejectProposalRequest(
        request_id=new_request_id(), proposal_id=proposal.proposal_id, reason="Not needed."
    )
    await whole.technical.core.catalog.RejectProposal(request, timeout=10)
    stranger = await whole.requester()
    seen = await stranger.core.catalog.GetProposal(
        catalog.GetProposalRequest(proposal_id=proposal.proposal_id), timeout=10
    )
    assert seen.proposal.state == proposals.PROPOSAL_STATE_REJECTED
    assert seen.proposal.decision_reason == "Not needed."
    for step in (
        whole.technical.core.catalog.AcceptProposal(acceptance(proposal), timeout=10),
        whole.technical.core.catalog.PublishProposal(publication(proposal), timeout=10),
    ):
        with pytest.raises(aio.AioRpcError) as refused:
            await step
        assert reason_of(refused.value) == "STATE_NOT_ALLOWED"


@pytest.mark.usecase(1257)
async def test_votes_against_it_are_overruled_with_open_eyes_only(whole: WholeMarket) -> None:
    author, draft = await whole.requester(), Draft()
    proposal = await propose(author, upload(draft.files))
    with pytest.raises(aio.AioRpcError) as refused:
        await vote(author, proposal, proposals.PROPOSAL_VOTE_KIND_FOR)
    assert reason_of(refused.value) == "ROLE_NOT_ALLOWED"
    voter, other = await whole.requester(), await whole.requester()
    await vote(voter, proposal, proposals.PROPOSAL_VOTE_KIND_FOR)
    await vote(voter, proposal, proposals.PROPOSAL_VOTE_KIND_AGAINST)
    counted = await vote(other, proposal, proposals.PROPOSAL_VOTE_KIND_FOR)
    assert (counted.votes_for_count, counted.votes_against_count) == (1, 1)
    operator = whole.technical.core.catalog
    with pytest.raises(aio.AioRpcError) as refused:
        await operator.AcceptProposal(acceptance(proposal), timeout=10)
    assert reason_of(refused.value) == "STATE_NOT_ALLOWED"
    accepted = await operator.AcceptProposal(acceptance(proposal, 1), timeout=10)
    assert accepted.proposal.state == proposals.PROPOSAL_STATE_ACCEPTED
    listing = catalog.ListProposalVotesRequest(proposal_id=proposal.proposal_id)
    votes = (await author.core.catalog.ListProposalVotes(listing, timeout=10)).votes
    assert {each.partner_id: each.kind for each in votes} == {
        voter.partner_id: proposals.PROPOSAL_VOTE_KIND_AGAINST,
        other.partner_id: proposals.PROPOSAL_VOTE_KIND_FOR,
    }
    history = await author.core.catalog.ListProposalEvents(
        catalog.ListProposalEventsRequest(proposal_id=proposal.proposal_id), timeout=10
    )
    kinds = [proposals.ProposalEventKind.Name(each.kind)[20:] for each in history.events]
    assert kinds == ["PROPOSED", "REVIEW_OPENED", "VOTED", "VOTED", "VOTED", "ACCEPTED"]


@pytest.mark.usecase(1257, 1493)
async def test_an_accepted_proposal_is_published_and_called_on_every_worker(
    whole: WholeMarket,
) -> None:
    author, requester, draft = await whole.requester(), await whole.requester(), Draft()
    answer = await published(whole, draft, author)
    assert answer.proposal.state == proposals.PROPOSAL_STATE_PUBLISHED
    (interface,) = answer.interfaces
    assert (interface.interface_name, interface.version) == (draft.interface, 1)
    assert interface.current
    assert interface.digest == answer.proposal.digest
    request = catalog.DownloadInterfaceRequest(interface_name=draft.interface)
    parts = [part async for part in requester.core.catalog.DownloadInterface(request, timeout=10)]
    pool = pool_of(b"".join(part.descriptor_set_part for part in parts))

    def message(name: str) -> Any:
        found = pool.FindMessageTypeByName(f"{draft.package}.{name}")
        return message_factory.GetMessageClass(found)

    reply = message("FindSlotsResponse")(slots=[{"name": "a"}])
    provider = ScriptedProvider(answers(reply.SerializeToString()))
    await whole.contracted(requester, provider, interface=draft.interface)
    for channel in (await whole.channels(requester)).values():
        assert draft.interface in await ReflectionClient(channel).services()
        ask: Any = channel.unary_unary(
            f"/{draft.interface}/FindSlots",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=message("FindSlotsResponse").FromString,
        )
        found = await ask(message("FindSlotsRequest")(text="a"), timeout=10)
        assert [(slot.name, slot.provider_id) for slot in found.slots] == [
            ("a", provider.partner_id)
        ]
        assert len(found.provider_answers) == 1
        await channel.close()


@pytest.mark.usecase(1493)
async def test_a_version_that_breaks_the_published_one_is_refused_and_another_follows_it(
    whole: WholeMarket,
) -> None:
    author, draft = await whole.requester(), Draft()
    await published(whole, draft, author)
    proposal = await propose(author, broken(draft.files, b"string name = 1", b"string name = 3"))
    assert {finding.rule for finding in proposal.findings} == {"buf.FIELD_NO_DELETE"}
    more = b"// A slot.\nmessage Slot {\n  // Its size.\n  bool large = 9;\n"
    grown = broken(draft.files, b"// A slot.\nmessage Slot {\n", more)
    proposal = await propose(author, grown)
    assert list(proposal.findings) == []
    operator = whole.technical.core.catalog
    await operator.AcceptProposal(acceptance(proposal), timeout=10)
    command = publication(proposal)
    answer = await operator.PublishProposal(command, timeout=20)
    assert answer == await operator.PublishProposal(command, timeout=20)
    (interface,) = answer.interfaces
    assert (interface.version, interface.current) == (2, True)
    back = catalog.LabelInterfaceRequest(
        request_id=new_request_id(),
        interface_name=draft.interface,
        version=1,
        label=interface_pb2.INTERFACE_LABEL_CURRENT,
    )
    assert (await operator.LabelInterface(back, timeout=10)).interface.current
    for channel in (await whole.channels(author)).values():
        pool = await ReflectionClient(channel).pool_for(draft.interface)
        slot = pool.FindMessageTypeByName(f"{draft.package}.Slot")
        assert "large" not in slot.fields_by_name
        await channel.close()
    back.request_id, back.version = new_request_id(), 2
    back.label = interface_pb2.INTERFACE_LABEL_DEPRECATED
    labelled = (await operator.LabelInterface(back, timeout=10)).interface
    assert labelled.HasField("deprecate_time")


@pytest.mark.usecase(1475)
async def test_proposed_and_published_interfaces_are_found_by_state_category_and_text(
    whole: WholeMarket,
) -> None:
    author, seeker, draft = await whole.requester(), await whole.requester(), Draft()
    proposal = await propose(author, upload(draft.files))
    listing = catalog.ListProposalsRequest(
        state=proposals.PROPOSAL_STATE_IN_REVIEW, category="depot", proposer_id=author.partner_id
    )
    found = await seeker.core.catalog.ListProposals(listing, timeout=10)
    assert [each.proposal_id for each in found.proposals] == [proposal.proposal_id]
    listing.category = "none of it"
    assert not (await seeker.core.catalog.ListProposals(listing, timeout=10)).proposals
    by_text = catalog.ListInterfacesRequest(text="EVSESEARCH")
    interfaces = (await seeker.core.catalog.ListInterfaces(by_text, timeout=10)).interfaces
    assert [each.interface_name for each in interfaces] == [EVSE_SEARCH]
    by_text.text = "100%_"
    assert not (await seeker.core.catalog.ListInterfaces(by_text, timeout=10)).interfaces


@pytest.mark.usecase(1476)
async def test_details_are_the_comments_fields_and_rules_as_text(whole: WholeMarket) -> None:
    author, draft = await whole.requester(), Draft()
    proposal = await propose(author, upload(draft.files))
    reader = (await whole.requester()).core.catalog
    request = catalog.DescribeProposalRequest(proposal_id=proposal.proposal_id)
    proposed = (await reader.DescribeProposal(request, timeout=10)).text
    for words in (
        draft.interface,
        "Every depot answers for itself.",
        "1  text: string",
        f"max_len: {draft.number * 10}",
        "every contracted provider",
    ):
        assert words in proposed
    missing = catalog.DescribeInterfaceRequest(interface_name=draft.interface)
    with pytest.raises(aio.AioRpcError) as refused:
        await reader.DescribeInterface(missing, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND


@pytest.mark.usecase(1487)
async def test_a_service_s_specification_comes_as_sources_that_compile_to_the_same(
    whole: WholeMarket,
) -> None:
    author, draft = await whole.requester(), Draft()
    answer = await published(whole, draft, author)
    provider = ScriptedProvider(answers(b""))
    party = await whole.provider(provider)
    service_id = await whole.offer(party, provider.endpoint, draft.interface)
    request = catalog.DownloadServiceSpecificationRequest(
        service_id=service_id, form=catalog.DOWNLOAD_FORM_SOURCES
    )
    tree: dict[str, bytes] = {}
    async for part in author.core.catalog.DownloadServiceSpecification(request, timeout=10):
        name = part.source_part.name
        tree[name] = tree.get(name, b"") + part.source_part.content
    assert tree.pop("buf.yaml").startswith(b"version: v2")
    again = await propose(author, upload(tree, part_bytes=50_000))
    assert {finding.rule for finding in again.findings} == {"interface.exists"}
    assert again.digest == answer.interfaces[0].digest
