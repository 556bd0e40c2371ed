"""What a publisher may not publish, and what the compiled rules say of what may."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from google.protobuf import descriptor_pb2

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import PartnerRole, Route, RouteKey
from marketplace.router.descriptor_files import FILES_MAX, NESTING_MAX, SET_BYTES_MAX
from marketplace.router.interface import compile_interface
from tests.interfaces import (
    FILE,
    HEADER,
    PACKAGE,
    descriptor_set,
    interface,
    rpc,
    service,
    without_source_info,
)

ASK = "enum Order { ORDER_UNSPECIFIED = 0; } message Ask { int32 limit = 1; string text = 2; }\n"
ANSWERS = "repeated gem.mesh.v1.ProviderAnswer answers = 15;"
ITEM = "message Item { string name = 1; repeated string tags = 2; double price = 3; Item in = 4; }"
FOUND = f"{ITEM} message Found {{ repeated Item items = 1; {ANSWERS} }}\n"
ALL = service(rpc())
ONE = service(rpc(route="ROUTE_ONE"))


def rules_broken(raw: bytes) -> set[str]:
    with pytest.raises(MarketError) as caught:
        compile_interface(raw)
    assert caught.value.reason == ErrorReason.ERROR_REASON_INTERFACE_INVALID
    assert caught.value.code == Code.INVALID_ARGUMENT
    return {violation.rule for violation in caught.value.violations}


def found_with(options: str, kind: str = "repeated Item", extra: str = "") -> str:
    merge = f"[(gem.options.v1.merge) = {{ {options} }}]"
    return f"{ASK}{ITEM}{extra} message Found {{ {kind} items = 1 {merge}; {ANSWERS} }} {ALL}"


def found_without(fields: str) -> str:
    return f"{ASK}{ITEM} message Found {{ {fields} {ANSWERS} }} {ALL}"


@dataclass(frozen=True)
class Refusal:
    rule: str
    body: str
    others: frozenset[str] = field(default_factory=frozenset)


KEY = "[(gem.options.v1.route_key) = ROUTE_KEY_EVSE_ID]"
STAMP = "[(gem.options.v1.stamp) = STAMP_PROVIDER_ID]"
LATEST = 'rule: MERGE_RULE_LATEST order_by: "{}"'
REFUSALS = {
    "no service is an interface": Refusal("set.interface", f"{ASK}{FOUND} service S {{}}"),
    "a title is missing": Refusal(
        "service.title",
        ASK + FOUND + ALL.replace('title: "T"', ""),
    ),
    "a role does not exist": Refusal(
        "service.roles", ASK + FOUND + ALL.replace('title: "T"', 'title: "T" called_by: [77]')
    ),
    "the interface has no method": Refusal("service.methods", ASK + service()),
    "idempotency is not stated": Refusal(
        "method.idempotency_level", ASK + FOUND + service(rpc(level=""))
    ),
    "access is set on a routed method": Refusal(
        "method.access",
        ASK
        + FOUND
        + ALL.replace("} }", "option (gem.options.v1.access) = ACCESS_ROLE_PARTNER; } }"),
    ),
    "requests are streamed to all": Refusal(
        "method.client_streaming", ASK + FOUND + service(rpc(request="stream Ask"))
    ),
    "requests are streamed to the first": Refusal(
        "method.client_streaming",
        ASK + ITEM + service(rpc(route="ROUTE_FIRST", request="stream Ask", response="Item")),
    ),
    "the response of all has no provider answers": Refusal(
        "response.provider_answers",
        f"{ASK}{ITEM} message Found {{ repeated Item items = 1; }} {ALL}",
    ),
    "the response of all has them twice": Refusal(
        "response.provider_answers",
        f"{ASK} message Found {{ {ANSWERS} {ANSWERS.replace('answers', 'more').replace('15', '16')}"
        f" }} {ALL}",
    ),
    "a provider could write provider answers inside an element": Refusal(
        "response.provider_answers",
        f"{ASK} message Item {{ gem.mesh.v1.ProviderAnswer own = 1; }}"
        f" message Found {{ repeated Item items = 1; {ANSWERS} }} {ALL}",
    ),
    "a provider could write provider answers of a call to one": Refusal(
        "response.provider_answers", f"{ASK} message Found {{ {ANSWERS} }} {ONE}"
    ),
    "a singular field has no merge rule": Refusal("merge.rule", found_without("int32 count = 1;")),
    "an answer of all has a map": Refusal(
        "merge.rule", found_without("map<string, Item> items = 1;")
    ),
    "an answer of all has a oneof": Refusal(
        "merge.oneof", found_without("oneof which { string a = 1; string b = 2; }"),
        frozenset({"merge.rule"}),
    ),
    "a list is summed": Refusal("merge.rule", found_with("rule: MERGE_RULE_SUM", "repeated int32")),
    "a text is summed": Refusal("merge.rule", found_with("rule: MERGE_RULE_SUM", "string")),
    "a text has a minimum": Refusal("merge.rule", found_with("rule: MERGE_RULE_MIN", "string")),
    "a number is any": Refusal("merge.rule", found_with("rule: MERGE_RULE_ANY", "int32")),
    "a number is all true": Refusal("merge.rule", found_with("rule: MERGE_RULE_ALL_TRUE", "int32")),
    "the latest has no time": Refusal("merge.rule", found_with("rule: MERGE_RULE_LATEST", "Item")),
    "the latest goes by a text": Refusal("merge.rule", found_with(LATEST.format("name"), "Item")),
    "the latest of a time names a path": Refusal(
        "merge.rule", found_with(LATEST.format("seconds"), "google.protobuf.Timestamp")
    ),
    "a number is ordered": Refusal(
        "merge.rule", found_with('rule: MERGE_RULE_SUM order_by: "name"', "int32")
    ),
    "a number is limited": Refusal(
        "merge.rule", found_with('rule: MERGE_RULE_SUM limit_from: "limit"', "int32")
    ),
    "distinct_by names nothing": Refusal("merge.rule", found_with('distinct_by: "nothing"')),
    "distinct_by names a list": Refusal("merge.rule", found_with('distinct_by: "tags"')),
    "distinct_by names a message": Refusal("merge.rule", found_with('distinct_by: "in"')),
    "distinct_by names a float": Refusal("merge.rule", found_with('distinct_by: "price"')),
    "order_by names nothing": Refusal("merge.rule", found_with('order_by: "name.first"')),
    "order_by names a message": Refusal("merge.rule", found_with('order_by: "in desc"')),
    "order_by has too many terms": Refusal(
        "merge.rule", found_with(" ".join(['order_by: "name"'] * 9))
    ),
    "order_by names too long a path": Refusal(
        "merge.rule", found_with(f'order_by: "{"in." * 16}name"')
    ),
    "a list of texts is ordered": Refusal(
        "merge.rule", found_with('order_by: "name"', "repeated string")
    ),
    "order_from names no enum": Refusal("merge.rule", found_with('order_from: "limit"')),
    "order_from names nothing": Refusal("merge.rule", found_with('order_from: "nothing"')),
    "limit_from names a text": Refusal("merge.rule", found_with('limit_from: "text"')),
    "limit_from names nothing": Refusal("merge.rule", found_with('limit_from: "nothing"')),
    "the marketplace's own field merges": Refusal(
        "merge.answers",
        f"{ASK} message Found {{"
        f" {ANSWERS[:-1]} [(gem.options.v1.merge) = {{ rule: MERGE_RULE_CONCAT }}]; }} {ALL}",
    ),
    "a merge rule would have no effect": Refusal(
        "merge.without_effect",
        f"{ASK}{ITEM} message Found {{ repeated Item items = 1"
        f' [(gem.options.v1.merge) = {{ distinct_by: "name" }}]; }} {ONE}',
    ),
    "a merge rule would have no effect on a stream": Refusal(
        "merge.without_effect",
        f"{ASK}{ITEM} message Found {{ repeated Item items = 1"
        f' [(gem.options.v1.merge) = {{ distinct_by: "name" }}]; {ANSWERS} }}'
        + service(rpc(response="stream Found")),
    ),
    "no field is the key": Refusal("route_key.one", ASK + ITEM + service(
        rpc(route="ROUTE_BY_KEY", response="Item"))),
    "two fields are the key": Refusal(
        "route_key.one",
        f"message Ask {{ string a = 1 {KEY}; string b = 2 {KEY}; }}" + ITEM
        + service(rpc(route="ROUTE_BY_KEY", response="Item")),
    ),
    "the key is a number": Refusal(
        "route_key.string",
        f"message Ask {{ int32 a = 1 {KEY}; }}" + ITEM
        + service(rpc(route="ROUTE_BY_KEY", response="Item")),
    ),
    "the key is inside a list": Refusal(
        "route_key.string",
        f"message Ask {{ repeated One ones = 1; }} message One {{ string a = 1 {KEY}; }}" + ITEM
        + service(rpc(route="ROUTE_BY_KEY", response="Item")),
    ),
    "the key is of no kind": Refusal(
        "route_key.kind",
        f"message Ask {{ string a = 1 {KEY.replace('EVSE_ID', 'UNSPECIFIED')}; }}" + ITEM
        + service(rpc(route="ROUTE_BY_KEY", response="Item")),
    ),
    "a stamp is written over a number": Refusal(
        "stamp.string", f"{ASK} message Item {{ int32 by = 1 {STAMP}; }}"
        + service(rpc(route="ROUTE_ONE", response="Item")),
    ),
    "a stamp is written over a list": Refusal(
        "stamp.string", f"{ASK} message Item {{ repeated string by = 1 {STAMP}; }}"
        + service(rpc(route="ROUTE_ONE", response="Item")),
    ),
    "a stamp would displace another field": Refusal(
        "stamp.oneof",
        f"{ASK} message Item {{ oneof which {{ string by = 1 {STAMP}; string name = 2; }} }}"
        + service(rpc(route="ROUTE_ONE", response="Item")),
    ),
    "a rule does not compile": Refusal(
        "rules.compile",
        ASK + "message Item { int32 a = 1 [(buf.validate.field).cel ="
        ' { id: "a" message: "a" expression: "this.nothing > 1" }]; }'
        + service(rpc(route="ROUTE_ONE", response="Item")),
    ),
    "a rule is of another type than its field": Refusal(
        "rules.compile",
        ASK + "message Item { int32 a = 1 [(buf.validate.field).cel ="
        ' { id: "a" message: "a" expression: "1 +" }]; }'
        + service(rpc(route="ROUTE_ONE", response="Item")),
    ),
    "a rule runs through lists inside lists": Refusal(
        "rules.cost",
        ASK + 'message Item { option (buf.validate.message).cel = { id: "a" expression:'
        ' "this.a.all(x, this.a.all(y, x != y))" }; repeated int32 a = 1; }'
        + service(rpc(route="ROUTE_ONE", response="Item")),
    ),
    "a rule searches a list for each of a list": Refusal(
        "rules.cost",
        ASK + 'message Item { option (buf.validate.message).cel = { id: "a" expression:'
        ' "this.a.all(x, x in this.a)" }; repeated int32 a = 1; }'
        + service(rpc(route="ROUTE_ONE", response="Item")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_an_interface_is_refused_when(name: str) -> None:
    refusal = REFUSALS[name]
    assert rules_broken(descriptor_set(refusal.body)) == {refusal.rule, *refusal.others}


def test_all_findings_come_at_once_and_name_file_and_element() -> None:
    body = f"{ASK}{ITEM} message Found {{ int32 a = 1; string b = 2; {ANSWERS} }}" + service(
        rpc(level="")
    )
    with pytest.raises(MarketError) as caught:
        compile_interface(descriptor_set(body))
    places = {violation.field for violation in caught.value.violations}
    assert places == {
        f"{FILE}:{PACKAGE}.Found.a",
        f"{FILE}:{PACKAGE}.Found.b",
        f"{FILE}:{PACKAGE}.S.Search",
    }


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
    for number in range(2_001 if kind == "message_type" else 1):
        element = getattr(file, kind).add(name=f"E{number}")
        if kind == "enum_type":
            element.value.extend([descriptor_pb2.EnumValueDescriptorProto(name="A")] * 20_001)
        if kind == "service":
            element.method.extend([descriptor_pb2.MethodDescriptorProto(name="A")] * 501)
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


@pytest.mark.usecase(1485)
def test_a_service_says_who_may_implement_and_call_it() -> None:
    body = service(rpc(route="ROUTE_ONE", response="Item")).replace(
        'category: "c"',
        'category: "c" implemented_by: [PARTNER_ROLE_EVSE_OPERATOR] called_by: [PARTNER_ROLE_EVSP]',
    )
    rules = interface(ASK + ITEM + body)
    assert rules.name == f"{PACKAGE}.S"
    assert (rules.title, rules.category) == ("T", "c")
    assert rules.implemented_by == {PartnerRole.PARTNER_ROLE_EVSE_OPERATOR}
    assert rules.called_by == {PartnerRole.PARTNER_ROLE_EVSP}


def test_every_call_kind_and_route_compiles() -> None:
    rules = interface(
        f"message Ask {{ string id = 1 {KEY}; int32 limit = 2; }}"
        f" message Page {{ repeated Item items = 1; {ANSWERS} }}"
        + FOUND
        + service(
            rpc("A"),
            rpc("B", "ROUTE_UNSPECIFIED", response="Item", level="IDEMPOTENT"),
            rpc("C", "ROUTE_FIRST", response="stream Item"),
            rpc("D", "ROUTE_BY_KEY", request="stream Ask", response="stream Item"),
            rpc("E", response="stream Page"),
        )
    )
    by_name = {path.rpartition("/")[2]: method for path, method in rules.methods.items()}
    assert {name: method.route for name, method in by_name.items()} == {
        "A": Route.ROUTE_ALL,
        "B": Route.ROUTE_ONE,
        "C": Route.ROUTE_FIRST,
        "D": Route.ROUTE_BY_KEY,
        "E": Route.ROUTE_ALL,
    }
    assert [by_name[name].side_effects for name in "ABCDE"] == [False, True, False, False, False]
    assert (by_name["D"].client_streaming, by_name["D"].server_streaming) == (True, True)
    assert (by_name["E"].client_streaming, by_name["E"].server_streaming) == (False, True)
    assert [by_name[name].answers_field for name in "ABCDE"] == [
        "answers", None, None, None, "answers",
    ]  # fmt: skip
    key = by_name["D"].route_key
    assert key is not None
    assert (key.kind, key.path) == (RouteKey.ROUTE_KEY_EVSE_ID, "id")
    assert key.read(by_name["D"].request_class(id="DE*ABC*E1")) == "DE*ABC*E1"


def test_versions_of_one_interface_live_side_by_side() -> None:
    old = interface(ASK + FOUND + ALL)
    new = interface(ASK + FOUND.replace("string name = 1", "int64 name = 1") + ALL)
    (first,), (second,) = old.methods.values(), new.methods.values()
    assert first.path == second.path
    assert first.response_class(items=[{"name": "a"}]).SerializeToString()
    with pytest.raises(TypeError):
        second.response_class(items=[{"name": "a"}])
