"""`make check` refuses what it promises to refuse: each part of `proto/check.py` can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from proto.check import breaking, buf, release, stale
from proto.generate import generate

MONEY = "gem/common/v1/money.proto"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("released") / "released.binpb"
    release(target)
    return target


@pytest.fixture
def changed(
    descriptors: dict[str, FileDescriptorProto], tmp_path: Path
) -> Callable[[Callable[[FileDescriptorProto], object]], Path]:
    """Write the image with one file changed by a function."""

    def write(change: Callable[[FileDescriptorProto], object]) -> Path:
        files = FileDescriptorSet(file=descriptors.values())
        change(next(file for file in files.file if file.name == MONEY))
        target = tmp_path / "changed.binpb"
        target.write_bytes(files.SerializeToString())
        return target

    return write


Changed = Callable[[Callable[[FileDescriptorProto], object]], Path]


def rename_currency(file: FileDescriptorProto) -> None:
    file.message_type[0].field[1].name = "currency"


def narrow_amount(file: FileDescriptorProto) -> None:
    amount = file.message_type[0].field[0]
    amount.type = amount.TYPE_INT32


def drop_currency(file: FileDescriptorProto) -> None:
    del file.message_type[0].field[1]


def drop_comments(file: FileDescriptorProto) -> None:
    for location in file.source_code_info.location:
        location.ClearField("leading_comments")


@pytest.mark.parametrize("change", [rename_currency, narrow_amount, drop_currency])
def test_a_change_that_breaks_callers_is_found(
    changed: Changed, released: Path, tmp_path: Path, change: Callable[[FileDescriptorProto], None]
) -> None:
    found = breaking(tmp_path, changed(change), released)
    assert len(found) == 1
    assert MONEY in found[0]


def test_the_release_itself_breaks_nothing(
    changed: Changed, released: Path, tmp_path: Path
) -> None:
    assert breaking(tmp_path, changed(lambda _: None), released) == []


def test_a_missing_baseline_is_a_finding(changed: Changed, tmp_path: Path) -> None:
    found = breaking(tmp_path, changed(lambda _: None), tmp_path / "released.binpb")
    assert found == ["released.binpb is missing: `make release-image` writes it"]


def test_an_image_that_buf_cannot_read_is_a_finding(tmp_path: Path) -> None:
    broken = tmp_path / "broken.binpb"
    broken.write_bytes(b"no image")
    assert buf(tmp_path, "lint", broken)


def test_an_element_without_a_comment_is_found(changed: Changed, tmp_path: Path) -> None:
    found = buf(tmp_path, "lint", changed(drop_comments))
    assert any("non-empty comment" in line for line in found)


def test_stubs_that_are_edited_missing_or_left_over_are_found(tmp_path: Path) -> None:
    committed = tmp_path / "committed"
    generate(committed)
    folder = committed / "gem/common/v1"
    (folder / "money_pb2.py").write_text("# edited by hand\n")
    (folder / "geo_pb2.pyi").unlink()
    (folder / "gone_pb2.py").touch()
    found = [line.split()[0] for line in stale(tmp_path, committed)]
    assert found == [
        "gen/gem/common/v1/geo_pb2.pyi",
        "gen/gem/common/v1/gone_pb2.py",
        "gen/gem/common/v1/money_pb2.py",
    ]
