"""`gemarket interfaces`: downloads that break, proposals with findings, labels and decisions."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc
import pytest

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_pb2
from gem.marketplace.v1 import interface_proposal_pb2 as proposals
from tests.gemarket.fake_market import FakeMarket

_OPEN = proposals.Proposal(
    proposal_id="p-1",
    proposer_id="volt",
    state=proposals.PROPOSAL_STATE_IN_REVIEW,
    interface_names=["a.B", "a.C"],
    votes_for_count=2,
    decision_reason="Good [so far].",
)


def part(name: str, content: bytes) -> catalog.DownloadInterfaceResponse:
    """Give a piece of a tree of sources."""
    return catalog.DownloadInterfaceResponse(
        source_part=catalog.SourcePart(name=name, content=content)
    )


@pytest.mark.parametrize("target", ["tree", "set.binpb"])
def test_a_download_that_breaks_off_leaves_nothing(market: FakeMarket, target: str) -> None:
    market.on("DownloadInterface", [part("a.proto", b"one"), grpc.StatusCode.UNAVAILABLE])
    result = market.run("interfaces", "download", "a.B", target)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "3/" in result.stderr or "3 bytes" in result.stderr, "the bar shows how far it came"
    assert list(Path().iterdir()) == []


def test_a_name_that_leads_out_is_refused_whole(market: FakeMarket) -> None:
    market.on("DownloadInterface", [part("a.proto", b"one"), part("../b.proto", b"two")])
    result = market.run("interfaces", "download", "a.B", "tree")
    assert result.exit_code == 2
    assert "leads out of the folder" in result.stderr
    assert not Path("tree/../b.proto").exists()


def test_the_target_says_the_form_and_the_option_the_version(market: FakeMarket) -> None:
    market.on("DownloadInterface", [part("a/b.proto", b"one "), part("a/b.proto", b"two")])
    assert market.good("interfaces", "download", "a.B", "tree") == "7 bytes in tree\n"
    assert Path("tree/a/b.proto").read_bytes() == b"one two"
    market.on("DownloadInterface", [catalog.DownloadInterfaceResponse(descriptor_set_part=b"\0\1")])
    said = market.good("interfaces", "download", "a.B", "set.binpb", "--version", "3")
    assert said == "2 bytes in set.binpb\n"
    assert Path("set.binpb").read_bytes() == b"\0\1"
    asked = market.asked("DownloadInterface", catalog.DownloadInterfaceRequest)
    assert [(each.form, each.version) for each in asked] == [
        (catalog.DOWNLOAD_FORM_SOURCES, 0),
        (catalog.DOWNLOAD_FORM_DESCRIPTOR_SET, 3),
    ]


def test_a_proposal_with_findings_ends_with_one_and_shows_each(market: FakeMarket) -> None:
    Path("a.proto").write_text('syntax = "proto3";')
    finding = proposals.ProposalFinding(
        file="a.proto", line_number=3, element="a.[B]", rule="COMMENTS", description="has none"
    )
    bad = proposals.Proposal(
        proposal_id="p-1", state=proposals.PROPOSAL_STATE_INVALID, findings=[finding]
    )
    market.on("ProposeInterface", catalog.ProposeInterfaceResponse(proposal=bad))
    result = market.run("interfaces", "propose", ".", "--note", "Please.")
    assert result.exit_code == 1
    (line,) = [row for row in result.stdout.splitlines() if "COMMENTS" in row]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["a.proto", "3", "COMMENTS", "a.[B]: has none"]
    header, *pieces = map(catalog.ProposeInterfaceRequest.FromString, market.calls[0].requests)
    assert header.header.note == "Please."
    sent = b"".join(piece.source_part.content for piece in pieces)
    assert header.header.content_digest == hashlib.sha256(sent).digest()
    assert [piece.source_part.name for piece in pieces] == ["a.proto"]


@pytest.mark.parametrize(
    ("command", "rpc", "field", "value"),
    [
        ("vote p-1 against --comment No.", "VoteOnProposal", "kind",
         proposals.PROPOSAL_VOTE_KIND_AGAINST),
        ("review p-1 accept --reason R --overruled 4", "AcceptProposal",
         "overruled_votes_count", 4),
        ("review p-1 reject --reason R", "RejectProposal", "reason", "R"),
        ("withdraw p-1", "WithdrawProposal", "proposal_id", "p-1"),
        ("proposal p-1", "GetProposal", "proposal_id", "p-1"),
    ],
)  # fmt: skip
def test_each_step_of_a_proposal_is_asked_for_and_shown(
    market: FakeMarket, command: str, rpc: str, field: str, value: object
) -> None:
    market.on(rpc, getattr(catalog, f"{rpc}Response")(proposal=_OPEN))
    first, second = market.good("interfaces", *command.split()).splitlines()
    assert first == "p-1  in-review  volt  a.B, a.C  2  0  1970-01-01 00:00:00"
    assert second == "Good [so far]."
    (shown,) = market.json("interfaces", *command.split(), "--json")
    assert shown["state"] == "PROPOSAL_STATE_IN_REVIEW"
    for asked in market.asked(rpc, getattr(catalog, f"{rpc}Request")):
        assert getattr(asked, field) == value


def test_what_is_published_is_named_with_its_version(market: FakeMarket) -> None:
    published = [interface_pb2.Interface(interface_name=name, version=2) for name in ("a.B", "a.C")]
    answer = catalog.PublishProposalResponse(proposal=_OPEN, interfaces=published)
    market.on("PublishProposal", answer)
    assert market.good("interfaces", "publish", "p-1").splitlines() == [
        "a.B version 2 is published",
        "a.C version 2 is published",
    ]


def test_labels_are_set_from_a_time_in_any_zone_and_taken_away(market: FakeMarket) -> None:
    labelled = interface_pb2.Interface(interface_name="a.B", version=1, current=True)
    labelled.deprecate_time.FromJsonString("2026-02-01T00:00:00Z")
    market.on("LabelInterface", catalog.LabelInterfaceResponse(interface=labelled))
    command = ("interfaces", "label", "a.B", "1", "deprecated", "--from", "2026-02-01T01:00+01:00")
    assert "current, deprecated from 2026-02-01 00:00:00" in market.good(*command)
    (asked,) = market.asked("LabelInterface", catalog.LabelInterfaceRequest)
    assert asked.label == interface_pb2.INTERFACE_LABEL_DEPRECATED
    assert asked.effective_time == labelled.deprecate_time
    plain = interface_pb2.Interface(interface_name="a.B", version=1)
    market.on("UnlabelInterface", catalog.UnlabelInterfaceResponse(interface=plain))
    assert market.good("interfaces", "label", "a.B", "1", "none").split() == ["a.B", "1"]
