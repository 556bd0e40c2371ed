"""The router against the bare proxy: `router-one`, `router-all-3`, `router-all-3-large`."""

from __future__ import annotations

from bench.answers import METHOD, search_request
from bench.load import compare
from bench.stage import asking, bare_proxy, operators, stage
from gem.charging.v1 import evse_search_service_pb2


async def against_bare(providers: int, evses: int, calls: int, rounds: int = 7) -> dict[str, float]:
    """Measure our CPU per call ÷ the bare proxy's, round by round in turn."""
    async with stage(operators(providers, evses)) as on, bare_proxy(on) as (address, process):
        request = search_request().SerializeToString()
        async with on.channel(on.market.address) as ours, on.channel(address) as theirs:
            answer = await ours.unary_unary(METHOD)(request, timeout=10)
            merged = evse_search_service_pb2.SearchEvsesResponse.FromString(answer)
            assert len(merged.evses) == providers * evses, "the router must give every result"
            comparison = await compare(
                (asking(ours, request), on.worker_processes()),
                (asking(theirs, request), [process]),
                calls,
                rounds,
            )
    return comparison.figures()


async def router_one() -> dict[str, float]:
    """One provider with 5 EVSEs. Reach: ratio ≤ 1.30."""
    return await against_bare(1, 5, 3200)


async def router_all_3() -> dict[str, float]:
    """Three providers with 5 EVSEs each. Reach: ratio ≤ 1.30."""
    return await against_bare(3, 5, 1600)


async def router_all_3_large() -> dict[str, float]:
    """Three providers with 100 EVSEs each, ordered by distance. Reach: ratio ≤ 2.0."""
    return await against_bare(3, 100, 960)
