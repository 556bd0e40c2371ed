"""What the command line makes of files before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from gem.marketplace.v1 import service_content_pb2 as wire
from gemarket.service_files import _below, _pieces, _specification, kind_of, media_type_of


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("manual.pdf", "application/pdf"),
        ("README.MD", "text/markdown"),
        ("api.yml", "application/yaml"),
        ("data.csv", "text/csv"),
        ("picture.png", "image/png"),
        ("something", "application/octet-stream"),
    ],
)
def test_the_media_type_follows_from_the_name(name: str, media_type: str) -> None:
    assert media_type_of(Path(name)) == media_type


def test_kinds_go_by_their_names_and_others_are_refused_with_the_known_ones() -> None:
    assert kind_of("manual") == wire.SERVICE_FILE_KIND_MANUAL
    with pytest.raises(ValueError, match="manual, description, specification, other"):
        kind_of("image")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_names_that_lead_out_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out of the folder"):
        _below(tmp_path, name)
    assert _below(tmp_path, "proto/a.proto") == tmp_path / "proto" / "a.proto"


@pytest.mark.parametrize(
    ("size", "at", "count"), [(1, 0, 1), (600_000, 0, 3), (600_000, 524_288, 1)]
)
def test_pieces_begin_where_the_upload_stands(
    tmp_path: Path, size: int, at: int, count: int
) -> None:
    path, told = tmp_path / "file", []
    path.write_bytes(bytes(size))
    pieces = list(_pieces(path, "id", at, size, lambda done, of: told.append((done, of))))
    assert len(pieces) == count
    assert pieces[0].offset_bytes == at
    assert sum(len(piece.content) for piece in pieces) == size - at
    assert told[-1] == (size, size)
    assert len({piece.request_id for piece in pieces}) == 1


def test_an_upload_that_has_all_its_bytes_is_asked_to_end_with_an_empty_piece(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    (piece,) = _pieces(path, "id", 10, 10, lambda *_: None)
    assert (piece.offset_bytes, piece.content) == (10, b"")


def test_a_specification_is_a_header_and_every_source_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.proto").write_bytes(b"x" * 300_000)
    (tmp_path / "a/none.proto").write_bytes(b"")
    files = sorted(tmp_path.rglob("*.proto"))
    header, *parts = _specification("service", tmp_path, files, "Words.")
    assert (header.header.service_id, header.header.description) == ("service", "Words.")
    assert [part.source_part.name for part in parts] == ["a/none.proto"] + ["a/one.proto"] * 2
    assert b"".join(part.source_part.content for part in parts) == b"x" * 300_000
