"""`gemarket service-files`: uploads that go on or come to nothing, and specifications."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc

from gem.marketplace.v1 import interface_proposal_pb2 as proposals
from gem.marketplace.v1 import service_content_pb2 as wire
from gemarket.service_files import FRUITLESS_MAX
from tests.gemarket.fake_market import FakeMarket

_CONTENT = b"0123456789" * 10
_BROKEN = grpc.StatusCode.UNAVAILABLE


def standing(received: int, state: wire.ServiceFileState.ValueType) -> wire.ServiceFileUpload:
    """Say how far an upload is."""
    return wire.ServiceFileUpload(
        file=wire.ServiceFile(file_id="f-1", name="up.bin", state=state), received_bytes=received
    )


def test_an_upload_goes_on_from_what_the_market_has(market: FakeMarket) -> None:
    Path("up.bin").write_bytes(_CONTENT)
    begun, half = (standing(at, wire.SERVICE_FILE_STATE_UPLOADING) for at in (0, 60))
    market.on("BeginServiceFileUpload", wire.BeginServiceFileUploadResponse(upload=begun))
    market.on(
        "GetServiceFileUpload",
        wire.GetServiceFileUploadResponse(upload=begun),
        wire.GetServiceFileUploadResponse(upload=half),
    )
    done = wire.UploadServiceFileResponse(upload=standing(100, wire.SERVICE_FILE_STATE_STORED))
    market.on("UploadServiceFile", [_BROKEN], done)
    (stored,) = market.json(
        "service-files", "upload", "s-1", "up.bin", "--kind", "manual", "--json"
    )
    assert stored["state"] == "SERVICE_FILE_STATE_STORED"
    (begin,) = market.asked("BeginServiceFileUpload", wire.BeginServiceFileUploadRequest)
    assert (begin.kind, begin.size_bytes) == (wire.SERVICE_FILE_KIND_MANUAL, 100)
    assert begin.digest == hashlib.sha256(_CONTENT).digest()
    pieces = market.asked("UploadServiceFile", wire.UploadServiceFileRequest)
    assert [(each.offset_bytes, each.content) for each in pieces] == [
        (0, _CONTENT),
        (60, _CONTENT[60:]),
    ]


def test_the_same_file_begins_the_same_upload_and_an_abandoned_one_begins_anew(
    market: FakeMarket,
) -> None:
    Path("up.bin").write_bytes(_CONTENT)
    gone = standing(0, wire.SERVICE_FILE_STATE_ABANDONED)
    stored = standing(100, wire.SERVICE_FILE_STATE_STORED)
    market.on("GetServiceFileUpload", wire.GetServiceFileUploadResponse(upload=gone))
    market.on("BeginServiceFileUpload", wire.BeginServiceFileUploadResponse(upload=stored))
    for _ in range(2):
        assert "up.bin" in market.good("service-files", "upload", "s-1", "up.bin")
    asked = market.asked("BeginServiceFileUpload", wire.BeginServiceFileUploadRequest)
    first, anew, again, anew_again = (each.request_id for each in asked)
    assert first == again
    assert len({first, anew, anew_again}) == 3


def test_a_specification_with_findings_is_shown_by_file_and_line(market: FakeMarket) -> None:
    Path("src").mkdir()
    arguments = ("service-files", "upload-specification", "s-1", "src", "--description", "What.")
    empty = market.run(*arguments)
    assert (empty.exit_code, market.calls) == (2, [])
    assert "there is no .proto file below src" in empty.stderr
    Path("src/a.proto").write_text('syntax = "proto3";')
    finding = proposals.ProposalFinding(file="a.proto", line_number=7, rule="R", description="bad")
    market.on("UploadServiceSpecification", wire.UploadServiceSpecificationResponse(
        findings=[finding]))  # fmt: skip
    result = market.run(*arguments)
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "a.proto" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["a.proto", "7", "R", "bad"]


def test_uploads_that_end_well_and_move_nothing_come_to_an_end(market: FakeMarket) -> None:
    Path("up.bin").write_bytes(_CONTENT)
    now = standing(0, wire.SERVICE_FILE_STATE_UPLOADING)
    market.on("BeginServiceFileUpload", wire.BeginServiceFileUploadResponse(upload=now))
    market.on("GetServiceFileUpload", wire.GetServiceFileUploadResponse(upload=now))
    market.on("UploadServiceFile", wire.UploadServiceFileResponse(upload=now))
    result = market.run("service-files", "upload", "s-1", "up.bin")
    assert result.exit_code == 2
    assert "before anything has come through" in result.stderr
    assert len(market.asked("UploadServiceFile", wire.UploadServiceFileRequest)) == FRUITLESS_MAX
