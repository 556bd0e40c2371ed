"""An author's new interface: published while the market runs, callable on every worker at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gem.mesh.v1 import error_reason_pb2
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket.client import ReflectionClient, find_method, invoke, parse_requests
from tests.end_to_end.charging import detail_of, reason_of
from tests.end_to_end.depot import Depot, depot
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import until
from tests.end_to_end.scripted_provider import Script, ScriptedProvider, answers, hangs, refuses
from tests.end_to_end.whole_market import Party, WholeMarket

pytestmark = pytest.mark.usecase(1241)
_packages = itertools.count(1)


async def publish(whole: WholeMarket) -> Depot:
    """Put an interface into the catalogue that no worker has seen before."""
    made = depot(f"acme.depot{next(_packages)}.v1")
    await whole.technical.core.publish_interface(made.files)
    return made


async def on_every_worker(whole: WholeMarket, party: Party) -> AsyncIterator[aio.Channel]:
    """Give a channel to each worker, one after the other."""
    for channel in (await whole.channels(party)).values():
        yield channel
        await channel.close()


async def test_a_method_that_is_not_published_does_not_exist(whole: WholeMarket) -> None:
    requester = await whole.requester()
    unpublished = depot("acme.unpublished.v1")
    async for channel in on_every_worker(whole, requester):
        with pytest.raises(aio.AioRpcError) as refused:
            await unpublished.one(channel, "Find", unpublished.message("Ask")())
        assert refused.value.code() is StatusCode.UNIMPLEMENTED
        assert reason_of(refused.value) == "METHOD_UNKNOWN"


async def test_its_own_rules_hold_from_the_first_call_on(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    provider = ScriptedProvider(answers(shop.reply("a")))
    await whole.contracted(requester, provider, interface=shop.interface)
    async for channel in on_every_worker(whole, requester):
        with pytest.raises(aio.AioRpcError) as refused:
            await shop.one(channel, "Find", shop.message("Ask")(text="x" * 101))
        assert reason_of(refused.value) == "REQUEST_INVALID"
    assert provider.asked == []


async def test_one_of_several_providers_has_to_be_named(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    providers = [ScriptedProvider(answers(shop.reply(name))) for name in "ab"]
    contracts = await whole.contracted(requester, *providers, interface=shop.interface)
    request = shop.message("Ask")()
    async for channel in on_every_worker(whole, requester):
        with pytest.raises(aio.AioRpcError) as refused:
            await shop.one(channel, "Find", request)
        assert refused.value.code() is StatusCode.FAILED_PRECONDITION
        choices = detail_of(refused.value, mesh.ProviderChoices).choices
        assert {each.provider_id: each.contract_id for each in choices} == contracts
        for name, provider in zip("ab", providers, strict=True):
            for hint in (
                ("gem-provider", provider.partner_id),
                ("gem-contract", contracts[provider.partner_id]),
            ):
                answer = await shop.one(channel, "Find", request, metadata=(hint,))
                assert [part.name for part in answer.parts] == [name]
                assert answer.parts[0].provider_id == provider.partner_id


async def test_the_key_names_the_owner(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    providers = [ScriptedProvider(answers(shop.reply(name))) for name in "ab"]
    await whole.contracted(
        requester, *providers, interface=shop.interface, operator_ids=[["DE*KA1"], ["DE*KB1"]]
    )
    async for channel in on_every_worker(whole, requester):
        for name, evse_id in (("a", "DE*KA1*E5"), ("b", "deKb1e7")):
            request = shop.message("KeyedAsk")(evse_id=evse_id)
            answer = await shop.one(channel, "FindByKey", request)
            assert [part.name for part in answer.parts] == [name]


async def test_first_goes_on_until_one_succeeds(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    providers = [
        ScriptedProvider(refuses(StatusCode.UNAVAILABLE)),
        ScriptedProvider(answers(shop.reply("second"))),
        ScriptedProvider(answers(shop.reply("third"))),
    ]
    await whole.contracted(requester, *providers, interface=shop.interface)
    async for channel in on_every_worker(whole, requester):
        answer = await shop.one(channel, "FindFirst", shop.message("Ask")())
        assert [part.name for part in answer.parts] == ["second"]
    assert providers[2].asked == []
    by_call = {entry.call_id: set[int]() for entry in await entries_of(requester)}
    for entry in await entries_of(requester):
        by_call[entry.call_id].add(entry.status)
    assert list(by_call.values()) == [{mesh.ANSWER_STATUS_REFUSED, mesh.ANSWER_STATUS_OK}] * 2


async def test_streams_of_all_come_as_one_and_end_with_an_entry_each(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)

    def counting(name: str) -> Script:
        async def script(_path: str, requests: Any, _context: Any) -> AsyncIterator[bytes]:
            assert len([each async for each in requests]) == 1
            for number in range(3):
                yield shop.reply(f"{name}{number}")
                await asyncio.sleep(0.01)

        return script

    providers = [
        ScriptedProvider(counting("a")),
        ScriptedProvider(refuses(StatusCode.INTERNAL)),
        ScriptedProvider(counting("c")),
    ]
    contracts = await whole.contracted(requester, *providers, interface=shop.interface)
    async for channel in on_every_worker(whole, requester):
        messages = [each async for each in shop.call(channel, "Watch", shop.message("Ask")())]
        entries = messages[-1].provider_answers
        assert [entry.provider_id for entry in entries] == list(contracts)
        assert [entry.status for entry in entries] == [1, mesh.ANSWER_STATUS_REFUSED, 1]
        names = [part.name for message in messages for part in message.parts]
        assert sorted(names) == ["a0", "a1", "a2", "c0", "c1", "c2"]
        assert [name for name in names if name[0] == "a"] == ["a0", "a1", "a2"]
        assert all(not message.provider_answers for message in messages[:-1])


async def test_a_stream_that_is_refused_unread_keeps_the_provider_s_own_status(
    whole: WholeMarket,
) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    hasty = ScriptedProvider(refuses(StatusCode.NOT_FOUND))
    await whole.contracted(requester, hasty, interface=shop.interface)
    request = shop.message("Ask")(text="nobody reads this")

    async def code_of(method: str, *requests: Any) -> StatusCode:
        call = shop.call(requester.core.channel, method, *requests)
        try:
            return (await call.read()) and StatusCode.OK
        except aio.AioRpcError as error:
            return error.code()

    watching = [code_of("Watch", request) for _ in range(100)]
    assert set(await asyncio.gather(*watching)) == {StatusCode.NOT_FOUND}
    entries = await entries_of(requester)
    assert {(entry.status, entry.code) for entry in entries} == {(mesh.ANSWER_STATUS_REFUSED, 5)}


async def test_a_provider_may_answer_without_reading(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)

    async def hasty(_path: str, _requests: Any, _context: Any) -> AsyncIterator[bytes]:
        yield shop.reply("at once")

    await whole.contracted(requester, ScriptedProvider(hasty), interface=shop.interface)

    async def names_of() -> list[str]:
        request = shop.message("Ask")()
        call = shop.call(requester.core.channel, "Watch", request)
        return [part.name async for message in call for part in message.parts]

    answered = await asyncio.gather(*(names_of() for _ in range(100)))
    assert answered == [["at once"]] * 100


async def test_a_conversation_goes_back_and_forth(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)

    async def echo(
        _path: str, requests: AsyncIterator[bytes], _context: Any
    ) -> AsyncIterator[bytes]:
        async for raw in requests:
            yield shop.reply(shop.message("Ask").FromString(raw).text)

    await whole.contracted(requester, ScriptedProvider(echo), interface=shop.interface)
    async for channel in on_every_worker(whole, requester):
        talk: Any = channel.stream_stream(
            shop.path("Chat"),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=shop.message("Reply").FromString,
        )(timeout=10)
        for text in ("one", "two", "three"):
            await talk.write(shop.message("Ask")(text=text))
            assert [part.name for part in (await talk.read()).parts] == [text]
        await talk.done_writing()
        assert await talk.read() is aio.EOF
        assert await talk.code() is StatusCode.OK
    assert [entry.status for entry in await entries_of(requester)] == [mesh.ANSWER_STATUS_OK] * 2


async def test_a_later_version_takes_the_place_of_the_first(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    provider = ScriptedProvider(answers(shop.reply("a")))
    await whole.contracted(requester, provider, interface=shop.interface)
    wider = depot(shop.package, text_length=200)
    await whole.technical.core.publish_interface(wider.files)
    request = wider.message("Ask")(text="x" * 150)
    async for channel in on_every_worker(whole, requester):
        answer = await wider.one(channel, "Find", request)
        assert [part.name for part in answer.parts] == ["a"]


async def test_it_is_visible_in_reflection_and_health_of_every_worker(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    provider = ScriptedProvider(answers(shop.reply("a")))
    await whole.contracted(requester, provider, interface=shop.interface)
    unpublished = health_pb2.HealthCheckRequest(service="acme.unpublished.v1.S")
    async for channel in on_every_worker(whole, requester):
        assert shop.interface in await ReflectionClient(channel).services()
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=shop.interface)
        response = await health.Check(request, timeout=10)
        assert response.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(aio.AioRpcError) as refused:
            await health.Check(unpublished, timeout=10)
        assert refused.value.code() is StatusCode.NOT_FOUND
        # A caller that knows nothing but the name can call it.
        method = await find_method(channel, f"{shop.interface}/Find")
        requests = parse_requests(method, '{"text": "hello"}')
        answers_of = [each async for each in invoke(channel, method, requests, timeout_s=10)]
        assert [[part.name for part in each.parts] for each in answers_of] == [["a"]]


async def test_a_caller_that_goes_away_leaves_a_cancelled_entry(whole: WholeMarket) -> None:
    requester, shop = await whole.requester(), await publish(whole)
    provider = ScriptedProvider(hangs())
    await whole.contracted(requester, provider, interface=shop.interface)
    call = shop.call(requester.core.channel, "Find", shop.message("Ask")())
    await until(lambda: provider.asked, 10, "the provider is asked")
    call.cancel()
    await until(lambda: entries_of(requester), 10, "there is an entry")
    assert [(entry.status, entry.reason) for entry in await entries_of(requester)] == [
        (mesh.ANSWER_STATUS_CANCELLED, error_reason_pb2.ERROR_REASON_CALL_CANCELLED)
    ]
