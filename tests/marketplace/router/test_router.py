from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import RouteKey
from marketplace.router.ask import CANCELLED, IN_DOUBT, OK, REFUSED, TIMED_OUT, UNREACHABLE
from marketplace.router.budget import RouterLimits
from marketplace.router.transport import ProviderFailure
from tests.relay_market import (
    FakeWire,
    Market,
    fails,
    gives,
    hangs,
    items,
    method_of,
    query,
    refused,
    timed_out,
    unreachable,
    until,
)

STORAGE_AWAY = MarketError(ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE, "The storage is away.")


async def refusal(market: Market, method: str, *messages: bytes, **metadata: Any) -> MarketError:
    """Give the refusal of a call that must not reach anybody."""
    named = {key.replace("_", "-"): value for key, value in metadata.items()}
    with pytest.raises(MarketError) as refused_call:
        await market.serve(method, *messages, metadata=named)
    assert market.wire.sent == []
    return refused_call.value


def got(market: Market, method: str) -> Any:
    """Give the one answer that the caller got."""
    (raw,) = market.wire.sent
    return method_of(method).response_class.FromString(raw)


@pytest.mark.usecase(1241)
@pytest.mark.parametrize(
    ("method", "messages", "metadata", "reason"),
    [
        ("Nonsense", [b""], {}, ErrorReason.ERROR_REASON_METHOD_UNKNOWN),
        ("Get", [b"\xff"], {}, ErrorReason.ERROR_REASON_REQUEST_MALFORMED),
        ("Get", [query("Get", "x" * 101)], {}, ErrorReason.ERROR_REASON_REQUEST_INVALID),
        ("Get", [], {}, ErrorReason.ERROR_REASON_REQUEST_COUNT),
        ("Get", [b"", b""], {}, ErrorReason.ERROR_REASON_REQUEST_COUNT),
        ("Get", [b""], {"gem_provider": b"x"}, ErrorReason.ERROR_REASON_METADATA_INVALID),
        ("Search", [b""], {"gem_budget_ms": "soon"}, ErrorReason.ERROR_REASON_METADATA_INVALID),
        ("Search", [b""], {"gem_budget_ms": "0"}, ErrorReason.ERROR_REASON_BUDGET_EXCEEDED),
        ("Get", [b""], {"gem_provider": "gamma"}, ErrorReason.ERROR_REASON_NO_CONTRACT),
        ("Get", [b""], {}, ErrorReason.ERROR_REASON_PROVIDER_AMBIGUOUS),
    ],
)
async def test_a_call_that_is_refused_reaches_no_provider_and_no_entry(
    method: str, messages: list[bytes], metadata: dict[str, str | bytes], reason: int
) -> None:
    market = Market("alpha", "beta")
    error = await refusal(market, method, *messages, **metadata)
    assert error.reason == reason
    assert market.events == []


@pytest.mark.usecase(1241)
async def test_a_requester_without_a_contract_is_refused() -> None:
    market = Market()
    assert (await refusal(market, "Search", b"")).reason == ErrorReason.ERROR_REASON_NO_CONTRACT


@pytest.mark.usecase(1491)
async def test_an_answer_does_not_leave_when_its_entry_cannot_be_kept() -> None:
    market = Market("alpha")
    market.providers.behaviours = {"alpha": gives(items("Get", "x"))}
    market.log.record_error = STORAGE_AWAY
    error = await refusal(market, "Get", b"")
    assert error.reason == ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE


@pytest.mark.parametrize("method", ["Order", "OrderAll", "OrderFirst"])
async def test_a_command_is_given_to_nobody_when_its_intent_cannot_be_kept(method: str) -> None:
    market = Market("alpha")
    market.log.intend_error = STORAGE_AWAY
    await refusal(market, method, b"")
    assert market.providers.asked == []
    assert market.log.entries == []
    assert market.log.intents == {}


