from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.ask import (
    CANCELLED,
    IN_DOUBT,
    INVALID_ANSWER,
    OK,
    REFUSED,
    TIMED_OUT,
    UNREACHABLE,
)
from marketplace.router.budget import RouterLimits
from marketplace.router.transport import ProviderFailure
from tests.relay_market import (
    FakeStream,
    FakeWire,
    Market,
    StreamBehaviour,
    items,
    method_of,
    query,
    refused,
    unreachable,
)


def streams(*messages: bytes, then: ProviderFailure | None = None) -> StreamBehaviour:
    """Answer the requests, once they have ended, with these messages, and perhaps fail then."""

    async def behave(stream: FakeStream) -> AsyncIterator[bytes]:
        while await stream.requests.get() is not None:
            pass
        for message in messages:
            await asyncio.sleep(0)
            yield message
        if then is not None:
            raise then

    return behave


def endless(message: bytes) -> StreamBehaviour:
    async def behave(_: FakeStream) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield message

    return behave


async def echoes(stream: FakeStream) -> AsyncIterator[bytes]:
    """Answer each request of a chat with its text as the name of an item."""
    ask = method_of("Chat").request_class
    while (raw := await stream.requests.get()) is not None:
        message: Any = ask.FromString(raw)
        yield items("Chat", message.text)


async def silent(_: FakeStream) -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def watched(raw: bytes) -> Any:
    """Parse a message of the merged stream."""
    return method_of("Watch").response_class.FromString(raw)


def names_of(method: str, messages: Sequence[bytes]) -> list[tuple[str, str]]:
    parsed: list[Any] = [method_of(method).response_class.FromString(raw) for raw in messages]
    return [(item.name, item.provider_id) for message in parsed for item in message.items]


def statuses(market: Market) -> list[int]:
    assert market.log.intents == {}, "an intent stayed open"
    return [entry.status for entry in market.log.entries]


async def failing(market: Market, method: str, *messages: bytes, **metadata: str) -> MarketError:
    with pytest.raises(MarketError) as failed:
        await market.serve(
            method, *messages, metadata={k.replace("_", "-"): v for k, v in metadata.items()}
        )
    return failed.value


@pytest.mark.parametrize("messages", [[], [b"", b""]])
async def test_a_server_stream_takes_exactly_one_request(messages: list[bytes]) -> None:
    market = Market("alpha")
    error = await failing(market, "WatchOne", *messages)
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_COUNT
    assert market.events == []


@pytest.mark.parametrize("method", ["Watch", "WatchOne", "WatchFirst", "Upload", "Chat"])
async def test_no_stream_is_opened_when_its_intent_cannot_be_kept(method: str) -> None:
    market = Market("alpha")
    market.log.intend_error = MarketError(ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE, "away")
    await failing(market, method, b"")
    assert market.providers.opened == []
    assert market.log.entries == []


async def test_a_wrong_first_message_reaches_nobody() -> None:
    market = Market("alpha")
    error = await failing(market, "Chat", query("Chat", "x" * 101))
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert market.providers.opened == []


@pytest.mark.parametrize(("method", "status"), [("Chat", CANCELLED), ("Upload", IN_DOUBT)])
async def test_a_wrong_later_message_ends_the_call_and_the_provider_s(
    method: str, status: int
) -> None:
    market = Market("alpha")
    market.providers.streams = {"alpha": silent}
    error = await failing(market, method, query(method, "fine"), query(method, "x" * 101))
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert market.providers.opened[0].cancelled
    assert statuses(market) == [status]


@pytest.mark.parametrize("answers", [[], [items("Upload"), items("Upload")]])
async def test_an_upload_with_no_or_two_answers_is_an_invalid_answer(answers: list[bytes]) -> None:
    market = Market("alpha")
    market.providers.streams = {"alpha": streams(*answers)}
    error = await failing(market, "Upload", b"")
    assert error.reason == ErrorReason.ERROR_REASON_ANSWER_INVALID
    assert market.wire.sent == []
    assert statuses(market) == [INVALID_ANSWER]


async def test_the_answer_of_an_upload_leaves_when_its_entry_is_durable() -> None:
    market = Market("alpha")
    market.providers.streams = {"alpha": streams(items("Upload", "done"))}
    await market.serve("Upload", *(query("Upload", text) for text in "abc"))
    assert market.events == ["intend 1", "ask alpha", "end alpha", "record 1", "write"]
    (entry,) = market.log.entries
    assert (entry.status, entry.request_bytes) == (OK, 9)
    assert names_of("Upload", market.wire.sent) == [("done", "alpha")]


