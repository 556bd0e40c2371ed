"""Bytes that no honest program sends, to every method of a running market."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from random import Random

import psutil
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode, aio

from gem.charging.v1 import evse_search_service_pb2
from gem.marketplace.v1 import (
    contract_service_pb2,
    interface_catalog_service_pb2,
    partner_service_pb2,
    service_registry_service_pb2,
    transaction_service_pb2,
)
from gem.options.v1 import options_pb2
from tests.end_to_end.charging import evse, found
from tests.end_to_end.figures import report
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import Party, WholeMarket, running_market
from tests.hostile_messages import malformed, odd

#: reliability.md: so many of each message type.
_MESSAGES = 300
_AT_ONCE = 16
#: A hundred kilobytes of empty elements take some megabytes once parsed, and the allocator keeps
#: them for a while: this comes and goes. Without limits it would be gigabytes.
_MEMORY_BYTES = 256 << 20
_MODULES = (
    contract_service_pb2,
    evse_search_service_pb2,
    interface_catalog_service_pb2,
    partner_service_pb2,
    service_registry_service_pb2,
    transaction_service_pb2,
)
#: What the marketplace says where a request is none of its business to carry out.
_DEFECTS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.CANCELLED,
        StatusCode.DATA_LOSS,
    }
)


def methods() -> Iterator[MethodDescriptor]:
    """Give every method that the market serves or routes, apart from streams."""
    for module in _MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not method.client_streaming and not method.server_streaming:
                    yield method


async def status_of(channel: aio.Channel, path: str, raw: bytes) -> StatusCode:
    """Send bytes as the request; give the status of the call."""
    ask: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    try:
        await ask(raw, timeout=10)
    except aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


@pytest.fixture
async def whole() -> AsyncIterator[WholeMarket]:
    """Run a market of its own: a strange message may be a valid one, and change it for all."""
    async with running_market() as running:
        yield running


@pytest.mark.fault
@pytest.mark.usecase(1241)
async def test_hostile_messages_are_refused_and_cost_nothing(whole: WholeMarket) -> None:
    seed = Random().getrandbits(32)
    random = Random(seed)
    requester = await whole.requester()
    await whole.contracted(requester, ScriptedProvider(answers(found(evse("DE*HST*E1")))))
    by_role = {
        options_pb2.ACCESS_ROLE_BUSINESS_OPERATOR: whole.business,
        options_pb2.ACCESS_ROLE_TECHNICAL_OPERATOR: whole.technical,
    }
    workers = [psutil.Process(pid) for pid in whole.worker_pids().values()]
    before = [process.memory_info().rss for process in workers]
    statuses: Counter[StatusCode] = Counter()
    for method in methods():
        roles = method.GetOptions().Extensions[options_pb2.access]
        party: Party = next((by_role[role] for role in roles if role in by_role), requester)
        path = f"/{method.containing_service.full_name}/{method.name}"
        bad = [malformed(method.input_type, random) for _ in range(_MESSAGES // 2)]
        strange = [odd(method.input_type, random) for _ in range(_MESSAGES // 2)]
        for start in range(0, len(bad), _AT_ONCE):
            asks = [status_of(party.core.channel, path, raw) for raw in bad[start:][:_AT_ONCE]]
            codes = await asyncio.gather(*asks)
            assert set(codes) == {StatusCode.INVALID_ARGUMENT}, (path, seed, codes)
            statuses.update(codes)
            asks = [status_of(party.core.channel, path, raw) for raw in strange[start:][:_AT_ONCE]]
            codes = await asyncio.gather(*asks)
            assert not set(codes) & _DEFECTS, (path, seed, codes)
            statuses.update(codes)
    grown = [
        process.memory_info().rss - then for process, then in zip(workers, before, strict=True)
    ]
    report(
        "hostile messages",
        messages=statuses.total(),
        seed=seed,
        statuses={code.name: count for code, count in statuses.items()},
        grown_mb=[round(each / 1e6, 1) for each in grown],
    )
    assert max(grown) <= _MEMORY_BYTES
    assert [process.is_running() for process in workers] == [True] * len(workers)
