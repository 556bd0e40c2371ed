"""Uploads that mean harm: refused with findings, by a child process that ends."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.proposal_compiler import CompilerLimits, Examination, ProposalCompiler
from marketplace.proto_source import source_tree
from proto.generate import PROTO
from tests.interceptors.support import raises
from tests.interfaces import handmade, without_source_info
from tests.proposals import file_of, sources

pytestmark = pytest.mark.usecase(1257)

PACKAGE = "acme.depot.v1"
FILE = file_of(PACKAGE)
OPTIONS = "gem/options/v1/options.proto"


@pytest.fixture(scope="module")
def compiler() -> ProposalCompiler:
    return ProposalCompiler()


@pytest.fixture(scope="module")
async def sound(compiler: ProposalCompiler) -> Examination:
    """Give what comes of an upload that keeps every rule."""
    found = await compiler.examine(sources(), b"")
    assert found.findings == ()
    return found


def broken(found: Examination) -> set[tuple[str, str]]:
    """Give file and rule of each finding; what is refused is not kept."""
    assert found.findings
    return {(finding.file, finding.rule) for finding in found.findings}


async def test_files_that_lead_elsewhere_are_refused_before_they_are_written(
    compiler: ProposalCompiler, tmp_path: Path
) -> None:
    names = [
        "../escape.proto",
        "a/../../b.proto",
        str(tmp_path / "c.proto"),
        "a//b.proto",
        "-I.proto",
        "a/.b.proto",
        "a.proto\n",
        "a" * 200 + ".proto",
    ]
    found = await compiler.examine(dict.fromkeys(names, b'syntax = "proto3";'), b"")
    assert broken(found) == {(f"file {place}", "file.name") for place in range(len(names))}
    assert not any(name in str(found.findings) for name in names)
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # not a path that is followed


async def test_the_same_names_in_a_descriptor_set_are_refused(
    compiler: ProposalCompiler, sound: Examination
) -> None:
    files = without_source_info(sound.descriptor_set)
    files.file[-1].name = "acme/../../slot.proto"
    found = await compiler.examine({}, files.SerializeToString())
    assert {rule for _, rule in broken(found)} == {"file.name"}


async def test_a_file_with_the_name_of_a_folder_is_refused(compiler: ProposalCompiler) -> None:
    text = b'syntax = "proto3";'
    found = await compiler.examine({"a.proto": text, "a.proto/b.proto": text}, b"")
    assert broken(found) == {("a.proto/b.proto", "file.name")}


async def test_imports_in_a_circle_are_refused(
    compiler: ProposalCompiler, sound: Examination
) -> None:
    def text(other: str) -> bytes:
        return f'syntax = "proto3"; package a.v1; import "a/v1/{other}.proto";'.encode()

    found = await compiler.examine({"a/v1/x.proto": text("y"), "a/v1/y.proto": text("x")}, b"")
    assert {rule for _, rule in broken(found)} == {"protoc"}
    files = without_source_info(sound.descriptor_set)
    files.file[-1].dependency.append(files.file[-1].name)
    found = await compiler.examine({}, files.SerializeToString())
    assert "file.imports" in {rule for _, rule in broken(found)}


async def test_ten_thousand_messages_are_refused(compiler: ProposalCompiler) -> None:
    (text,) = sources().values()
    many = text + b"".join(b"message M%d {}\n" % number for number in range(10_000))
    found = await compiler.examine({FILE: many}, b"")
    assert ("", "set.messages") in broken(found)


async def test_options_that_explode_are_refused(compiler: ProposalCompiler) -> None:
    rule = b'option (buf.validate.message).cel = { id: "x%d" expression: "this.name == \'a\'" };'
    bomb = b"\n".join(rule % number for number in range(2_000))
    (text,) = sources().values()
    found = await compiler.examine(
        {FILE: text.replace(b"message Slot {", b"message Slot {" + bomb)}, b""
    )
    assert {"rules.count", "rules.total"} <= {rule for _, rule in broken(found)}


async def test_nesting_without_end_breaks_only_the_compiler(compiler: ProposalCompiler) -> None:
    deep = b"message A {" * 20_000 + b"}" * 20_000
    (text,) = sources().values()
    found = await compiler.examine({FILE: text + deep}, b"")
    assert {rule for _, rule in broken(found)} <= {"protoc", "set.nesting", "set.limits"}


@pytest.mark.parametrize("package", ["acme.dep\u043et.v1", "\u0430cme.depot.v1"])
async def test_letters_of_other_alphabets_are_refused_in_sources_and_sets(
    compiler: ProposalCompiler, sound: Examination, package: str
) -> None:
    (text,) = sources().values()
    found = await compiler.examine({FILE: text.replace(PACKAGE.encode(), package.encode())}, b"")
    assert {rule for _, rule in broken(found)} == {"protoc"}
    assert all(finding.description.isascii() for finding in found.findings)
    files = without_source_info(sound.descriptor_set)
    files.file[-1].package = package
    found = await compiler.examine({}, files.SerializeToString())
    assert ("file.package") in {rule for _, rule in broken(found)}


async def test_a_package_that_looks_like_the_marketplace_s_is_refused(
    compiler: ProposalCompiler,
) -> None:
    found = await compiler.examine(sources("gern.depot.v1"), b"")
    assert {rule for _, rule in broken(found)} == {"package.confusable"}


async def test_the_marketplace_s_own_file_with_other_content_is_refused(
    compiler: ProposalCompiler, sound: Examination
) -> None:
    ours = (PROTO / OPTIONS).read_bytes()
    unchanged = await compiler.examine({**sources(), OPTIONS: ours}, b"")
    assert unchanged.findings == ()
    changed = ours.replace(b"MERGE_RULE_SUM", b"MERGE_RULE_MUS")
    found = await compiler.examine({**sources(), OPTIONS: changed}, b"")
    assert broken(found) == {(OPTIONS, "file.own")}
    files = without_source_info(sound.descriptor_set)
    (own,) = [file for file in files.file if file.name == OPTIONS]
    own.enum_type[0].value.pop()
    found = await compiler.examine({}, files.SerializeToString())
    assert broken(found) == {(OPTIONS, "file.own")}


async def test_a_reserved_package_is_refused(compiler: ProposalCompiler) -> None:
    found = await compiler.examine(sources("gem.marketplace.v1"), b"")
    assert "file.reserved" in {rule for _, rule in broken(found)}


async def test_comments_cannot_silence_a_rule(compiler: ProposalCompiler) -> None:
    (text,) = sources(service="Slots").values()
    silenced = text.replace(b"service Slots", b"// buf:lint:ignore SERVICE_SUFFIX\nservice Slots")
    found = await compiler.examine({FILE: silenced}, b"")
    assert (FILE, "buf.SERVICE_SUFFIX") in broken(found)


@pytest.mark.parametrize("raw", [b"\xff\xff", b"no set", b"\x0a\x00" * 1000])
async def test_bytes_that_are_no_set_are_refused(compiler: ProposalCompiler, raw: bytes) -> None:
    found = await compiler.examine({}, raw)
    assert found.findings
    assert found.interfaces == ()


@pytest.mark.parametrize("kind", ["range", "extension"])
async def test_what_only_a_handmade_set_can_hold_is_refused_for_what_it_is(
    compiler: ProposalCompiler, kind: str
) -> None:
    found = await compiler.examine({}, handmade(kind))
    assert "file.compiles" in {rule for _, rule in broken(found)}


async def test_a_set_whose_types_are_missing_is_refused(compiler: ProposalCompiler) -> None:
    file = FileDescriptorProto(name="a/v1/a.proto", package="a.v1", syntax="proto3")
    kind = FieldDescriptorProto
    message = file.message_type.add(name="M")
    message.field.add(name="f", number=1, type=kind.TYPE_MESSAGE, type_name=".no.Such", label=1)
    raw = b"\x0a" + bytes([file.ByteSize()]) + file.SerializeToString()
    found = await compiler.examine({}, raw)
    assert "file.compiles" in {rule for _, rule in broken(found)}


@pytest.mark.parametrize(
    "limits",
    [
        {"wall_s": 0.05},
        {"memory_bytes": 32 << 20},
        {"cpu_s": 0},
        {"file_bytes": 1},
    ],
    ids=["time", "memory", "processor", "file"],
)
async def test_a_child_at_its_limits_ends_and_is_a_finding(limits: dict[str, Any]) -> None:
    compiler = ProposalCompiler(replace(CompilerLimits(), **limits))
    began = time.monotonic()
    found = await compiler.examine(sources(), b"")
    assert found.interfaces == ()
    assert found.findings
    assert time.monotonic() - began < 10
    assert not _children()


async def test_a_cancelled_call_leaves_no_child(compiler: ProposalCompiler) -> None:
    task = asyncio.create_task(compiler.examine(sources(), b""))
    while not _children():  # noqa: ASYNC110  # another process tells nobody that it has begun
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _children()


async def test_more_than_may_wait_are_told_to_come_again() -> None:
    compiler = ProposalCompiler(CompilerLimits(at_once=1, waiting=1))
    first = asyncio.create_task(compiler.examine(sources(), b""))
    await asyncio.sleep(0)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_TOO_MANY_CALLS)):
        await compiler.examine(sources(), b"")
    assert (await first).findings == ()


async def test_a_tree_written_from_a_set_compiles_to_the_same_set(
    compiler: ProposalCompiler, sound: Examination
) -> None:
    tree = source_tree(sound.descriptor_set)
    assert tree.pop("buf.yaml")
    again = await compiler.examine({name: text.encode() for name, text in tree.items()}, b"")
    assert again.findings == ()
    assert again.digest == sound.digest
    assert again.interfaces == sound.interfaces


def _children() -> list[int]:
    """Give the examinations that run."""
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "marketplace.proposal_examination" in " ".join(child.cmdline())
    ]


def dying(folder: Path, starts: int) -> str:
    """Give a program that ends at once so many times, then is the Python of this process."""
    program = folder / "python"
    program.write_text(
        f'#!/bin/sh\necho x >> "{folder}/starts"\n'
        f'[ "$(wc -l < "{folder}/starts")" -le {starts} ] && exit 139\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    program.chmod(0o700)
    return str(program)


@pytest.mark.fault
async def test_a_compiler_that_dies_before_it_reads_the_files_is_started_again(
    tmp_path: Path,
) -> None:
    found = await ProposalCompiler(python=dying(tmp_path, 2)).examine(sources(), b"")
    assert found.findings == ()
    assert len(found.interfaces) == 1


@pytest.mark.fault
async def test_a_compiler_that_never_starts_is_no_fault_of_the_files(tmp_path: Path) -> None:
    compiler = ProposalCompiler(python=dying(tmp_path, 99))
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_DRAINING)):
        await compiler.examine(sources(), b"")
    assert len((tmp_path / "starts").read_text().splitlines()) == 3
