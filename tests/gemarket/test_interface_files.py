"""Files of interfaces between a disk and the catalogue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gemarket.interface_files import read_proposal, upload_messages, write_download

Pieces = AsyncIterator[catalog.DownloadInterfaceResponse]


async def tree(*parts: tuple[str, bytes]) -> Pieces:
    """Give pieces of a tree."""
    for name, content in parts:
        part = catalog.SourcePart(name=name, content=content)
        yield catalog.DownloadInterfaceResponse(source_part=part)


async def descriptor_set(*parts: bytes) -> Pieces:
    """Give pieces of a descriptor set."""
    for part in parts:
        yield catalog.DownloadInterfaceResponse(descriptor_set_part=part)


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a\\..\\out", "..", "a\0b"])
async def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        await write_download(tree((name, b"x")), tmp_path / "in", lambda _: None)
    assert list(os.scandir(tmp_path)) == []


async def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> Pieces:
        async for piece in tree(("a.proto", b"x")):
            yield piece
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await write_download(broken(), tmp_path / "in", lambda _: None)
    assert not (tmp_path / "in").exists()


async def test_pieces_become_files_and_are_counted(tmp_path: Path) -> None:
    seen: list[int] = []
    parts = (("a/b.proto", b"one "), ("a/b.proto", b"two"), ("empty.proto", b""))
    assert await write_download(tree(*parts), tmp_path, seen.append) == 7
    assert (tmp_path / "a/b.proto").read_bytes() == b"one two"
    assert (tmp_path / "empty.proto").read_bytes() == b""
    assert seen == [4, 7, 7]
    target = tmp_path / "new" / "set.binpb"
    assert await write_download(descriptor_set(b"ab", b"c"), target, seen.append) == 3
    assert target.read_bytes() == b"abc"


def test_a_folder_or_a_file_is_sent_with_the_digest_of_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no"):
        read_proposal(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.proto").write_bytes(b"x" * 70_000)
    (tmp_path / "two.proto").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"not sent")
    files = read_proposal(tmp_path)
    assert list(files) == ["a/one.proto", "two.proto"]
    header, *parts = upload_messages(files, "id", "A note.")
    assert header.header.content_digest == hashlib.sha256(b"x" * 70_000).digest()
    assert header.header.note == "A note."
    names = [part.source_part.name for part in parts]
    assert names == ["a/one.proto", "a/one.proto", "two.proto"]
    assert {part.request_id for part in (header, *parts)} == {"id"}
    _, only = upload_messages(read_proposal(tmp_path / "notes.txt"), "id", "")
    assert only.descriptor_set_part == b"not sent"


async def test_what_is_larger_than_any_interface_is_refused_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemarket.interface_files._TOTAL_MAX_BYTES", 10)
    with pytest.raises(ValueError, match="more than an interface"):
        await write_download(descriptor_set(b"x" * 6, b"x" * 5), tmp_path / "set", lambda _: None)
    assert not (tmp_path / "set").exists()
    large = tmp_path / "large.binpb"
    large.write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="too large"):
        read_proposal(large)
