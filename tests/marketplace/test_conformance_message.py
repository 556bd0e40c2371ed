"""Requests made from an interface's rules, for every message of the catalogue and every rule."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from random import Random

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

import gem
from foundation.validation import violations
from marketplace.conformance_message import invalid_message, valid_message
from marketplace.conformance_pattern import TEXT_LENGTH_MAX, text_for
from tests import relay_interface
from tests.interfaces import interface, rpc, service

#: Requests without a field that has a rule: there is nothing to break.
WITHOUT_RULES = {
    "gem.marketplace.v1.GetCrossSaleOptOutRequest",
    "gem.marketplace.v1.ListNotificationPreferencesRequest",
    "gem.marketplace.v1.WhoAmIRequest",
}


def methods() -> Iterator[tuple[Descriptor, Descriptor]]:
    """Give request and response of every method of the catalogue."""
    for module in pkgutil.walk_packages(gem.__path__, "gem."):
        if module.name.endswith("_service_pb2"):
            for each in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                yield from ((method.input_type, method.output_type) for method in each.methods)


REQUESTS = {request.full_name: request for request, _ in methods()}
RESPONSES = {response.full_name: response for _, response in methods()}


@pytest.mark.parametrize("name", sorted(REQUESTS))
@settings(max_examples=2)
@given(seed=st.integers(0, 2**32))
def test_every_request_of_the_catalogue_has_a_valid_one_and_an_invalid_one(
    name: str, seed: int
) -> None:
    kind = GetMessageClass(REQUESTS[name])
    valid, invalid = valid_message(kind, seed), invalid_message(kind, seed)
    assert valid is not None
    assert violations(valid) == ()
    if name in WITHOUT_RULES:
        assert invalid is None
    else:
        assert invalid is not None
        assert violations(invalid) != ()
        assert violations(kind.FromString(invalid.SerializeToString())) != ()


@given(st.sampled_from(sorted(RESPONSES)), st.integers(0, 2**32))
def test_every_response_of_the_catalogue_has_a_valid_one(name: str, seed: int) -> None:
    valid = valid_message(GetMessageClass(RESPONSES[name]), seed)
    assert valid is not None
    assert violations(valid) == ()


def test_the_same_seed_makes_the_same_message() -> None:
    kind = GetMessageClass(REQUESTS["gem.charging.v1.SearchEvsesRequest"])

    def made(seed: int) -> list[bytes]:
        found = valid_message(kind, seed), invalid_message(kind, seed)
        return [message.SerializeToString(deterministic=True) for message in found if message]

    assert made(1) == made(1)
    assert len({b"".join(made(seed)) for seed in range(20)}) > 1


def test_dynamic_messages_are_made_like_generated_ones() -> None:
    for method in relay_interface.compiled().methods.values():
        valid = valid_message(method.request_class, 7)
        invalid = invalid_message(method.request_class, 7)
        assert valid is not None
        assert invalid is not None
        assert violations(valid) == ()
        assert violations(invalid) != ()


#: Fields with rules of every kind that protovalidate has for it; each must be met and broken.
RULED = (
    "string a = 1 [(buf.validate.field).string = {min_len: 3, max_len: 5}];",
    "string a = 1 [(buf.validate.field).string.len = 4];",
    'string a = 1 [(buf.validate.field).string = {prefix: "ab", suffix: "yz", max_len: 9}];',
    'string a = 1 [(buf.validate.field).string = {contains: "mid", max_len: 9}];',
    'string a = 1 [(buf.validate.field).string = {in: ["one", "two"], max_len: 9}];',
    'string a = 1 [(buf.validate.field).string = {const: "only", max_len: 9}];',
    'string a = 1 [(buf.validate.field).string = {pattern: "^(a|b){2,3}[^0-9]$", max_len: 9}];',
    "string a = 1 [(buf.validate.field).string = {uuid: true, max_len: 40}];",
    "string a = 1 [(buf.validate.field).string = {email: true, max_len: 40}];",
    "string a = 1 [(buf.validate.field).string = {hostname: true, max_len: 40}];",
    "string a = 1 [(buf.validate.field).string = {ipv6: true, max_len: 40}];",
    "string a = 1 [(buf.validate.field).string = {uri: true, max_len: 90}];",
    "bytes a = 1 [(buf.validate.field).bytes = {min_len: 2, max_len: 4}];",
    "bytes a = 1 [(buf.validate.field).bytes = {ipv4: true, max_len: 4}];",
    "int32 a = 1 [(buf.validate.field).int32 = {gt: 10, lt: 12}];",
    "sint64 a = 1 [(buf.validate.field).sint64 = {gte: -9, lte: -7}];",
    "uint32 a = 1 [(buf.validate.field).uint32 = {in: [5, 8]}];",
    "int64 a = 1 [(buf.validate.field).int64 = {gte: 0, not_in: [0, 1]}];",
    "double a = 1 [(buf.validate.field).double = {gt: 0.5, lte: 0.75}];",
    "float a = 1 [(buf.validate.field).float = {finite: true, gt: 1}];",
    "bool a = 1 [(buf.validate.field).bool.const = true];",
    "Level a = 1 [(buf.validate.field).enum = {defined_only: true, not_in: [0]}];",
    """repeated int32 a = 1 [(buf.validate.field).repeated = {
         min_items: 2, max_items: 3, unique: true, items: {int32: {gte: 1, lte: 9}}}];""",
    """map<string, int32> a = 1 [(buf.validate.field).map = {min_pairs: 1, max_pairs: 2,
         keys: {string: {min_len: 2, max_len: 3}}, values: {int32: {gt: 4}}}];""",
    "Inner a = 1 [(buf.validate.field).required = true];",
    "repeated Inner a = 1 [(buf.validate.field).repeated = {min_items: 1, max_items: 2}];",
    "optional string a = 1 [(buf.validate.field) = {required: true, string: {max_len: 5}}];",
    "google.protobuf.Timestamp a = 1 [(buf.validate.field) = {required: true}];",
    "oneof it { option (buf.validate.oneof).required = true; int32 a = 1; Inner b = 2; }",
    """int32 a = 1 [(buf.validate.field).cel = {id: "even", message: "must be even",
         expression: "this % 2 == 0 && this > 0"}];""",
)
_REST = """
enum Level { LEVEL_UNSPECIFIED = 0; LEVEL_HIGH = 1; }
message Inner { string name = 1 [(buf.validate.field).string = {min_len: 1, max_len: 5}]; }
message Found { int32 size = 1; }
"""


@pytest.mark.parametrize("field", RULED)
def test_each_kind_of_rule_is_met_and_broken(field: str) -> None:
    body = f"message Ask {{ {field} }}" + _REST + service(rpc(route="ROUTE_ONE"))
    (method,) = interface(body).methods.values()
    valid, invalid = valid_message(method.request_class), invalid_message(method.request_class)
    assert valid is not None
    assert violations(valid) == ()
    assert invalid is not None
    assert violations(invalid) != ()


def test_what_no_message_can_obey_is_given_up() -> None:
    never = """{id: "no", expression: "this > 0 ? 'never' : 'never'"}"""
    field = f"int32 a = 1 [(buf.validate.field).cel = {never}];"
    body = f"message Ask {{ {field} }}" + _REST + service(rpc(route="ROUTE_ONE"))
    (method,) = interface(body).methods.values()
    assert valid_message(method.request_class) is None
    assert isinstance(invalid_message(method.request_class), Message)


PATTERNS = (
    "^[A-Za-z0-9._:-]{1,64}$",
    r"^[A-Z]{2}\*?[A-Z0-9]{3}\*?E[A-Z0-9*]{1,30}$",
    "^([0-9]{4}-[0-9]{2}-[0-9]{2})?$",
    "^2[0-9]{3}-(0[1-9]|1[0-2])$",
    r"^[^\x00-\x1f\x7f-\x9f]*$",
    r"^\d{3}\w+\.(?:a|b)?[]x-]+$",
    "a.c+?d*",
)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(seed=st.integers(0, 2**32), shortest=st.booleans())
def test_texts_match_their_pattern(pattern: str, seed: int, shortest: bool) -> None:
    text = text_for(pattern, Random(seed), shortest=shortest)
    assert text is not None
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [r"\pL+", "(", "[a", "a{2", "*a", "(?i)a", "((a{1000}){1000}){1000}", "(" * 50 + ")" * 50,
     "a" * 3000, "[[:alpha:]]", "b{5,2}", r"\x{110000000}", "[^\\x00-\\x{10ffff}]"],
)  # fmt: skip
def test_patterns_that_are_not_understood_or_ask_for_too_much_give_nothing(pattern: str) -> None:
    assert text_for(pattern, Random(1)) is None


@given(st.text(max_size=60))
def test_no_pattern_breaks_the_search(pattern: str) -> None:
    text = text_for(pattern, Random(1))
    assert text is None or len(text) <= TEXT_LENGTH_MAX
