"""A publisher's descriptor set becomes a private pool of its own: it is hostile until it compiled.

The marketplace's own files and those of protobuf and protovalidate are never taken from the
publisher: ours stand in their place, so that an option means the same in every interface.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from buf.validate import validate_pb2
from gem.common.v1 import geo_pb2, identifier_pb2, money_pb2, paging_pb2, time_range_pb2
from gem.mesh.v1 import error_reason_pb2, provider_answer_pb2
from gem.options.v1 import options_pb2
from marketplace.router.findings import Findings

SET_BYTES_MAX = 4 * 1024 * 1024
FILES_MAX = 200
MESSAGES_MAX = 1_000
FIELDS_MAX = 10_000
ENUM_VALUES_MAX = 10_000
SERVICES_MAX = 50
METHODS_MAX = 100
NESTING_MAX = 8
IMPORT_DEPTH_MAX = 64

_PACKAGE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.v[0-9]+((alpha|beta)[0-9]+)?")
_FILE_NAME = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*\.proto")
_FILE_NAME_LENGTH_MAX = 200
_RESERVED = re.compile(
    r"(gem\.(marketplace|options|mesh|common|router)|google|buf|grpc)(\..*)?", re.DOTALL
)
_OWN_MODULES = (
    any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2,
    wrappers_pb2, validate_pb2, options_pb2, error_reason_pb2, provider_answer_pb2, geo_pb2,
    identifier_pb2, money_pb2, paging_pb2, time_range_pb2,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompiledFiles:
    """A descriptor set that compiled: its pool, the publisher's files, and the whole set."""

    pool: DescriptorPool
    published: tuple[FileDescriptor, ...]
    descriptor_set: bytes


def is_file_name(name: str) -> bool:
    """Say whether a name is a plain path to a .proto, which leads nowhere but down."""
    return len(name) <= _FILE_NAME_LENGTH_MAX and _FILE_NAME.fullmatch(name) is not None


def own_files() -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """Give the files by name that are the marketplace's, protovalidate's or protobuf's own."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for module in _OWN_MODULES:
        proto = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(proto)
        found[proto.name] = proto
    return found


def compile_files(descriptor_set: bytes) -> CompiledFiles:
    """Compile a `FileDescriptorSet`, with our own files in place of any under their names.

    Raises:
        MarketError: INTERFACE_INVALID with all findings of the first stage that found any.
    """
    findings = Findings()
    files = _parse(descriptor_set, findings)
    findings.check()
    own = own_files()
    published = {name: file for name, file in files.items() if name not in own}
    for file in published.values():
        _check_file(file, findings)
    _check_totals(list(published.values()), findings)
    findings.check()
    ordered = _in_order(published, own, findings)
    findings.check()
    pool = DescriptorPool()
    for file in ordered:
        try:
            pool.Add(file)
        except (TypeError, ValueError):
            findings.add(file.name, "file.compiles", "the file does not compile")
            break
    findings.check()
    whole = descriptor_pb2.FileDescriptorSet(file=ordered)
    return CompiledFiles(
        pool,
        tuple(pool.FindFileByName(name) for name in sorted(published)),
        whole.SerializeToString(deterministic=True),
    )


def _parse(
    descriptor_set: bytes, findings: Findings
) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    if len(descriptor_set) > SET_BYTES_MAX:
        findings.add("", "set.size", f"a descriptor set has at most {SET_BYTES_MAX} bytes")
        return {}
    try:
        parsed = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set)
    except DecodeError:
        findings.add("", "set.parses", "the bytes are no google.protobuf.FileDescriptorSet")
        return {}
    if len(parsed.file) > FILES_MAX:
        findings.add("", "set.files", f"a descriptor set has at most {FILES_MAX} files")
        return {}
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for place, file in enumerate(parsed.file):
        if not is_file_name(file.name):
            findings.add(f"file {place}", "file.name", "a file name is a plain path to a .proto")
        elif file.name in files:
            findings.add(file.name, "file.once", "the set holds this file twice")
        files[file.name] = file
    return files


def _check_file(file: descriptor_pb2.FileDescriptorProto, findings: Findings) -> None:
    if file.syntax != "proto3":
        findings.add(file.name, "file.syntax", 'interfaces are written in syntax = "proto3"')
    if _RESERVED.fullmatch(file.package):
        findings.add(file.name, "file.reserved", "this package is reserved for the marketplace")
    elif not _PACKAGE.fullmatch(file.package) or len(file.package) > 200:
        findings.add(file.name, "file.package", "a package is named like `acme.charging.v1`")
    if len(file.service) > SERVICES_MAX:
        findings.add(file.name, "file.services", f"a file has at most {SERVICES_MAX} services")
    for extension in file.extension:
        if not extension.extendee.startswith(".google.protobuf."):
            findings.add(
                file.name, "file.extends", "a file extends options of google.protobuf only"
            )


def _check_totals(files: list[descriptor_pb2.FileDescriptorProto], findings: Findings) -> None:
    """Bound what the set makes of memory and time before any of it is compiled."""
    messages = fields = 0
    values = sum(len(enum.value) for file in files for enum in file.enum_type)
    methods = sum(len(service.method) for file in files for service in file.service)
    pending = [(message, 1) for file in files for message in file.message_type]
    while pending:
        message, depth = pending.pop()
        messages += 1
        fields += len(message.field) + len(message.extension)
        values += sum(len(enum.value) for enum in message.enum_type)
        if depth > NESTING_MAX:
            findings.add("", "set.nesting", f"messages nest at most {NESTING_MAX} deep")
            return
        pending += [(inner, depth + 1) for inner in message.nested_type]
    for found, limit, rule, things in (
        (messages, MESSAGES_MAX, "set.messages", "messages"),
        (fields, FIELDS_MAX, "set.fields", "fields"),
        (values, ENUM_VALUES_MAX, "set.enum_values", "enum values"),
        (methods, METHODS_MAX, "set.methods", "methods"),
    ):
        if found > limit:
            findings.add("", rule, f"a descriptor set has at most {limit} {things}")


def _in_order(
    published: dict[str, descriptor_pb2.FileDescriptorProto],
    own: dict[str, descriptor_pb2.FileDescriptorProto],
    findings: Findings,
) -> list[descriptor_pb2.FileDescriptorProto]:
    """Sort the published files and what they import, dependencies first and names ascending."""
    ordered: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    under_way: set[str] = set()

    def visit(name: str, importer: str, depth: int) -> None:
        if name in ordered:
            return
        file = own.get(name) or published.get(name)
        if file is None:
            findings.add(importer, "file.imports", "the file imports one that is not in the set")
        elif name in under_way or depth > IMPORT_DEPTH_MAX:
            findings.add(importer, "file.imports", "imports form a circle or nest too deep")
        else:
            under_way.add(name)
            for dependency in sorted(file.dependency):
                visit(dependency, name, depth + 1)
            under_way.discard(name)
            ordered[name] = file

    for name in sorted(published):
        visit(name, name, 0)
    return list(ordered.values())