@pytest.mark.usecase(1241, 1491)
async def test_the_entry_is_durable_before_the_answer_leaves() -> None:
    market = Market("alpha")
    market.providers.behaviours = {"alpha": gives(items("Get", "x"))}
    await market.serve("Get", query("Get", "hello"))
    assert market.events == ["ask alpha", "record 1", "write"]
    assert [item.provider_id for item in got(market, "Get").items] == ["alpha"]


@pytest.mark.usecase(1491)
async def test_the_intent_of_a_command_is_durable_before_anybody_is_asked() -> None:
    market = Market("alpha", "beta")
    market.providers.behaviours = {name: gives(items("OrderAll")) for name in ("alpha", "beta")}
    await market.serve("OrderAll", b"")
    assert market.events == ["intend 2", "ask alpha", "ask beta", "record 2", "write"]
    assert market.log.intents == {}


@pytest.mark.usecase(1241)
async def test_all_providers_are_asked_and_each_has_its_entry_in_contract_order() -> None:
    market = Market("alpha", "beta", "gamma", "delta")
    market.providers.behaviours = {
        "alpha": gives(items("Search", "a"), after_s=0.05),
        "beta": fails(refused(), refused()),
        "gamma": hangs,
        "delta": gives(items("Search", "d")),
    }
    await market.serve("Search", query("Search", "x"), metadata={"gem-budget-ms": "200"})
    answer = got(market, "Search")
    assert [(item.name, item.provider_id) for item in answer.items] == [
        ("a", "alpha"),
        ("d", "delta"),
    ]
    statuses = [OK, REFUSED, TIMED_OUT, OK]
    assert [entry.status for entry in answer.provider_answers] == statuses
    assert [entry.status for entry in market.log.entries] == statuses
    assert [entry.value_micros for entry in market.log.entries] == [1000, 0, 0, 1000]
    assert answer.provider_answers[0].latency_us >= 40_000
    assert answer.provider_answers[3].latency_us < 40_000


async def test_the_call_fails_with_the_entries_when_every_provider_failed() -> None:
    market = Market("alpha", "beta")
    failures = [refused(Code.NOT_FOUND), refused(Code.NOT_FOUND)]
    market.providers.behaviours = {
        "alpha": fails(failures[0]),
        "beta": fails(failures[1]),
    }
    error = await refusal(market, "Search", b"")
    assert (error.reason, error.code) == (
        ErrorReason.ERROR_REASON_PROVIDER_REFUSED,
        Code.NOT_FOUND,
    )
    (details,) = error.details
    assert len(details.provider_answers) == 2  # type: ignore[attr-defined]  # ProviderAnswers
    assert [entry.status for entry in market.log.entries] == [REFUSED, REFUSED]


async def test_the_owner_of_the_key_alone_is_asked() -> None:
    owners = [(RouteKey.ROUTE_KEY_EVSE_ID, "DE*BET", "beta")]
    market = Market("alpha", "beta", owners=owners)
    market.providers.behaviours = {"beta": gives(items("GetByKey", "b"))}
    await market.serve("GetByKey", query("GetByKey", evse_id="DE*BET*E1"))
    assert market.providers.asked == ["beta"]


async def test_a_hint_chooses_among_several_providers() -> None:
    market = Market("alpha", "beta")
    market.providers.behaviours = {"beta": gives(items("Get", "b"))}
    await market.serve("Get", b"", metadata={"gem-contract": "contract-beta"})
    assert market.providers.asked == ["beta"]


@pytest.mark.parametrize("failure", [refused(), unreachable(never_sent=True)])
async def test_a_command_goes_on_to_the_next_provider_when_the_first_did_nothing(
    failure: ProviderFailure,
) -> None:
    market = Market("alpha", "beta", "gamma")
    market.providers.behaviours = {"alpha": fails(failure), "beta": gives(items("OrderFirst", "b"))}
    await market.serve("OrderFirst", b"")
    assert market.events == [
        *("intend 1", "ask alpha", "intend 1", "ask beta"),
        *("record 2", "write"),
    ]
    assert [entry.provider_id for entry in market.log.entries] == ["alpha", "beta"]


