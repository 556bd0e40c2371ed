"""What a provider may not do to a requester, or to another provider, with its answer."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.method_rules import MethodRules
from marketplace.router.target import Price, Target
from marketplace.router.verify import InvalidAnswer, verify
from tests.interfaces import method, rpc, service

STAMPS = """
  string provider_id = {} [(gem.options.v1.stamp) = STAMP_PROVIDER_ID];
  string contract_id = {} [(gem.options.v1.stamp) = STAMP_CONTRACT_ID];
"""
BODY = f"""
message Ask {{ }}
message Item {{
  string name = 1 [(buf.validate.field).string.max_len = 5];
  {STAMPS.format(2, 3)}
  repeated Item parts = 4;
  map<string, Item> by_name = 5;
  Item best = 6;
  oneof which {{ Item first = 7; string text = 8; }}
  optional string also = 9 [(gem.options.v1.stamp) = STAMP_PROVIDER_ID];
}}
message Found {{
  repeated Item items = 1 [(buf.validate.field).repeated.max_items = 3];
  Item best = 2 [(gem.options.v1.merge) = {{ rule: MERGE_RULE_FIRST }}];
  repeated gem.mesh.v1.ProviderAnswer answers = 3;
}}
message Pages {{ repeated Plain items = 1; repeated gem.mesh.v1.ProviderAnswer answers = 3; }}
message Plain {{
  string name = 1 [(buf.validate.field).string.min_len = 1];
  {STAMPS.format(2, 3)}
}}
""" + service(
    rpc(),
    rpc("One", "ROUTE_ONE", response="Item"),
    rpc("Watch", response="stream Pages"),
    rpc("Plain", response="Pages"),
)
TARGET = Target("contract-1", "provider-1", "service-1", "1.0", "h:1", Price())
METHODS = ["Search", "Plain"]


def found(name: str = "Search") -> MethodRules:
    return method(BODY, name)


def refusal(raw: bytes, name: str = "Search", limit_bytes: int = 10_000) -> int:
    with pytest.raises(InvalidAnswer) as caught:
        verify(found(name), TARGET, raw, limit_bytes)
    return caught.value.reason


def stamps_in(message: Any) -> list[tuple[str, str]]:
    """Give what is written in every message that can be stamped, however deep."""
    seen: list[tuple[str, str]] = []
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = list(value.values())
        else:
            inner = list(value) if field.is_repeated else [value]
        for each in inner:
            if hasattr(each, "provider_id") and hasattr(each, "name"):
                seen.append((each.provider_id, each.contract_id))
            seen += stamps_in(each)
    return seen


def test_an_answer_over_the_limit_is_not_parsed() -> None:
    assert refusal(b"\xff" * 101, limit_bytes=100) == ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "raw",
    [b"\x0a\x05ab", b"\xff\xff\xff", b"\x0a\x04\x0a\x02\xff\xfe", b"\x0b", b"\x7a\xff\x7f"],
    ids=["truncated", "bad tag", "bad UTF-8", "open group", "unknown field that swallows the next"],
)
def test_bytes_that_do_not_parse_are_no_answer(raw: bytes, name: str) -> None:
    assert refusal(raw, name) == ErrorReason.ERROR_REASON_ANSWER_INVALID


def test_an_answer_that_breaks_a_rule_is_no_answer() -> None:
    response = found().response_class
    too_long = response(items=[{"name": "longer than 5"}])
    too_many = response(items=[{}] * 4)
    deep = response(items=[{"parts": [{"by_name": {"a": {"name": "longer than 5"}}}]}])
    unnamed = found("Plain").response_class(items=[{"name": "a"}, {}])
    for broken in (too_long, too_many, deep):
        assert refusal(broken.SerializeToString()) == ErrorReason.ERROR_REASON_ANSWER_INVALID
    raw = unnamed.SerializeToString()
    assert refusal(raw, "Plain") == ErrorReason.ERROR_REASON_ANSWER_INVALID


def test_a_field_given_twice_in_one_element_does_not_stand_for_another_elements() -> None:
    named, unnamed = b"\x0a\x06\x0a\x01a\x0a\x01b", b"\x0a\x00"
    assert refusal(named + unnamed, "Plain") == ErrorReason.ERROR_REASON_ANSWER_INVALID
    assert verify(found("Plain"), TARGET, named).items[0].name == "b"


@pytest.mark.usecase(1241)
def test_forged_stamps_are_overwritten_wherever_they_are() -> None:
    def item(depth: int) -> dict[str, Any]:
        forged: dict[str, Any] = {"provider_id": "another", "contract_id": "theirs", "name": "a"}
        if depth:
            inner = item(depth - 1)
            forged |= {"parts": [inner, inner], "by_name": {"k": inner}, "best": inner}
            forged |= {"first": inner, "also": "another"}
        return forged

    raw = found().response_class(items=[item(2)], best=item(2)).SerializeToString()
    answer = verify(found(), TARGET, raw)
    assert len(stamps_in(answer)) == 2 * (1 + 5 + 25)
    assert set(stamps_in(answer)) == {("provider-1", "contract-1")}
    assert answer.items[0].also == "provider-1"


def test_stamps_of_a_single_answer_are_overwritten_too() -> None:
    raw = found("One").response_class(provider_id="another").SerializeToString()
    answer = verify(found("One"), TARGET, raw)
    assert (answer.provider_id, answer.contract_id) == ("provider-1", "contract-1")


def test_stamping_makes_no_message_that_was_not_there() -> None:
    answer = verify(found(), TARGET, found().response_class(items=[{}]).SerializeToString())
    assert not answer.HasField("best")
    assert not answer.items[0].HasField("best")
    assert answer.items[0].WhichOneof("which") is None


@pytest.mark.parametrize("name", ["Search", "Watch", "Plain"])
def test_forged_provider_answers_are_dropped(name: str) -> None:
    forged = [{"provider_id": "another", "status": 3}, {"provider_id": "provider-1", "status": 1}]
    raw = found(name).response_class(answers=forged, items=[{"name": "a"}]).SerializeToString()
    answer = verify(found(name), TARGET, raw)
    assert len(answer.answers) == 0
    assert len(answer.items) == 1


@pytest.mark.parametrize("name", METHODS)
def test_unknown_fields_are_dropped_wherever_they_are(name: str) -> None:
    unknown = b"\xfa\x3e\x06secret"
    element = b"\x0a\x01a" + unknown
    if name == "Search":
        element += b"\x22" + bytes([len(element)]) + element  # parts
    raw = unknown + b"\x0a" + bytes([len(element)]) + element
    answer = verify(found(name), TARGET, raw)
    assert len(UnknownFieldSet(answer)) == len(UnknownFieldSet(answer.items[0])) == 0
    assert b"secret" not in answer.SerializeToString()
    assert answer.items[0].name == "a"


def test_items_are_counted_without_provider_answers() -> None:
    message = found().response_class(items=[{}, {}], answers=[{}] * 5)
    assert found().count_items(message) == 2
    assert found("One").count_items(found("One").response_class(parts=[{}, {}])) == 2
