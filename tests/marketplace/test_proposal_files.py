"""Files of proposals and of published versions, as sets, as sources and as texts."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1.interface_catalog_service_pb2 import (
    DOWNLOAD_FORM_DESCRIPTOR_SET,
    DOWNLOAD_FORM_SOURCES,
)
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.interface_download import PART_BYTES
from marketplace.new_interface import normal_digest
from marketplace.proto_source import source_tree
from tests.control_plane import EVSP, INTERFACE, INTERFACE_BODY, TECHNICAL, ControlPlane
from tests.interceptors.support import raises
from tests.interfaces import descriptor_set
from tests.proposals import file_of, sources, upload

CATALOG = "InterfaceCatalogService"


def joined(parts: list[Any]) -> dict[str, str]:
    """Put the pieces of a tree together."""
    tree: dict[str, bytes] = {}
    for part in parts:
        assert len(part.source_part.content) <= PART_BYTES
        name = part.source_part.name
        tree[name] = tree.get(name, b"") + part.source_part.content
    return {name: content.decode() for name, content in tree.items()}


@pytest.mark.usecase(1257)
async def test_reviewers_read_the_files_of_a_proposal(plane: ControlPlane) -> None:
    await plane.partner("author", EVSP)
    messages = upload(sources(), part_bytes=5_000)
    (made,) = await plane.send("author", f"{CATALOG}/ProposeInterface", *messages)
    wanted = {"proposal_id": made.proposal.proposal_id}
    download = f"{CATALOG}/DownloadProposal"
    parts = await plane.ask_all(TECHNICAL, download, **wanted, form=DOWNLOAD_FORM_DESCRIPTOR_SET)
    raw = b"".join(part.descriptor_set_part for part in parts)
    assert normal_digest(raw) == made.proposal.digest
    parts = await plane.ask_all("reader", download, **wanted, form=DOWNLOAD_FORM_SOURCES)
    tree = joined(parts)
    assert "// Finds free slots.\n//\n// Every depot" in tree[file_of("acme.depot.v1")]
    assert tree == source_tree(raw)
    text = (await plane.ask("reader", f"{CATALOG}/DescribeProposal", **wanted)).text
    assert text.startswith("Depot slots\n===========\n")


@pytest.mark.usecase(1257)
async def test_no_files_are_kept_of_what_is_invalid(plane: ControlPlane) -> None:
    await plane.partner("author", EVSP)
    messages = upload(sources(service="Slots"), part_bytes=5_000)
    (made,) = await plane.send("author", f"{CATALOG}/ProposeInterface", *messages)
    for rpc in ("DownloadProposal", "DescribeProposal"):
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
            await plane.ask("author", f"{CATALOG}/{rpc}", proposal_id=made.proposal.proposal_id)


@pytest.mark.usecase(1476, 1487)
async def test_each_version_keeps_its_own_files_and_text(plane: ControlPlane) -> None:
    await plane.publish_interface()
    await plane.publish_interface(INTERFACE_BODY.replace("max_len = 100", "max_len = 222"))
    for version, length in ((1, 100), (2, 222), (0, 222)):
        wanted = {"interface_name": INTERFACE, "version": version}
        described = await plane.ask("reader", f"{CATALOG}/DescribeInterface", **wanted)
        assert f"max_len: {length}" in described.text
        parts = await plane.ask_all(
            "reader", f"{CATALOG}/DownloadInterface", **wanted, form=DOWNLOAD_FORM_SOURCES
        )
        assert f"max_len: {length}" in joined(parts)["acme/test/v1/test.proto"]
    missing = {"interface_name": INTERFACE, "version": 3}
    for rpc in ("DescribeInterface", "DownloadInterface"):
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
            await plane.ask("reader", f"{CATALOG}/{rpc}", **missing)


@pytest.mark.usecase(1487)
async def test_a_specification_is_the_version_that_the_service_was_registered_with(
    plane: ControlPlane,
) -> None:
    (service,) = await plane.market("volt")
    await plane.publish_interface(INTERFACE_BODY.replace("max_len = 100", "max_len = 222"))
    rpc = f"{CATALOG}/DownloadServiceSpecification"
    parts = await plane.ask_all("evsp", rpc, service_id=service.service_id)
    assert b"".join(part.descriptor_set_part for part in parts) == descriptor_set(INTERFACE_BODY)
    hidden = await plane.register_service("volt")
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await plane.ask("evsp", rpc, service_id=hidden.service_id)


@pytest.mark.usecase(1475)
@pytest.mark.parametrize(("words", "count"), [("", 1), ("TEST.v1", 1), ("%", 0), ("_", 0)])
async def test_a_text_is_looked_for_as_it_is_written(
    plane: ControlPlane, words: str, count: int
) -> None:
    await plane.publish_interface()
    listed = await plane.ask("reader", f"{CATALOG}/ListInterfaces", text=words)
    assert len(listed.interfaces) == count