async def test_a_chat_goes_both_ways_message_by_message() -> None:
    market = Market("alpha")
    market.providers.streams = {"alpha": echoes}
    call = market.call("Chat", query("Chat", "one"))
    wire = call.wire
    assert isinstance(wire, FakeWire)
    assert wire.incoming.get_nowait() is not None
    assert wire.incoming.get_nowait() is None
    wire.incoming.put_nowait(query("Chat", "one"))
    task = asyncio.create_task(market.router.serve(call))
    for text in ("two", "three", None):
        await wire.wrote.wait()
        wire.wrote.clear()
        wire.incoming.put_nowait(None if text is None else query("Chat", text))
    await task
    assert names_of("Chat", wire.sent) == [(text, "alpha") for text in ("one", "two", "three")]
    assert statuses(market) == [OK]


async def test_a_stream_is_relayed_and_recorded_before_it_ends() -> None:
    market = Market("alpha")
    market.providers.streams = {"alpha": streams(items("WatchOne", "a"), items("WatchOne", "b"))}
    await market.serve("WatchOne", query("WatchOne", "x"))
    assert market.events == [
        *("intend 1", "ask alpha", "write", "write", "end alpha", "record 1"),
    ]
    assert names_of("WatchOne", market.wire.sent) == [("a", "alpha"), ("b", "alpha")]
    assert market.log.entries[0].item_count == 2


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (streams(items("WatchOne", "a"), then=unreachable()), UNREACHABLE),
        (streams(items("WatchOne", "a"), then=refused()), REFUSED),
        (streams(items("WatchOne", "a"), b"\xff"), INVALID_ANSWER),
    ],
)
async def test_a_stream_that_breaks_fails_the_call_after_what_had_come(
    behaviour: StreamBehaviour, status: int
) -> None:
    market = Market("alpha")
    market.providers.streams = {"alpha": behaviour}
    await failing(market, "WatchOne", b"")
    assert names_of("WatchOne", market.wire.sent) == [("a", "alpha")]
    assert statuses(market) == [status]


@pytest.mark.usecase(1241)
async def test_streams_of_all_providers_become_one_that_ends_with_their_answers() -> None:
    market = Market("alpha", "beta", "gamma", "delta")
    market.providers.streams = {
        "alpha": streams(*(items("Watch", f"a{n}") for n in range(40))),
        "beta": streams(items("Watch", "b"), then=refused()),
        "gamma": silent,
        "delta": streams(b"\xff"),
    }
    await market.serve("Watch", b"", metadata={"gem-budget-ms": "300"})
    *messages, last = market.wire.sent
    got = names_of("Watch", messages)
    assert sorted(got) == sorted([*((f"a{n}", "alpha") for n in range(40)), ("b", "beta")])
    assert [name for name in got if name[1] == "alpha"] == [(f"a{n}", "alpha") for n in range(40)]
    entries = watched(last).provider_answers
    expected = [OK, REFUSED, TIMED_OUT, INVALID_ANSWER]
    assert [entry.status for entry in entries] == expected
    assert [entry.item_count for entry in entries] == [40, 1, 0, 0]
    assert statuses(market) == expected
    assert market.events[-2:] == ["record 4", "write"]


async def test_a_provider_cannot_speak_for_others_within_a_stream() -> None:
    market = Market("alpha")
    forged: Any = method_of("Watch").response_class()
    forged.provider_answers.add(provider_id="beta", status=OK, item_count=99)
    market.providers.streams = {"alpha": streams(forged.SerializeToString())}
    await market.serve("Watch", b"")
    first, last = (watched(raw) for raw in market.wire.sent)
    assert not first.provider_answers
    assert [entry.provider_id for entry in last.provider_answers] == ["alpha"]


async def test_when_every_stream_fails_the_call_fails() -> None:
    market = Market("alpha", "beta")
    market.providers.streams = dict.fromkeys(("alpha", "beta"), streams(then=refused()))
    error = await failing(market, "Watch", b"")
    assert error.code == Code.NOT_FOUND
    assert market.wire.sent == []
    assert statuses(market) == [REFUSED, REFUSED]


