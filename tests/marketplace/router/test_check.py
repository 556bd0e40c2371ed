"""Requests that no provider may see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.check import check
from tests.interfaces import method, rpc, service

BODY = (
    "message Ask {"
    " string text = 1 [(buf.validate.field).string.max_len = 5];"
    " int32 limit = 2 [(buf.validate.field).int32 = { gte: 0 lte: 10 }];"
    " map<string, int32> map = 3 [(buf.validate.field).map.values.int32.gt = 0];"
    " Ask inner = 4;"
    ' int32 odd = 5 [(buf.validate.field).cel = { id: "odd" expression: "10 / (5 - this) > 0" }];'
    "} message Item { string name = 1; }" + service(rpc(route="ROUTE_ONE", response="Item"))
)


def refusal(raw: bytes, limit_bytes: int = 10_000) -> MarketError:
    with pytest.raises(MarketError) as caught:
        check(method(BODY), raw, limit_bytes)
    return caught.value


def test_a_request_over_the_limit_is_not_parsed() -> None:
    error = refusal(b"\xff" * 101, limit_bytes=100)
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE
    assert error.code == Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "raw",
    [b"\x0a\x05ab", b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0b", b"\x22" + b"\x80" * 11],
    ids=["truncated", "bad tag", "bad UTF-8", "open group", "bad length"],
)
def test_bytes_that_do_not_parse_are_malformed(raw: bytes) -> None:
    error = refusal(raw)
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_MALFORMED
    assert error.code == Code.INVALID_ARGUMENT


def test_nesting_without_end_is_malformed() -> None:
    raw = b""
    for _ in range(200):
        length = len(raw)
        size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
        raw = b"\x22" + size + raw
    assert refusal(raw).reason == ErrorReason.ERROR_REASON_REQUEST_MALFORMED


def test_every_broken_rule_is_named_and_no_value_is_repeated() -> None:
    ask = method(BODY).request_class
    request = ask(text="secret words", limit=-7, map={"private": -1})
    error = refusal(request.SerializeToString())
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert error.code == Code.INVALID_ARGUMENT
    assert {violation.field for violation in error.violations} == {"text", "limit", "map[*]"}
    shown = error.message + str(error.violations)
    assert not any(part in shown for part in ("secret", "private", "-7"))


def test_a_request_whose_rules_cannot_be_decided_is_refused() -> None:
    request = method(BODY).request_class(odd=5)
    assert refusal(request.SerializeToString()).reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


def test_a_valid_request_comes_out_parsed() -> None:
    request = method(BODY).request_class(text="words", limit=10, inner={"limit": 1})
    assert check(method(BODY), request.SerializeToString()) == request
    assert check(method(BODY), b"") == method(BODY).request_class()


def test_protovalidate_is_not_asked_about_what_surely_keeps_the_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("marketplace.router.check.require_valid", asked.append)
    for values, count in (({"limit": 10}, 0), ({"limit": 11}, 1), ({"map": {"a": 1}}, 2)):
        check(method(BODY), method(BODY).request_class(**values).SerializeToString())
        assert len(asked) == count


@given(st.binary(max_size=60))
def test_any_bytes_give_a_request_or_a_refusal_with_a_reason(raw: bytes) -> None:
    refused: MarketError | None = None
    try:
        check(method(BODY), raw)
    except MarketError as error:
        refused = error
    assert refused is None or refused.code == Code.INVALID_ARGUMENT
