"""The child process that compiles and checks an upload: one task in, one answer out, then it ends.

It limits itself before it looks at any file, and its own children inherit the limits. It is given
no setting and no credential, writes below its own folder only, and connects to nothing.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
from collections.abc import Container, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from foundation.errors import MarketError
from marketplace.new_interface import new_interface, normal_digest
from marketplace.proposal_findings import (
    FINDINGS_MAX,
    Finding,
    element_lines,
    from_buf,
    from_protoc,
    from_violations,
)
from marketplace.proposal_likeness import confusable, looks_like_ours
from marketplace.router.descriptor_files import is_file_name, own_files
from marketplace.router.interface import compile_interface

#: The first line of what the child says, once it has read its task.
BEGUN = b"begun"
_LINT = {"use": ["STANDARD", "COMMENTS"], "disallow_comment_ignores": True}
_BREAKING = {"use": ["FILE"]}
_BUF_FINDINGS = 100


def main() -> None:
    """Read a task from standard input, do it, and write the answer to standard output."""
    task = json.loads(sys.stdin.buffer.read())
    # What ends this process before here is no fault of the files.
    sys.stdout.buffer.write(BEGUN + b"\n")
    sys.stdout.buffer.flush()
    _limit(task["limits"])
    answer = _examine(task) if task["task"] == "examine" else _compare(task)
    sys.stdout.write(json.dumps(answer))


def _limit(limits: dict[str, int]) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def _examine(task: dict[str, Any]) -> dict[str, Any]:
    sources = {name: base64.b64decode(text) for name, text in task["sources"].items()}
    findings: list[Finding] = []
    raw = base64.b64decode(task["descriptor_set"])
    if sources:
        raw, findings = _compiled(sources)
    else:
        findings = _own_files_changed(raw)
    if findings:
        return _answer(findings)
    return _checked(raw)


def _checked(raw: bytes) -> dict[str, Any]:
    """Check a set that a compiler made, here or at the author's."""
    try:
        interfaces = compile_interface(raw)
    except MarketError as error:
        return _answer(from_violations(error.violations, _lines(raw)) + _lint_if_parses(raw))
    findings = [
        confusable(each.name, None) for each in interfaces if looks_like_ours(each.name)
    ] + _lint(FileDescriptorSet.FromString(raw))
    whole = _with_all_imports(raw, interfaces[0].descriptor_set)
    return {
        **_answer(findings),
        "descriptor_set": base64.b64encode(whole).decode(),
        "digest": base64.b64encode(normal_digest(whole)).decode(),
        "interfaces": [_described(new_interface(each)) for each in interfaces],
    }


def _compiled(sources: dict[str, bytes]) -> tuple[bytes, list[Finding]]:
    """Compile source files beside the marketplace's own; gives the set, or findings."""
    findings = [
        Finding(f"file {place}", 0, "", "file.name", "a file name is a plain path to a .proto")
        for place, name in enumerate(sources)
        if not is_file_name(name)
    ]
    if findings:
        return b"", findings[:FINDINGS_MAX]
    own = own_files()
    sent = {name: content for name, content in sources.items() if _is_ours(name, own)}
    if sent:
        raw, _ = _protoc("own", sent, [file for name, file in own.items() if name not in sent])
        findings = _own_files_changed(raw) if raw else [_own(name) for name in sent]
        if findings:
            return b"", findings
    others = {name: content for name, content in sources.items() if name not in own}
    if not others:
        return b"", [Finding("", 0, "", "set.interface", "the upload has no file of its own")]
    return _protoc("tree", others, list(own.values()))


