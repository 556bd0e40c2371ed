"""The quick check of requests never passes one in which protovalidate finds a fault."""

from __future__ import annotations

import time
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from protovalidate import Validator

from bench.answers import search_request
from foundation.errors import MarketError
from gem.charging.v1 import evse_search_service_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gemarket.administration import descriptor_set
from marketplace.router import quick_check
from marketplace.router.check import check
from marketplace.router.interface import compile_interface
from marketplace.router.method_rules import MethodRules
from marketplace.router.value_rules import ValuesCheck, compile_values
from tests.interfaces import interface, method, rpc, service
from tests.marketplace.router.test_plain_check import (
    BODY,
    BREAKS,
    CHANGED,
    ITEMS,
    MONEYS,
    OTHERS,
    TARIFFS,
    VALID_ITEM,
    message_of,
)

TYPES = BODY[: BODY.index("service ")]
#: Without the types whose rules span fields, of which the quick check leaves the judging to others.
PLAIN_ITEM = {name: value for name, value in VALID_ITEM.items() if name != "ranges"}


def asking(types: str = TYPES) -> MethodRules:
    return method(types + service(rpc(route="ROUTE_ONE", request="Found", response="Mapped")))


def is_valid(rules: MethodRules, message: Any) -> bool:
    return not rules.validator.collect_violations(message)


@settings(max_examples=400)
@given(
    st.lists(st.one_of(CHANGED, CHANGED, ITEMS), max_size=5),
    message_of({}, {"total": MONEYS, "common": TARIFFS, "sums": st.lists(MONEYS, max_size=2)}),
)
def test_what_surely_keeps_the_rules_is_valid(items: list[Any], others: dict[str, Any]) -> None:
    rules = asking()
    for kept in (items, [{k: v for k, v in item.items() if k != "ranges"} for item in items]):
        request = rules.request_class(items=kept, **others)
        if rules.keeps_rules(request):
            assert is_valid(rules, request)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_plain_valid_request_surely_keeps_the_rules(count: int) -> None:
    """Else the quick check would be of no use, and nobody would notice."""
    rules = asking()
    common = {"currency": "EUR", "prices": [{"currency": "EUR"}]}
    assert rules.keeps_rules(rules.request_class(items=[PLAIN_ITEM] * count, common=common))


def test_the_search_for_evses_needs_no_other_check() -> None:
    interfaces = compile_interface(descriptor_set(evse_search_service_pb2.DESCRIPTOR))
    (search,) = (
        each for each in interfaces[0].methods.values() if each.path.endswith("/SearchEvses")
    )
    request: Any = search.request_class.FromString(search_request(10).SerializeToString())
    assert search.keeps_rules(request)
    request.circle.radius_m = -1
    assert not search.keeps_rules(request)
    assert not search.keeps_rules(search.request_class())


@pytest.mark.parametrize("name", BREAKS)
def test_an_element_is_in_doubt_where(name: str) -> None:
    rules, changed = asking(), PLAIN_ITEM | BREAKS[name]
    broken = {key: value for key, value in changed.items() if value is not None}
    request = rules.request_class(items=[PLAIN_ITEM, broken])
    assert not is_valid(rules, request)
    assert not rules.keeps_rules(request)


@pytest.mark.parametrize("name", OTHERS)
def test_a_request_is_in_doubt_in_which(name: str) -> None:
    rules = asking()
    request = rules.request_class(items=[PLAIN_ITEM], **OTHERS[name])
    assert not is_valid(rules, request)
    assert not rules.keeps_rules(request)


def test_a_list_of_one_element_too_many_is_in_doubt() -> None:
    rules = asking()
    assert not rules.keeps_rules(rules.request_class(items=[PLAIN_ITEM] * 5))


def test_a_rule_across_fields_is_left_to_protovalidate() -> None:
    rules = asking()
    request = rules.request_class(items=[VALID_ITEM])
    assert not rules.keeps_rules(request)
    check(rules, request.SerializeToString())
    broken = VALID_ITEM | {"range": {"a": 2, "b": 1}}
    with pytest.raises(MarketError) as caught:
        check(rules, rules.request_class(items=[broken]).SerializeToString())
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


def test_two_zeros_are_two_values_to_a_rule() -> None:
    gain = (
        "double gain = 19 [(buf.validate.field) = "
        "{ ignore: IGNORE_IF_ZERO_VALUE double: { gt: 0 } }];"
    )
    inverse = (
        'optional double gain = 19 [(buf.validate.field).cel = { id: "i" message: "i" '
        'expression: "1.0 / this > 0.0" }];'
    )
    rules = asking(TYPES.replace(gain, inverse))
    assert rules.keeps_rules(rules.request_class(items=[PLAIN_ITEM | {"gain": 0.0}]))
    assert not rules.keeps_rules(rules.request_class(items=[PLAIN_ITEM | {"gain": -0.0}]))


def test_a_map_is_in_doubt_and_so_is_a_rule_that_cannot_be_decided() -> None:
    odd = (
        'message Mapped { int32 odd = 3 [(buf.validate.field).cel = { id: "o" message: "o" '
        'expression: "10 / (5 - this) > 0" }];'
    )
    ask = rpc(route="ROUTE_ONE", request="Mapped", response="Mapped")
    rules = method(TYPES.replace("message Mapped {", odd) + service(ask))
    assert rules.keeps_rules(rules.request_class(odd=1))
    assert not rules.keeps_rules(rules.request_class(odd=5))
    assert not rules.keeps_rules(rules.request_class(map={"a": 1}))


def test_types_are_compiled_once_for_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def counted(field: FieldDescriptor, validator: Validator) -> ValuesCheck | None:
        compiled.append(field.full_name)
        return compile_values(field, validator)

    monkeypatch.setattr(quick_check, "compile_values", counted)
    rpcs = [rpc(f"M{each}", "ROUTE_ONE", request="Found", response="Mapped") for each in range(3)]
    rpcs.append(rpc("Other", "ROUTE_ONE", request="Solo", response="Mapped"))
    assert len(interface(TYPES + service(*rpcs)).methods) == 4
    assert compiled
    assert len(set(compiled)) == len(compiled)


def test_a_verdict_that_time_changes_is_found_again_every_time() -> None:
    until = (
        "message Found { google.protobuf.Timestamp until = 6 [(buf.validate.field).timestamp = "
        "{ gt_now: true }];"
    )
    rules = asking(TYPES.replace("message Found {", until))
    soon_s = time.time() + 0.3
    at = {"seconds": int(soon_s), "nanos": int(soon_s % 1 * 1e9)}
    raw = rules.request_class(items=[PLAIN_ITEM], until=at).SerializeToString()
    check(rules, raw)
    time.sleep(0.4)
    with pytest.raises(MarketError):
        check(rules, raw)
