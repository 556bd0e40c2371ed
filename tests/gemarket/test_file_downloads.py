"""`gemarket service-files`: transfers that break, go on, or are not what was asked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc
import pytest

from gem.marketplace.v1 import service_content_pb2 as wire
from gemarket.service_files import FRUITLESS_MAX
from tests.gemarket.fake_market import FakeMarket, page

_CONTENT = b"0123456789" * 10
_FILE = wire.ServiceFile(
    file_id="f-1",
    name="manual.txt",
    kind=wire.SERVICE_FILE_KIND_MANUAL,
    size_bytes=len(_CONTENT),
    digest=hashlib.sha256(_CONTENT).digest(),
)
_BROKEN = grpc.StatusCode.UNAVAILABLE
_DOWNLOAD = ("service-files", "download", "s-1", "manual.txt")


def piece(content: bytes) -> wire.DownloadServiceFileResponse:
    """Give a piece of a file."""
    return wire.DownloadServiceFileResponse(content=content)


@pytest.fixture
def stored(market: FakeMarket) -> FakeMarket:
    """Give a market where the service has one file, on the second page."""
    other = wire.ListServiceFilesResponse(files=[wire.ServiceFile(name="a")], page=page("2"))
    market.on("ListServiceFiles", other, wire.ListServiceFilesResponse(files=[_FILE]))
    return market


def test_a_file_that_the_service_has_not_is_refused_and_nothing_is_made(stored: FakeMarket) -> None:
    result = stored.run("service-files", "download", "s-1", "absent")
    assert result.exit_code == 2
    assert "gemarket service-files: the service has no file 'absent'" in result.stderr
    assert list(Path().iterdir()) == []


def test_a_download_goes_on_where_it_broke_and_is_named_when_it_is_whole(
    stored: FakeMarket,
) -> None:
    stored.on(
        "DownloadServiceFile",
        [piece(_CONTENT[:30]), piece(_CONTENT[30:40]), _BROKEN],
        [piece(_CONTENT[40:])],
    )
    assert stored.good(*_DOWNLOAD, "--to", "here.txt") == "100 bytes in here.txt\n"
    assert Path("here.txt").read_bytes() == _CONTENT
    asked = stored.asked("DownloadServiceFile", wire.DownloadServiceFileRequest)
    assert [each.offset_bytes for each in asked] == [0, 40]
    assert [file.name for file in Path().iterdir()] == ["here.txt"]


def test_an_attempt_that_gives_up_leaves_its_part_for_the_next_one(stored: FakeMarket) -> None:
    stored.on("DownloadServiceFile", [piece(_CONTENT[:70]), _BROKEN], [_BROKEN])
    result = stored.run(*_DOWNLOAD)
    assert (result.exit_code, Path("manual.txt").exists()) == (1, False)
    assert len(stored.asked("DownloadServiceFile", wire.DownloadServiceFileRequest)) == 4
    stored.on("ListServiceFiles", wire.ListServiceFilesResponse(files=[_FILE]))
    stored.on("DownloadServiceFile", [piece(_CONTENT[70:])])
    assert "100 bytes in manual.txt" in stored.good(*_DOWNLOAD)
    assert Path("manual.txt").read_bytes() == _CONTENT


def test_a_refused_download_is_not_tried_again(stored: FakeMarket) -> None:
    stored.on("DownloadServiceFile", [grpc.StatusCode.PERMISSION_DENIED])
    assert stored.run(*_DOWNLOAD).exit_code == 1
    assert len(stored.asked("DownloadServiceFile", wire.DownloadServiceFileRequest)) == 1


@pytest.mark.parametrize(
    "content", [b"x" * 100, _CONTENT + b"x"], ids=["other bytes", "more bytes than there are"]
)
def test_what_is_not_the_file_is_thrown_away(stored: FakeMarket, content: bytes) -> None:
    Path("manual.txt").write_text("older")
    stored.on("DownloadServiceFile", [piece(content)])
    result = stored.run(*_DOWNLOAD)
    assert result.exit_code == 2
    assert "its SHA-256 differs" in result.stderr
    assert Path("manual.txt").read_text() == "older"
    assert [file.name for file in Path().iterdir()] == ["manual.txt"]


def test_a_market_that_sends_more_than_the_file_is_not_listened_to(stored: FakeMarket) -> None:
    # The stream ends in an error that is never reached, and so never told.
    denied = grpc.StatusCode.PERMISSION_DENIED
    stored.on("DownloadServiceFile", [piece(_CONTENT * 2), *[piece(_CONTENT)] * 50, denied])
    result = stored.run(*_DOWNLOAD)
    assert result.exit_code == 2
    assert "its SHA-256 differs" in result.stderr


def test_transfers_that_end_well_and_move_nothing_come_to_an_end(stored: FakeMarket) -> None:
    stored.on("DownloadServiceFile", [piece(b"")])
    result = stored.run(*_DOWNLOAD)
    assert result.exit_code == 2
    assert "before anything has come through" in result.stderr
    asked = stored.asked("DownloadServiceFile", wire.DownloadServiceFileRequest)
    assert len(asked) == FRUITLESS_MAX


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt"])
def test_documents_are_written_below_the_folder_or_not_at_all(
    market: FakeMarket, name: str
) -> None:
    answer = wire.DownloadServiceDocumentsResponse
    named = answer(file=wire.ServiceFile(name=name))
    market.on("DownloadServiceDocuments", [named, answer(content=b"x")])
    result = market.run("service-files", "download-documents", "s-1", "in")
    assert result.exit_code == 2
    assert "a name that leads out of the folder" in result.stderr
    assert not list(Path().rglob("out.txt"))


def test_documents_come_in_pieces_and_nameless_content_is_refused(market: FakeMarket) -> None:
    answer = wire.DownloadServiceDocumentsResponse
    market.on("DownloadServiceDocuments", [answer(content=b"x")])
    refused = market.run("service-files", "download-documents", "s-1", "in")
    assert refused.exit_code == 2
    assert "a file that it has not named" in refused.stderr
    named = answer(file=wire.ServiceFile(name="m.txt"))
    parts = [named, answer(content=b"one "), answer(content=b"two")]
    market.on("DownloadServiceDocuments", parts)
    command = ("service-files", "download-documents", "s-1", "in", "--all")
    assert market.good(*command) == "1 files in in\n"
    assert market.good(*command) == "1 files in in\n", "an older copy is replaced"
    assert Path("in/m.txt").read_bytes() == b"one two"
    asked = market.asked("DownloadServiceDocuments", wire.DownloadServiceDocumentsRequest)
    assert [each.all_files for each in asked] == [False, True, True]
