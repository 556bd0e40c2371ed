"""`gemarket interfaces` against a running market (1475, 1476, 1487, 1257, 1493)."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.end_to_end.test_command_line_of_partners import answers, known, prints, refused
from tests.end_to_end.test_command_line_on_a_market import run
from tests.end_to_end.whole_market import EVSE_SEARCH, WholeMarket
from tests.proposals import sources

_PACKAGE = "acme.cli.v1"
_NAME = f"{_PACKAGE}.BerthService"


def written(folder: Path, text_length: int) -> Path:
    """Write the sources of a proposal into a folder."""
    for name, content in sources(_PACKAGE, "BerthService", text_length).items():
        file = folder / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    return folder


@pytest.mark.usecase(1475, 1476, 1487)
async def test_an_interface_is_found_shown_and_downloaded(
    whole: WholeMarket, tmp_path: Path
) -> None:
    partner = await whole.requester()
    await known(whole, partner)
    assert "there are none" in await prints(whole, "interfaces", "list", "--text", "no such")
    assert EVSE_SEARCH in await prints(whole, "interfaces", "list", "--text", "evsesearch")
    assert "SearchEvses" in await prints(whole, "interfaces", "show", EVSE_SEARCH)
    shown = await answers(whole, "interfaces", "show", EVSE_SEARCH)
    assert shown["current"]
    assert "NOT_FOUND" in await refused(whole, "interfaces", "show", "no.such.Interface")

    tree, whole_set = tmp_path / "tree", tmp_path / "set.binpb"
    await prints(whole, "interfaces", "download", EVSE_SEARCH, str(tree))
    assert (tree / "gem/charging/v1/evse_search_service.proto").is_file()
    assert (tree / "buf.yaml").is_file()
    done = await run(whole, "interfaces", "download", EVSE_SEARCH, str(whole_set))
    assert f"{whole_set.stat().st_size} bytes" in done.stdout.replace("\n", "")
    files = {file.name for file in FileDescriptorSet.FromString(whole_set.read_bytes()).file}
    assert "gem/charging/v1/evse_search_service.proto" in files
    absent = ("interfaces", "download", "no.such.Interface", str(tmp_path / "none"))
    assert "NOT_FOUND" in (await run(whole, *absent)).stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.usecase(1257, 1493)
async def test_a_standard_from_its_sources_to_its_labels(
    whole: WholeMarket, tmp_path: Path
) -> None:
    author, voter = await whole.requester(), await whole.operator()
    await known(whole, author, voter)
    by_author, by_operator = ("--as", author.partner_id), ("--as", "technical")
    empty = tmp_path / "empty"
    empty.mkdir()
    propose = ("interfaces", "propose")
    assert "no .proto file" in await refused(whole, *propose, str(empty), *by_author, status=2)
    (empty / "a.proto").write_text("no proto")
    invalid = await run(whole, *propose, str(empty), *by_author)
    assert invalid.exit_code == 1
    assert "a.proto" in invalid.stdout

    folder = written(tmp_path / "good", 73)
    made = await answers(whole, *propose, str(folder), "--note", "Berths.", *by_author)
    proposal_id = made["proposal_id"]
    assert (made["state"], made["interface_names"]) == ("PROPOSAL_STATE_IN_REVIEW", [_NAME])
    listed = ("interfaces", "proposals", "--state", "in-review", "--author", author.partner_id)
    assert proposal_id in await prints(whole, *listed)
    own = await refused(whole, "interfaces", "vote", proposal_id, "for", *by_author)
    assert "ROLE_NOT_ALLOWED" in own
    vote = ("interfaces", "vote", proposal_id, "against", "--comment", "Too short.")
    await prints(whole, *vote, "--as", voter.partner_id)
    review = ("interfaces", "review", proposal_id)
    because = ("--reason", "Long enough.", *by_operator)
    assert "there is no decision" in await refused(whole, *review, "maybe", *because, status=2)
    unseen = await refused(whole, *review, "accept", *because)
    assert "votes_against_count 1" in unseen
    await prints(whole, *review, "accept", "--overruled", "1", *because)
    assert "Long enough." in await prints(whole, "interfaces", "proposal", proposal_id, *by_author)
    published = await prints(whole, "interfaces", "publish", proposal_id, *by_operator)
    assert f"{_NAME} version 1 is published" in published
    again = await refused(whole, "interfaces", "withdraw", proposal_id, *by_author)
    assert "STATE_NOT_ALLOWED" in again
    kinds = await prints(whole, "notifications", "list", "--as", voter.partner_id)
    assert "interface-accepted" in kinds
    assert "interface-published" in kinds
    reviewed = await prints(whole, "notifications", "list", *by_operator)
    assert f"Proposal {proposal_id} of {_NAME}" in reviewed

    label = ("interfaces", "label", _NAME, "1")
    assert "ROLE_NOT_ALLOWED" in await refused(whole, *label, "deprecated", *by_author)
    assert "there is no 'best'" in await refused(whole, *label, "best", *by_operator, status=2)
    # The version that is routed is not one to be left; it has no other label to take off.
    for name in ("deprecated", "current", "none"):
        assert "STATE_NOT_ALLOWED" in await refused(whole, *label, name, *by_operator)
