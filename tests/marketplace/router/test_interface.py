"""What a publisher may not publish, and what the compiled rules say of what may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.options.v1.options_pb2 import PartnerRole, Route, RouteKey
from marketplace.router.catalogue_rules import COSTLY_RULES_MAX, TYPES_MAX
from marketplace.router.interface import compile_interface
from tests.interfaces import (
    ALL,
    ANSWERS,
    ASK,
    FILE,
    FOUND,
    ITEM,
    ONE,
    PACKAGE,
    descriptor_set,
    interface,
    rpc,
    rules_broken,
    service,
)


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
    "a rule of a request does not compile": Refusal(
        "rules.compile",
        "message Ask { int32 a = 1 [(buf.validate.field).cel ="
        ' { id: "a" message: "a" expression: "this.nothing > 1" }]; }'
        + ITEM
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


def many_types(levels: int, fields: int) -> str:
    """Write types of which each leads to the next by many ways: paths by the power of levels."""
    types = []
    for level in range(levels):
        ways = "".join(f"M{level + 1} f{number} = {number + 1};" for number in range(fields))
        types.append(f"message M{level} {{ {ways} }}")
    last = f"message M{levels} {{ string name = 1 {STAMP}; string key = 2 {KEY}; }}"
    return " ".join([*types, last])


def test_types_with_more_paths_than_could_be_walked_are_no_trouble() -> None:
    body = many_types(40, 10) + service(rpc(route="ROUTE_ONE", request="M0", response="M0"))
    (method,) = interface(body).methods.values()
    message: Any = method.response_class()
    inner = message
    for _ in range(40):
        inner = inner.f7
    inner.name = "forged"
    method.stamp(message, "provider", "contract")
    assert inner.name == "provider"
    keyed = many_types(40, 10) + service(rpc(route="ROUTE_BY_KEY", request="M0", response="M0"))
    assert rules_broken(descriptor_set(keyed)) == {"route_key.one"}


def test_a_message_that_leads_to_too_many_types_is_refused() -> None:
    body = many_types(TYPES_MAX, 1) + service(rpc(route="ROUTE_ONE", request="M0", response="M0"))
    assert rules_broken(descriptor_set(body)) == {"types.count"}


def test_a_chain_of_as_many_types_as_may_be_compiles() -> None:
    body = many_types(TYPES_MAX - 1, 1) + service(
        rpc(route="ROUTE_ONE", request="M0", response="M0")
    )
    assert len(interface(body).methods) == 1


def test_more_costly_rules_than_compile_quickly_are_refused_unrun() -> None:
    costly = '[(buf.validate.field).string.pattern = "^(a{1000}){1000}$"]'
    number = COSTLY_RULES_MAX + 1
    fields = "".join(f"string f{each} = {each} {costly};" for each in range(1, number + 1))
    body = f"message All {{ {fields} }}" + service(
        rpc(route="ROUTE_ONE", request="All", response="All")
    )
    assert rules_broken(descriptor_set(body)) == {"rules.total"}


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


def test_the_key_may_be_inside_a_message_that_contains_itself() -> None:
    body = (
        "message Ask { Ask again = 1; Other other = 2; Where where = 3; }"
        " message Other { Ask ask = 1; }"
        f" message Where {{ Where outer = 1; string id = 2 {KEY}; }}"
    )
    (method,) = interface(
        body + ITEM + service(rpc(route="ROUTE_BY_KEY", response="Item"))
    ).methods.values()
    assert method.route_key is not None
    assert method.route_key.path == "where.id"
    assert method.route_key.read(method.request_class(where={"id": "x"})) == "x"
    assert method.route_key.read(method.request_class()) == ""


def test_versions_of_one_interface_live_side_by_side() -> None:
    old = interface(ASK + FOUND + ALL)
    new = interface(ASK + FOUND.replace("string name = 1", "int64 name = 1") + ALL)
    (first,), (second,) = old.methods.values(), new.methods.values()
    assert first.path == second.path
    assert first.response_class(items=[{"name": "a"}]).SerializeToString()
    with pytest.raises(TypeError):
        second.response_class(items=[{"name": "a"}])
