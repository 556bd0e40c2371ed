"""Core services over real mTLS, through the whole chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from foundation.errors import FieldViolation
from interceptors.core_services import MAX_CORE_REQUEST_BYTES, CoreServices
from tests.identities import Identity, MakeIdentity
from tests.interceptors.support import (
    CHAT,
    COLLECT,
    COUNT,
    ECHO,
    OPEN,
    OPERATE,
    PROBE,
    PUBLIC,
    ProbeMarket,
    ProbeServicer,
    Text,
    channel,
    eventually,
    refusal,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def acme(make_identity: MakeIdentity) -> Identity:
    return make_identity("acme")


@pytest.fixture
async def market(acme: Identity) -> ProbeMarket:
    market = ProbeMarket()
    market.registry.register(acme, "acme")
    return market


@pytest.fixture
async def to(
    market: ProbeMarket, acme: Identity, marketplace_identity: Identity
) -> AsyncIterator[Any]:
    async with market.listening(marketplace_identity) as at, channel(at.port, acme) as opened:
        yield opened


async def test_a_request_that_does_not_parse_is_refused(to: Any) -> None:
    for raw in (b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\xff" * 20):
        assert await refusal(to.unary_unary(ECHO)(raw)) == (INVALID, "REQUEST_MALFORMED")


async def test_a_request_larger_than_what_may_be_parsed_is_refused(to: Any) -> None:
    raw = b"\x0a\x00" * (MAX_CORE_REQUEST_BYTES // 2 + 1)
    code, reason = await refusal(to.unary_unary(ECHO)(raw))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")


async def test_a_request_without_a_message_is_refused(to: Any) -> None:
    assert await refusal(to.stream_unary(ECHO)(iter([]))) == (INVALID, "REQUEST_COUNT")
    streamed = aiter(to.stream_stream(COUNT)(iter([])))
    assert await refusal(anext(streamed)) == (INVALID, "REQUEST_COUNT")


async def test_a_malformed_message_in_a_stream_ends_it_and_its_servicer(
    market: ProbeMarket, to: Any
) -> None:
    call = to.stream_stream(CHAT)()
    await call.write(Text(text="a").SerializeToString())
    assert Text.FromString(await call.read()).text == "a"
    await call.write(b"\x0a\xff")
    assert await refusal(call.read()) == (INVALID, "REQUEST_MALFORMED")
    assert market.servicer.ends == ["Chat"]


@pytest.mark.parametrize("method", [COUNT, CHAT])
async def test_a_caller_that_cancels_a_stream_ends_its_servicer(
    method: str, market: ProbeMarket, to: Any
) -> None:
    call = to.stream_stream(method)()
    await call.write(Text(text="x" * 1000, count=2_000_000_000).SerializeToString())
    if method == COUNT:
        await call.done_writing()
    await call.read()
    await asyncio.sleep(0.05)  # the servicer is now held in a write, or waits for a message
    call.cancel()
    await eventually(lambda: len(market.live) == 0)
    assert market.servicer.ends == [method.rpartition("/")[2]]


async def test_a_rule_of_the_proto_that_is_broken_is_named(
    acme: Identity, marketplace_identity: Identity
) -> None:
    market = ProbeMarket()
    market.registry.register(acme, "acme")
    core = CoreServices(lambda _: (FieldViolation("text", "must not be empty", "string.min_len"),))
    core.add(PROBE, market.servicer)
    market.core._handlers.update(core.methods())
    async with market.listening(marketplace_identity) as at, channel(at.port, acme) as to:
        assert await refusal(to.unary_unary(ECHO)(b"")) == (INVALID, "REQUEST_INVALID")
    assert market.servicer.calls == []


def test_a_service_that_says_nobody_may_call_it_is_not_served() -> None:
    from google.protobuf.descriptor_pool import Default
    from grpc_health.v1 import health_pb2  # noqa: F401  # registers the service

    health = Default().FindServiceByName("grpc.health.v1.Health")
    with pytest.raises(ValueError, match="nobody"):
        CoreServices(lambda _: ()).add(health, object())


def test_a_servicer_without_a_method_of_its_proto_is_not_served() -> None:
    with pytest.raises(AttributeError):
        CoreServices(lambda _: ()).add(PROBE, object())


def test_a_service_is_served_once() -> None:
    core = CoreServices(lambda _: ())
    core.add(PROBE, ProbeServicer())
    with pytest.raises(ValueError, match="already"):
        core.add(PROBE, ProbeServicer())


def test_the_roles_come_from_the_proto() -> None:
    core = CoreServices(lambda _: ())
    core.add(PROBE, ProbeServicer())
    assert core.access()[OPEN] == {PUBLIC}
    assert set(core.access()) == set(core.methods()) >= {ECHO, OPERATE}
    assert [core.answers_one(method) for method in (ECHO, COLLECT, COUNT, CHAT)] == [1, 1, 0, 0]


async def test_all_four_kinds_answer(market: ProbeMarket, to: Any) -> None:
    raw = Text(text="x", count=3).SerializeToString()
    assert await to.unary_unary(ECHO)(raw) == raw
    counted = [Text.FromString(each) async for each in to.unary_stream(COUNT)(raw)]
    assert [(each.text, each.count) for each in counted] == [("x", 0), ("x", 1), ("x", 2)]
    collected = Text.FromString(await to.stream_unary(COLLECT)(iter([raw, raw])))
    assert (collected.text, collected.count) == ("x,x", 2)
    assert [each async for each in to.stream_stream(CHAT)(iter([raw, raw]))] == [raw, raw]
    assert {call.caller.subject_id for call in market.servicer.calls if call.caller} == {"acme"}
    assert [call.request_bytes for call in market.servicer.calls] == [5, 5, 10, 10]
