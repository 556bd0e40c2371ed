"""The router against the bare proxy: `router-one`, `router-all-3`, `router-all-3-large`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack

from grpc import aio

from bench.answers import METHOD, search_request
from bench.load import Ask, compare, measure
from bench.stage import asking, bare_proxy, operators, stage
from gem.charging.v1 import evse_search_service_pb2
from gem.mesh.v1 import provider_answer_pb2 as mesh


async def against_bare(
    providers: int, evses: int, calls: int, rounds: int = 21
) -> dict[str, float]:
    """Measure our CPU per call ÷ the bare proxy's, round by round in turn.

    `ratio` is to the proxy as it comes, `ratio_to_bare_like_ours` to one with our polling.

    Many short rounds: what else a shared machine does comes and goes within seconds.
    """
    async with (
        stage(operators(providers, evses)) as on,
        bare_proxy(on, own_polling=False) as bare,
        bare_proxy(on, own_polling=True) as bare_like_ours,
        on.channel(on.market.address) as channel,
    ):
        request = search_request().SerializeToString()
        answer = await asking(channel, request)()
        assert isinstance(answer, bytes)
        merged = evse_search_service_pb2.SearchEvsesResponse.FromString(answer)
        assert len(merged.evses) == providers * evses, "the router must give every result"
        async with on.channel(bare[0]) as first, on.channel(bare_like_ours[0]) as second:
            sides = (
                (asking(channel, request), on.worker_processes()),
                (asking(first, request), [bare[1]]),
                (asking(second, request), [bare_like_ours[1]]),
            )
            comparison = await compare(sides, calls, rounds)
    return comparison.figures()


async def router_one() -> dict[str, float]:
    """One provider with 5 EVSEs. Reach: ratio ≤ 1.30."""
    return await against_bare(1, 5, 1280)


async def router_all_3() -> dict[str, float]:
    """Three providers with 5 EVSEs each. Reach: ratio ≤ 1.30."""
    return await against_bare(3, 5, 640)


async def router_all_3_large() -> dict[str, float]:
    """Three providers with 100 EVSEs each, ordered by distance. Reach: ratio ≤ 2.0."""
    return await against_bare(3, 100, 480)


#: Calls in flight here: 50 providers are asked in each, all on this one machine.
_HUNG_IN_FLIGHT = 2
_HUNG_BUDGET_MS = 800


async def router_hung() -> dict[str, float]:
    """50 providers, 5 of them hanging. Reach: p99 ≤ 850 ms, 45 answers + 5 entries, every time."""
    answers = operators(50, 5)
    hanging = [name for index, name in enumerate(answers) if index % 10 == 0]
    answers.update(dict.fromkeys(hanging))
    counts: Counter[tuple[int, int]] = Counter()
    async with stage(answers) as on, on.channel(on.market.address) as channel:
        request = search_request().SerializeToString()
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

        async def ask() -> object:
            budget = (("gem-budget-ms", str(_HUNG_BUDGET_MS)),)
            raw = await call(request, timeout=10, metadata=budget)
            entries = evse_search_service_pb2.SearchEvsesResponse.FromString(raw).provider_answers
            well = sum(entry.status == mesh.ANSWER_STATUS_OK for entry in entries)
            counts[(well, len(entries) - well)] += 1
            return raw

        measured = await measure(ask, 100, on.worker_processes(), _HUNG_IN_FLIGHT)
    return {
        "p50_ms": round(measured.percentile_ms(50), 1),
        "p99_ms": round(measured.percentile_ms(99), 1),
        "calls": sum(counts.values()),
        "calls_with_45_answers_and_5_entries": counts[(45, 5)],
    }


async def workers() -> dict[str, float]:
    """Calls a second of two workers ÷ one. Reported, without a bound: two cores run everything."""
    per_s = {}
    for count in (1, 2):
        async with stage(operators(1, 5), workers=count) as on, AsyncExitStack() as stack:
            request = search_request().SerializeToString()
            # The kernel spreads connections over the workers: one channel would reach only one.
            channels = [
                await stack.enter_async_context(on.channel(on.market.address)) for _ in range(16)
            ]
            asks = itertools.cycle([asking(channel, request) for channel in channels])

            def ask(turn: Iterator[Ask] = asks) -> Awaitable[object]:
                return next(turn)()

            await measure(ask, 640, on.worker_processes())
            measured = await measure(ask, 3200, on.worker_processes())
            per_s[count] = measured.per_s
    return {
        "ratio": round(per_s[2] / per_s[1], 3),
        "per_s": round(per_s[2], 1),
        "per_s_one": round(per_s[1], 1),
    }