async def test_a_slow_caller_slows_its_providers_down() -> None:
    market = Market("alpha", limits=RouterLimits(stream_buffer_messages=4))
    given_away = 0

    async def counts(_: FakeStream) -> AsyncIterator[bytes]:
        nonlocal given_away
        while True:
            await asyncio.sleep(0)
            given_away += 1
            yield items("Watch", "a")

    market.providers.streams = {"alpha": counts}
    call = market.call("Watch", b"")

    class SlowWire(FakeWire):
        async def write(self, message: bytes) -> None:
            await asyncio.Event().wait()

    call.wire = SlowWire([], b"")
    task = asyncio.create_task(market.router.serve(call))
    await asyncio.sleep(0.1)
    assert 4 <= given_away <= 7
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert statuses(market) == [CANCELLED]


async def test_the_next_provider_streams_when_the_first_hangs_before_any_message() -> None:
    market = Market("alpha", "beta")
    market.providers.streams = {"alpha": silent, "beta": streams(items("WatchFirst", "b"))}
    await market.serve("WatchFirst", b"", metadata={"gem-budget-ms": "200"})
    assert names_of("WatchFirst", market.wire.sent) == [("b", "beta")]
    assert statuses(market) == [TIMED_OUT, OK]


async def test_there_is_no_way_back_after_the_first_message() -> None:
    market = Market("alpha", "beta")
    market.providers.streams = {
        "alpha": streams(items("WatchFirst", "a"), then=unreachable()),
        "beta": streams(items("WatchFirst", "b")),
    }
    await failing(market, "WatchFirst", b"")
    assert market.providers.asked == ["alpha"]
    assert statuses(market) == [UNREACHABLE]


@pytest.mark.parametrize("method", ["Watch", "WatchOne", "WatchFirst", "Upload", "Chat"])
async def test_a_cancelled_stream_ends_its_providers_and_is_recorded(method: str) -> None:
    names = ("alpha", "beta") if method == "Watch" else ("alpha",)
    market = Market(*names)
    market.providers.streams = dict.fromkeys(names, silent)
    task = asyncio.create_task(market.router.serve(market.call(method, b"")))
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(stream.cancelled for stream in market.providers.opened)
    assert len(market.providers.opened) == len(names)
    expected = IN_DOUBT if method == "Upload" else CANCELLED
    assert statuses(market) == [expected] * len(names)


WAYS = ("ok", "two", "refused", "breaks", "garbage", "silent", "endless")


def way_of(way: str, method: str) -> StreamBehaviour:
    raw = items(method, "x")
    return {
        "ok": streams(raw),
        "two": streams(raw, raw),
        "refused": streams(then=refused()),
        "breaks": streams(raw, then=unreachable()),
        "garbage": streams(raw, b"\xff\xff"),
        "silent": silent,
        "endless": endless(raw),
    }[way]


@pytest.mark.fault
@pytest.mark.usecase(1491)
@settings(max_examples=100)
@given(
    ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=4),
    method=st.sampled_from(["Watch", "WatchOne", "WatchFirst", "Upload", "Chat"]),
    cancel_after=st.none() | st.integers(0, 40),
    seed=st.integers(0, 2**32),
)
def test_each_stream_opened_has_exactly_one_entry_whatever_happens(
    ways: list[str], method: str, cancel_after: int | None, seed: int
) -> None:
    names = [f"p{number}" for number in range(len(ways))]
    names = names if method in {"Watch", "WatchFirst"} else names[:1]
    rng = random.Random(seed)

    async def scenario() -> None:
        market = Market(*names)
        behaviours = [way_of(way, method) for way in ways]
        market.providers.streams = dict(zip(names, behaviours, strict=False))
        market.log.delay_s = rng.choice((0.0, 0.001))
        task = asyncio.create_task(
            market.router.serve(market.call(method, query(method), deadline_s=0.04))
        )
        for _ in range(cancel_after if cancel_after is not None else 0):
            await asyncio.sleep(0)
        if cancel_after is not None:
            task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert end is None or isinstance(end, MarketError | asyncio.CancelledError), end
        entries = market.log.entries
        assert market.log.intents == {}
        assert [entry.provider_id for entry in entries] == names[: len(entries)]
        assert market.providers.asked == names[: len(market.providers.asked)]
        assert len(market.providers.asked) <= len(entries)
        assert all(stream.cancelled for stream in market.providers.opened)
        assert (end is None) <= any(entry.status == OK for entry in entries)

    asyncio.run(scenario())