@pytest.mark.parametrize(
    "failure",
    [timed_out(), unreachable(), refused(Code.INTERNAL), refused(Code.UNAVAILABLE)],
)
async def test_a_command_that_may_have_taken_effect_is_given_to_nobody_else(
    failure: ProviderFailure,
) -> None:
    market = Market("alpha", "beta")
    market.providers.behaviours = {"alpha": fails(failure), "beta": gives(items("OrderFirst"))}
    await refusal(market, "OrderFirst", b"")
    assert market.providers.asked == ["alpha"]
    assert [entry.status for entry in market.log.entries] == [failure.status]


async def test_a_query_goes_on_to_the_next_provider_after_any_failure() -> None:
    market = Market("alpha", "beta", "gamma", "delta")
    market.providers.behaviours = {
        "alpha": hangs,
        "beta": gives(b"\xff"),
        "gamma": gives(items("GetFirst", "c")),
    }
    await market.serve("GetFirst", b"", metadata={"gem-budget-ms": "400"})
    assert market.providers.asked == ["alpha", "beta", "gamma"]
    assert market.providers.timeouts_s[0] < 0.11
    assert got(market, "GetFirst").items[0].provider_id == "gamma"
    assert len(market.log.entries) == 3


async def test_when_all_in_turn_failed_the_call_fails_with_all_entries() -> None:
    market = Market("alpha", "beta")
    market.providers.behaviours = {"alpha": fails(refused()), "beta": fails(timed_out())}
    error = await refusal(market, "GetFirst", b"")
    assert error.reason == ErrorReason.ERROR_REASON_PROVIDER_REFUSED
    assert len(market.log.entries) == 2


async def test_providers_learn_requester_contract_and_call_and_nothing_else() -> None:
    market = Market("alpha")
    market.providers.behaviours = {"alpha": gives(items("Get"))}
    await market.serve("Get", b"", metadata={"gem-provider": "alpha", "cookie": "secret"})
    (metadata,) = market.providers.metadata
    assert {key for key, _ in metadata} == {"gem-requester", "gem-contract", "gem-call"}


