"""What a descriptor set may not be, before anybody looks at its interfaces."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2

from foundation.errors import MarketError
from marketplace.router.descriptor_files import FILES_MAX, NESTING_MAX, SET_BYTES_MAX
from marketplace.router.interface import compile_interface
from tests.interfaces import (
    ALL,
    ASK,
    FILE,
    FOUND,
    HEADER,
    descriptor_set,
    handmade,
    rules_broken,
    without_source_info,
)


def test_bytes_that_are_no_descriptor_set_are_refused() -> None:
    assert rules_broken(b"\xff\xff\xff") == {"set.parses"}
    assert rules_broken(b"") == {"set.interface"}


def test_a_set_that_is_too_large_is_refused_unread() -> None:
    assert rules_broken(b"\0" * (SET_BYTES_MAX + 1)) == {"set.size"}


def test_too_many_files_are_refused() -> None:
    files = descriptor_pb2.FileDescriptorSet()
    for number in range(FILES_MAX + 1):
        files.file.add(name=f"{number}.proto")
    assert rules_broken(files.SerializeToString()) == {"set.files"}


def test_messages_nested_too_deep_are_refused() -> None:
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="a.proto", package="a.v1", syntax="proto3")
    message = file.message_type.add(name="M")
    for _ in range(NESTING_MAX):
        message = message.nested_type.add(name="M")
    assert rules_broken(files.SerializeToString()) == {"set.nesting"}


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("message_type", "set.messages"),
        ("enum_type", "set.enum_values"),
        ("service", "set.methods"),
    ],
)
def test_too_many_of_anything_are_refused(kind: str, rule: str) -> None:
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="a.proto", package="a.v1", syntax="proto3")
    for number in range(1_001 if kind == "message_type" else 1):
        element = getattr(file, kind).add(name=f"E{number}")
        if kind == "enum_type":
            element.value.extend([descriptor_pb2.EnumValueDescriptorProto(name="A")] * 10_001)
        if kind == "service":
            element.method.extend([descriptor_pb2.MethodDescriptorProto(name="A")] * 101)
    assert rules_broken(files.SerializeToString()) == {rule}


@pytest.mark.parametrize(
    "package", ["gem.marketplace.v1", "gem.options.v2", "gem.mesh.v1", "google.rpc", "buf.x.v1",
                "grpc.health.v1", "gem.router.columns.v1", "gem.common.v1"],
)  # fmt: skip
def test_names_of_reserved_packages_cannot_be_defined(package: str) -> None:
    files = descriptor_pb2.FileDescriptorSet()
    files.file.add(name="mine.proto", package=package, syntax="proto3")
    assert rules_broken(files.SerializeToString()) == {"file.reserved"}


@pytest.mark.parametrize(
    "package", ["", "gem", "acme", "acme.v", "Acme.v1", "acme.v1.more", "a..v1"]
)
def test_a_package_needs_a_version(package: str) -> None:
    files = descriptor_pb2.FileDescriptorSet()
    files.file.add(name="mine.proto", package=package, syntax="proto3")
    assert rules_broken(files.SerializeToString()) == {"file.package"}


def test_other_syntaxes_than_proto3_are_refused() -> None:
    files = without_source_info(descriptor_set(ASK + FOUND + ALL))
    files.file[-1].syntax = "proto2"
    assert rules_broken(files.SerializeToString()) == {"file.syntax"}


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "a b.proto", "x" * 300 + ".proto", "a\n.proto"]
)
def test_file_names_that_could_not_be_shown_are_refused_and_not_shown(name: str) -> None:
    files = descriptor_pb2.FileDescriptorSet()
    files.file.add(name=name, package="a.v1", syntax="proto3")
    with pytest.raises(MarketError) as caught:
        compile_interface(files.SerializeToString())
    assert [violation.rule for violation in caught.value.violations] == ["file.name"]
    assert caught.value.violations[0].field == "file 0"


def test_a_file_twice_a_missing_import_and_a_circle_are_refused() -> None:
    files = without_source_info(descriptor_set(ASK + FOUND + ALL))
    files.file.append(files.file[-1])
    assert rules_broken(files.SerializeToString()) == {"file.once"}
    del files.file[-1]
    files.file[-1].dependency.append("missing.proto")
    assert rules_broken(files.SerializeToString()) == {"file.imports"}
    files.file[-1].dependency[-1] = FILE
    assert rules_broken(files.SerializeToString()) == {"file.imports"}


def test_a_file_that_does_not_link_is_refused_without_its_words() -> None:
    files = without_source_info(descriptor_set(ASK + FOUND + ALL))
    files.file[-1].message_type[0].field[0].type_name = ".acme.Secret"
    files.file[-1].message_type[0].field[0].type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    with pytest.raises(MarketError) as caught:
        compile_interface(files.SerializeToString())
    (violation,) = caught.value.violations
    assert (violation.field, violation.rule) == (FILE, "file.compiles")
    assert "Secret" not in violation.description


@pytest.mark.parametrize("kind", ["range", "extension"])
def test_what_only_a_handmade_set_can_hold_is_refused_without_its_words(kind: str) -> None:
    with pytest.raises(MarketError) as caught:
        compile_interface(handmade(kind))
    assert {violation.rule for violation in caught.value.violations} == {"file.compiles"}
    assert "secret" not in str(caught.value.violations)


def test_rules_of_protovalidate_cannot_be_extended() -> None:
    body = (
        "extend buf.validate.StringRules { optional bool odd = 1234"
        ' [(buf.validate.predefined).cel = { id: "odd" expression: "true" }]; }'
    )
    raw = descriptor_set(body, header=HEADER.replace("proto3", "proto2"))
    files = without_source_info(raw)
    files.file[-1].syntax = "proto3"
    assert "file.extends" in rules_broken(files.SerializeToString())


def test_the_marketplaces_own_files_stand_in_place_of_the_publishers() -> None:
    files = without_source_info(descriptor_set(ASK + FOUND + ALL))
    for file in files.file:
        if file.name == "gem/mesh/v1/provider_answer.proto":
            # A publisher whose ProviderAnswer carries the latency where the provider id belongs.
            file.message_type[0].field[0].name = "forged"
    (rules,) = compile_interface(files.SerializeToString())
    (method,) = rules.methods.values()
    answers = method.response_class.DESCRIPTOR.fields_by_name["answers"].message_type
    assert answers is not None
    assert "forged" not in answers.fields_by_name
    assert "provider_id" in answers.fields_by_name


def test_the_marketplaces_own_files_need_not_be_sent() -> None:
    whole = descriptor_set(ASK + FOUND + ALL)
    own = without_source_info(whole)
    del own.file[:-1]
    (rules,) = compile_interface(own.SerializeToString())
    (again,) = compile_interface(rules.descriptor_set)
    assert again.descriptor_set == rules.descriptor_set


def test_the_stored_set_does_not_depend_on_the_order_of_files() -> None:
    files = without_source_info(descriptor_set(ASK + FOUND + ALL))
    (rules,) = compile_interface(files.SerializeToString())
    turned = descriptor_pb2.FileDescriptorSet(file=reversed(files.file))
    (again,) = compile_interface(turned.SerializeToString())
    assert again.descriptor_set == rules.descriptor_set
