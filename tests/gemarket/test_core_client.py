"""The client of the core services against a small server: paths, tokens, streams, failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from grpc import aio

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import notification_pb2
from gem.marketplace.v1 import notification_service_pb2 as notices
from gem.marketplace.v1 import saved_search_service_pb2 as wire
from gemarket.core_client import CoreClient

_WATCH = "NotificationService/WatchNotifications"
_PROPOSE = "InterfaceCatalogService/ProposeInterface"
_GET = "SavedSearchService/GetSavedSearch"


class Recorder(grpc.GenericRpcHandler):
    """Answers the three kinds of calls, and remembers what came."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.tokens: list[str] = []
        self.received: list[bytes] = []
        self.ended = asyncio.Event()
        self.fails = False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        self.methods.append(details.method)
        metadata = dict(details.invocation_metadata or ())
        self.tokens.append(str(metadata.get("gem-session", "")))
        if details.method.endswith(_WATCH):
            return grpc.unary_stream_rpc_method_handler(self._watch)
        if details.method.endswith(_PROPOSE):
            return grpc.stream_unary_rpc_method_handler(self._propose)
        return grpc.unary_unary_rpc_method_handler(self._get)

    async def _get(self, request: bytes, context: Any) -> bytes:
        self.received.append(request)
        if self.fails:
            await context.abort(grpc.StatusCode.NOT_FOUND, "none")
        saved = wire.SavedSearch(name="evse")
        return wire.GetSavedSearchResponse(saved_search=saved).SerializeToString()

    async def _watch(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        try:
            for sequence in range(1, 1000):
                notice = notification_pb2.Notification(sequence=sequence)
                answer = notices.WatchNotificationsResponse(notification=notice)
                yield answer.SerializeToString()
                await asyncio.sleep(0.01)
        finally:
            self.ended.set()

    async def _propose(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for request in requests:
            self.received.append(request)
            if self.fails:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong")
        return catalog.ProposeInterfaceResponse().SerializeToString()


@pytest.fixture
async def recorder() -> Recorder:
    """Give what the server does."""
    return Recorder()


@pytest.fixture
async def channel(recorder: Recorder) -> AsyncIterator[aio.Channel]:
    """Give a channel to a server of the recorder."""
    server = aio.server(handlers=[recorder])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(0)


def pieces(count: int) -> Iterator[catalog.ProposeInterfaceRequest]:
    """Give the messages of an upload."""
    for number in range(count):
        yield catalog.ProposeInterfaceRequest(request_id=f"{number}")


@pytest.mark.parametrize("token", ["", "a-token"])
async def test_a_call_names_its_method_in_full_and_carries_the_token(
    recorder: Recorder, channel: aio.Channel, token: str
) -> None:
    request = wire.GetSavedSearchRequest(name="evse")
    answer = await CoreClient(channel, token).ask(_GET, request, wire.GetSavedSearchResponse)
    assert answer.saved_search.name == "evse"
    assert recorder.methods == [f"/gem.marketplace.v1.{_GET}"]
    assert recorder.tokens == [token]
    assert recorder.received == [request.SerializeToString()]


async def test_a_refusal_comes_as_the_market_gives_it(
    recorder: Recorder, channel: aio.Channel
) -> None:
    recorder.fails = True
    client, request = CoreClient(channel), wire.GetSavedSearchRequest(name="evse")
    with pytest.raises(aio.AioRpcError) as refused:
        await client.ask(_GET, request, wire.GetSavedSearchResponse)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_stream_that_is_left_is_ended(recorder: Recorder, channel: aio.Channel) -> None:
    request, response = notices.WatchNotificationsRequest(), notices.WatchNotificationsResponse
    seen = []
    async with aclosing(CoreClient(channel, "t").stream(_WATCH, request, response)) as stream:
        async for answer in stream:
            seen.append(answer.notification.sequence)
            if len(seen) == 3:
                break
    assert seen == [1, 2, 3]
    await asyncio.wait_for(recorder.ended.wait(), 10)
    assert recorder.tokens == ["t"]


@pytest.mark.parametrize("count", [1, 5])
async def test_an_upload_sends_every_piece_in_order(
    recorder: Recorder, channel: aio.Channel, count: int
) -> None:
    response = catalog.ProposeInterfaceResponse
    await CoreClient(channel).upload(_PROPOSE, pieces(count), response)
    assert recorder.received == [each.SerializeToString() for each in pieces(count)]


async def test_an_upload_that_is_refused_ends_with_the_reason(
    recorder: Recorder, channel: aio.Channel
) -> None:
    recorder.fails = True
    with pytest.raises(aio.AioRpcError) as refused:
        await CoreClient(channel).upload(_PROPOSE, pieces(3), catalog.ProposeInterfaceResponse)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