@pytest.mark.parametrize(
    ("method", "status"), [("Search", CANCELLED), ("OrderAll", IN_DOUBT), ("Get", CANCELLED)]
)
async def test_a_cancelled_call_cancels_its_providers_and_is_recorded(
    method: str, status: int
) -> None:
    names = ("alpha",) if method == "Get" else ("alpha", "beta", "gamma")
    market = Market(*names)
    market.providers.behaviours = dict.fromkeys(names, hangs)
    if method != "Get":
        market.providers.behaviours["beta"] = gives(items(method, "b"))
    task = asyncio.create_task(market.router.serve(market.call(method, b"")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert market.wire.sent == []
    assert market.providers.cancelled == [name for name in names if name != "beta"]
    expected = [OK if name == "beta" else status for name in names]
    assert [entry.status for entry in market.log.entries] == expected
    assert all(entry.duration_us >= 30_000 for entry in market.log.entries if entry.status != OK)
    assert market.log.intents == {}


async def test_an_impatient_second_cancel_loses_no_entry() -> None:
    market = Market("alpha", "beta")
    market.providers.behaviours = {"alpha": hangs, "beta": hangs}
    market.log.delay_s = 0.05
    task = asyncio.create_task(market.router.serve(market.call("OrderAll", b"")))
    await until(lambda: market.providers.asked)
    for _ in range(10):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(market.log.entries) == 2
    assert market.log.intents == {}


async def test_a_caller_that_is_gone_when_the_answer_leaves_changes_no_entry() -> None:
    market = Market("alpha")
    market.providers.behaviours = {"alpha": gives(items("Get", "x"))}
    call = market.call("Get", b"")

    class GoneWire(FakeWire):
        async def write(self, message: bytes) -> None:
            raise MarketError(ErrorReason.ERROR_REASON_CALL_CANCELLED, "gone")

    call.wire = GoneWire([], b"")
    with pytest.raises(MarketError):
        await market.router.serve(call)
    assert [entry.status for entry in market.log.entries] == [OK]


async def test_the_call_knows_how_many_providers_were_asked() -> None:
    market = Market("alpha", "beta")
    market.providers.behaviours = {name: gives(items("Search")) for name in ("alpha", "beta")}
    call = market.call("Search", b"")
    await market.router.serve(call)
    assert call.providers_asked == 2


async def test_all_answers_of_a_call_together_are_bounded() -> None:
    market = Market("alpha", "beta", limits=RouterLimits(max_answers_bytes=300))
    raw = items("Search", "x" * 200)
    market.providers.behaviours = {"alpha": gives(raw), "beta": gives(raw, after_s=0.02)}
    await market.serve("Search", b"")
    reasons = [entry.reason for entry in got(market, "Search").provider_answers]
    assert reasons == [0, ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE]


OUTCOMES = ("ok", "refused", "unreachable", "never sent", "timed out", "garbage", "hangs", "slow")


def behaviour_of(outcome: str, method: str, rng: random.Random) -> Any:
    """Give a provider's behaviour by its name in the property below."""
    ways = {
        "ok": gives(items(method, "x")),
        "refused": fails(*[refused(rng.choice((Code.NOT_FOUND, Code.INTERNAL)))] * 2),
        "unreachable": fails(*[unreachable()] * 2),
        "never sent": fails(*[unreachable(never_sent=True)] * 2),
        "timed out": fails(timed_out()),
        "garbage": gives(b"\xff\xff"),
        "hangs": hangs,
        "slow": gives(items(method, "y"), after_s=0.003),
    }
    return ways[outcome]


@pytest.mark.fault
@pytest.mark.usecase(1491)
@settings(max_examples=150)
@given(
    outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=6),
    method=st.sampled_from(["Search", "OrderAll", "GetFirst", "OrderFirst", "Get", "Order"]),
    cancel_after=st.none() | st.integers(0, 30),
    seed=st.integers(0, 2**32),
)
def test_each_provider_asked_has_exactly_one_entry_whatever_happens(
    outcomes: list[str], method: str, cancel_after: int | None, seed: int
) -> None:
    names = [f"p{number}" for number in range(len(outcomes))]
    names = names[:1] if method in {"Get", "Order"} else names
    rng = random.Random(seed)

    async def scenario() -> None:
        market = Market(*names)
        behaviours = [behaviour_of(outcome, method, rng) for outcome in outcomes]
        market.providers.behaviours = dict(zip(names, behaviours, strict=False))
        market.log.delay_s = rng.choice((0.0, 0.001))
        call = market.call(method, b"", deadline_s=0.03)
        task = asyncio.create_task(market.router.serve(call))
        for _ in range(cancel_after if cancel_after is not None else 0):
            await asyncio.sleep(0)
        if cancel_after is not None:
            task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        held_to(market, names, method, end)

    asyncio.run(scenario())


def held_to(market: Market, names: list[str], method: str, end: object) -> None:
    """Check the accounting of one call against what the providers saw."""
    assert end is None or isinstance(end, MarketError | asyncio.CancelledError), end
    entries = market.log.entries
    assert market.log.intents == {}, "an intent stayed open"
    assert set(market.providers.asked) <= {entry.provider_id for entry in entries}
    assert len({entry.transaction_id for entry in entries}) == len(entries)
    in_order = [entry.provider_id for entry in entries]
    assert in_order == names[: len(in_order)]
    if method in {"Search", "OrderAll"}:
        assert len(entries) in {0, len(names)}
    if end is None:
        assert any(entry.status == OK for entry in entries)
        assert len(market.wire.sent) == 1
    else:
        assert market.wire.sent == [] or isinstance(end, asyncio.CancelledError)
    interrupted = {CANCELLED, IN_DOUBT}
    if not isinstance(end, asyncio.CancelledError):
        assert not interrupted & {entry.status for entry in entries}
    if method.startswith("Order") and "First" in method:
        assert all(entry.status in {REFUSED, UNREACHABLE} for entry in entries[:-1])