def _protoc(
    folder: str, sources: dict[str, bytes], imports: list[FileDescriptorProto]
) -> tuple[bytes, list[Finding]]:
    tree, output = Path(folder), Path(f"{folder}.binpb")
    for name, content in sources.items():
        path = tree / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            text = "the file and a folder have the same name"
            return b"", [Finding(name, 0, "", "file.name", text)]
    dependencies = Path(f"{folder}.imports.binpb")
    dependencies.write_bytes(FileDescriptorSet(file=imports).SerializeToString())
    done = subprocess.run(  # noqa: S603  # names are checked, and no shell reads them
        [
            *(sys.executable, "-P", "-m", "grpc_tools.protoc"),
            f"--descriptor_set_in={dependencies}",
            f"-I{tree}",
            "--include_imports",
            "--include_source_info",
            "--error_format=gcc",
            f"--descriptor_set_out={output}",
            *sources,
        ],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0 or not output.is_file():
        # The compiler writes paths as they are on disk.
        said = done.stderr.decode(errors="replace").replace(f"{tree}/", "")
        return b"", from_protoc(said, sources)
    return output.read_bytes(), []


def _own_files_changed(raw: bytes) -> list[Finding]:
    """Find files with the name of one of the marketplace's own and other content."""
    try:
        files = FileDescriptorSet.FromString(raw).file
    except DecodeError:
        return []
    own = own_files()
    ours = [file for file in files if _is_ours(file.name, own)]
    return [_own(file.name) for file in ours if _declared(file) != _declared(own[file.name])]


def _is_ours(name: str, own: Container[str]) -> bool:
    """Say whether a file is the marketplace's: those of protobuf and protovalidate are replaced."""
    return name in own and name.startswith("gem/")


def _own(name: str) -> Finding:
    text = "the marketplace's own file has other content: leave the file out"
    return Finding(name, 0, "", "file.own", text)


def _declared(file: FileDescriptorProto) -> bytes:
    """Give what a file declares; compilers differ in whether they write default JSON names."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    pending = list(copy.message_type)
    while pending:
        message = pending.pop()
        for field in (*message.field, *message.extension):
            field.ClearField("json_name")
        pending += message.nested_type
    for field in copy.extension:
        field.ClearField("json_name")
    return copy.SerializeToString(deterministic=True)


def _lint_if_parses(raw: bytes) -> list[Finding]:
    try:
        parsed = FileDescriptorSet.FromString(raw)
    except DecodeError:
        return []
    names = [file.name for file in parsed.file]
    if not all(map(is_file_name, names)):
        return []
    return _lint(parsed)


def _lint(parsed: FileDescriptorSet) -> list[Finding]:
    Path("lint.binpb").write_bytes(parsed.SerializeToString())
    own = own_files()
    names = [file.name for file in parsed.file if file.name not in own]
    paths = [part for name in names for part in ("--path", name)]
    config = json.dumps({"version": "v2", "lint": _LINT})
    return _buf(names, "lint", "lint.binpb", "--config", config, *paths)


def _compare(task: dict[str, Any]) -> dict[str, Any]:
    Path("new.binpb").write_bytes(base64.b64decode(task["descriptor_set"]))
    names = _names(Path("new.binpb").read_bytes())
    own = own_files()
    config = json.dumps({"version": "v2", "breaking": _BREAKING})
    findings: list[Finding] = []
    for interface, text in task["published"]:
        before = _reached(FileDescriptorSet.FromString(base64.b64decode(text)), interface)
        Path("old.binpb").write_bytes(before.SerializeToString())
        paths = [
            part for file in before.file if file.name not in own for part in ("--path", file.name)
        ]
        against = ("--against", "old.binpb", "--config", config)
        findings += _buf(names, "breaking", "new.binpb", *against, *paths)
    return _answer(findings)


def _reached(files: FileDescriptorSet, interface: str) -> FileDescriptorSet:
    """Give the file of an interface and all that it imports."""
    by_name = {file.name: file for file in files.file}
    package, _, service = interface.rpartition(".")
    wanted = [
        file.name
        for file in files.file
        if file.package == package and any(each.name == service for each in file.service)
    ]
    found: dict[str, FileDescriptorProto] = {}
    while wanted:
        name = wanted.pop()
        if name in by_name and name not in found:
            found[name] = by_name[name]
            wanted += by_name[name].dependency
    return FileDescriptorSet(file=[file for file in files.file if file.name in found])


def _buf(names: Iterable[str], *arguments: str) -> list[Finding]:
    program = Path(sys.executable).parent / "buf"
    environment = {**os.environ, "GOMEMLIMIT": "512MiB", "GOMAXPROCS": "1"}
    done = subprocess.run(  # noqa: S603  # names are checked, and no shell reads them
        [program, *arguments, "--error-format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    found = from_buf(done.stdout, names)[:_BUF_FINDINGS]
    if done.returncode != 0 and not found:
        return [Finding("", 0, "", f"buf.{arguments[0]}", "buf cannot read the files")]
    return found


def _with_all_imports(raw: bytes, whole: bytes) -> bytes:
    """Give the compiled set, own files from the marketplace, with the author's comments."""
    own = own_files()
    said = {file.name: file for file in FileDescriptorSet.FromString(raw).file}
    files = FileDescriptorSet.FromString(whole).file
    chosen = [file if file.name in own else said[file.name] for file in files]
    return FileDescriptorSet(file=chosen).SerializeToString(deterministic=True)


def _lines(raw: bytes) -> dict[str, tuple[str, int]]:
    try:
        return element_lines(FileDescriptorSet.FromString(raw))
    except DecodeError:
        return {}


def _names(raw: bytes) -> list[str]:
    return [file.name for file in FileDescriptorSet.FromString(raw).file]


def _described(interface: Any) -> dict[str, Any]:
    return {**asdict(interface), "shape": base64.b64encode(interface.shape).decode()}


def _answer(findings: list[Finding]) -> dict[str, Any]:
    return {"findings": [asdict(finding) for finding in findings[:FINDINGS_MAX]]}


if __name__ == "__main__":
    main()
