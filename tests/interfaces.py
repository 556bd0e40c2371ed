"""Compiles small `.proto` texts of tests to descriptor sets, as a publisher's compiler does."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc  # type: ignore[import-untyped]  # it has no stubs

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.interface import compile_interface
from marketplace.router.method_rules import InterfaceRules, MethodRules
from proto.generate import PROTO, dependency_set

HEADER = """
syntax = "proto3";
package {package};
import "buf/validate/validate.proto";
import "gem/mesh/v1/provider_answer.proto";
import "gem/options/v1/options.proto";
import "google/protobuf/timestamp.proto";
"""
PACKAGE = "acme.test.v1"
FILE = "acme/test/v1/test.proto"


@functools.cache
def descriptor_set(body: str, package: str = PACKAGE, *, header: str = HEADER) -> bytes:
    """Compile one file with the usual imports, and give it with all that it imports."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / FILE
        source.parent.mkdir(parents=True)
        source.write_text(header.format(package=package) + body)
        dependencies = Path(scratch) / "dependencies.binpb"
        dependencies.write_bytes(dependency_set().SerializeToString())
        output = Path(scratch) / "set.binpb"
        arguments = [
            "protoc",
            f"--descriptor_set_in={dependencies}",
            f"-I{PROTO}",
            f"-I{scratch}",
            "--include_imports",
            f"--descriptor_set_out={output}",
            FILE,
        ]
        if protoc.main(arguments) != 0:
            raise AssertionError("the test's own proto does not compile")
        return output.read_bytes()


@functools.cache
def interface(body: str) -> InterfaceRules:
    """Compile a body with one standard interface."""
    (rules,) = compile_interface(descriptor_set(body))
    return rules


def method(body: str, name: str = "Search") -> MethodRules:
    """Compile a body and give one method of its service `S`."""
    return interface(body).methods[f"/{PACKAGE}.S/{name}"]


def service(*methods: str) -> str:
    """Write a standard interface `S` with these methods."""
    option = 'option (gem.options.v1.standard_interface) = { title: "T" category: "c" };'
    return f"service S {{ {option} {' '.join(methods)} }}\n"


def rpc(
    name: str = "Search",
    route: str = "ROUTE_ALL",
    *,
    request: str = "Ask",
    response: str = "Found",
    level: str = "NO_SIDE_EFFECTS",
) -> str:
    """Write one method; `request` and `response` may begin with `stream`."""
    idempotency = f"option idempotency_level = {level};" if level else ""
    return (
        f"rpc {name}({request}) returns ({response}) {{ {idempotency}"
        f" option (gem.options.v1.route) = {route}; }}"
    )


def without_source_info(raw: bytes) -> descriptor_pb2.FileDescriptorSet:
    """Parse a descriptor set, for tests that change it."""
    parsed = descriptor_pb2.FileDescriptorSet.FromString(raw)
    for file in parsed.file:
        file.ClearField("source_code_info")
    return parsed


def handmade(kind: str) -> bytes:
    """Give a set that no compiler makes: with a `range` for extensions, or an `extension` too."""
    files = without_source_info(descriptor_set(ASK + FOUND + ALL))
    (ask,) = (each for each in files.file[-1].message_type if each.name == "Ask")
    ask.extension_range.add(start=100, end=200)
    if kind == "extension":
        extendee = f".{PACKAGE}.Ask"
        ask.extension.add(name="secret", number=100, type=9, label=1, extendee=extendee)
    return files.SerializeToString()


ASK = "enum Order { ORDER_UNSPECIFIED = 0; } message Ask { int32 limit = 1; string text = 2; }\n"
ANSWERS = "repeated gem.mesh.v1.ProviderAnswer answers = 15;"
ITEM = "message Item { string name = 1; repeated string tags = 2; double price = 3; Item in = 4; }"
FOUND = f"{ITEM} message Found {{ repeated Item items = 1; {ANSWERS} }}\n"
ALL = service(rpc())
ONE = service(rpc(route="ROUTE_ONE"))


def rules_broken(raw: bytes) -> set[str]:
    """Publish a set that must be refused, and give the rules that it breaks."""
    with pytest.raises(MarketError) as caught:
        compile_interface(raw)
    assert caught.value.reason == ErrorReason.ERROR_REASON_INTERFACE_INVALID
    assert caught.value.code == Code.INVALID_ARGUMENT
    return {violation.rule for violation in caught.value.violations}
