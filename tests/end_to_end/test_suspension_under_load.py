"""Contracts are suspended and resumed at random under load, on two workers.

No call that starts 50 ms or more after the acknowledgement of a suspension reaches the provider.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from secrets import randbits
from typing import Any

import pytest
from grpc import StatusCode

from tests.end_to_end.depot import Depot, depot
from tests.end_to_end.figures import report
from tests.end_to_end.load import Load
from tests.end_to_end.scripted_provider import Script, ScriptedProvider
from tests.end_to_end.whole_market import Party, WholeMarket

pytestmark = [pytest.mark.fault, pytest.mark.usecase(1241)]
_SLACK_S = 0.05
_PROVIDERS = 3


@dataclass(frozen=True, slots=True)
class Suspension:
    """A time in which a provider must not be asked: acknowledged, and about to be resumed."""

    provider_id: str
    acknowledged_s: float
    until_s: float


def noting(shop: Depot, heard_s: dict[str, float]) -> Script:
    """Answer at once and note when which request came first."""

    async def script(
        _path: str, requests: AsyncIterator[bytes], _context: Any
    ) -> AsyncIterator[bytes]:
        async for raw in requests:
            # The first time counts: what came too early is not made good by coming again.
            heard_s.setdefault(shop.message("Ask").FromString(raw).text, time.monotonic())
        yield shop.reply("a")

    return script


async def suspend_at_random(
    requester: Party, contracts: dict[str, str], chance: random.Random, rounds: int
) -> list[Suspension]:
    """Suspend and resume one contract after the other, each for a while."""
    found = []
    for _ in range(rounds):
        provider_id = chance.choice(sorted(contracts))
        await requester.core.suspend(contracts[provider_id])
        acknowledged_s = time.monotonic()
        await asyncio.sleep(chance.uniform(0.06, 0.25))
        until_s = time.monotonic()
        await requester.core.resume(contracts[provider_id])
        found.append(Suspension(provider_id, acknowledged_s, until_s))
        await asyncio.sleep(chance.uniform(0.0, 0.1))
    return found


@asynccontextmanager
async def stuttering(whole: WholeMarket, on: bool) -> AsyncIterator[None]:
    """Stop one worker after the other for a moment, as a busy machine does."""

    async def stutter() -> None:
        for pid in cycle(whole.worker_pids().values()):
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(random.uniform(0.02, 0.15))
            finally:
                os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(random.uniform(0.0, 0.1))

    task = asyncio.create_task(stutter() if on else asyncio.sleep(0))
    try:
        yield
    finally:
        task.cancel()


async def check(whole: WholeMarket, rounds: int, *, stutters: bool = False) -> None:
    """Run the callers beside the suspensions and compare who was asked with who might be."""
    seed = randbits(32)
    chance = random.Random(seed)
    shop = depot("acme.stuttering.v1" if stutters else "acme.suspended.v1")
    await whole.technical.core.publish_interface(shop.files)
    requester = await whole.requester()
    heard: dict[str, dict[str, float]] = defaultdict(dict)
    providers = [ScriptedProvider(noting(shop, {})) for _ in range(_PROVIDERS)]
    contracts = await whole.contracted(requester, *providers, interface=shop.interface)
    for provider in providers:
        provider.script = noting(shop, heard[provider.partner_id])
    load = Load(shop)
    channels = list((await whole.channels(requester)).values())
    async with load.running(channels, ["Search"], pause_s=0.002), stuttering(whole, stutters):
        suspensions = await suspend_at_random(requester, contracts, chance, rounds)
    for channel in channels:
        await channel.close()
    assert load.codes() == {StatusCode.OK: len(load.made)}, f"seed {seed}"
    started_s = {made.text: made.started_s for made in load.made}
    in_time, latest_s, meant = 0, 0.0, 0
    for each in suspensions:
        # What the provider hears later may have been routed when it was resumed already.
        asked_s = [
            started_s[text]
            for text, heard_s in heard[each.provider_id].items()
            if heard_s < each.until_s
        ]
        inside = [s for s in asked_s if each.acknowledged_s <= s < each.until_s]
        latest_s = max([latest_s, *(s - each.acknowledged_s for s in inside)])
        in_time += sum(s >= each.acknowledged_s + _SLACK_S for s in inside)
        from_s = each.acknowledged_s + _SLACK_S
        meant += sum(from_s <= made.started_s < each.until_s for made in load.made)
    assert in_time == 0, f"seed {seed}: {in_time} calls reached a suspended provider"
    assert meant >= rounds, "calls were made while contracts were suspended"
    assert all(len(heard_s) > rounds for heard_s in heard.values()), "resumed ones are asked again"
    report(
        "suspended at random" + (", workers stopped for moments" if stutters else ""),
        seed=seed,
        suspensions=rounds,
        calls=len(load.made),
        calls_while_suspended=meant,
        latest_after_acknowledgement_ms=latest_s * 1e3,
    )


@pytest.mark.parametrize("stutters", [False, True])
async def test_no_call_reaches_a_suspended_provider_on_any_worker(
    whole: WholeMarket, *, stutters: bool
) -> None:
    await check(whole, rounds=14, stutters=stutters)


@pytest.mark.torture
@pytest.mark.timeout(900)
async def test_a_thousand_suspensions_hold_as_well(whole: WholeMarket) -> None:
    await check(whole, rounds=1000)
