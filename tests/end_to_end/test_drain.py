"""SIGTERM under load: what is in flight ends as it should, and the port is free in time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter

import pytest
from grpc import StatusCode

from gem.mesh.v1 import provider_answer_pb2 as mesh
from tests.end_to_end.depot import depot
from tests.end_to_end.figures import report
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import Load, until
from tests.end_to_end.scripted_provider import ScriptedProvider, waits_for
from tests.end_to_end.whole_market import running_market

pytestmark = pytest.mark.fault
_GRACE_S = 3.0
_IN_FLIGHT = 50


def port_is_free(port: int) -> bool:
    """Say whether nobody accepts connections at the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_calls_in_flight_end_normally_and_the_port_is_free_within_the_grace() -> None:
    async with running_market(limits={"drain_s": _GRACE_S}) as own:
        shop = depot("acme.drain.v1")
        await own.technical.core.publish_interface(shop.files)
        requester, load, gate = await own.requester(), Load(shop), asyncio.Event()
        provider = ScriptedProvider(waits_for(gate, shop.reply("a")))
        await own.contracted(requester, provider, interface=shop.interface)
        channels = await own.channels(requester)
        port, supervisor = own.market.port, own.market.supervisor
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(load.once(channel, method))
                for channel in channels.values()
                for method in ("Find", "Order")
                for _ in range(_IN_FLIGHT // 2)
            ]
            wanted = len(calls)
            await until(lambda: len(provider.asked) == wanted, 20, "every call is in flight")
            stopping = group.create_task(supervisor.close(_GRACE_S + 5.0))
            stopped_s = time.monotonic()
            await until(lambda: port_is_free(port), _GRACE_S, "no new connection is taken")
            await asyncio.sleep(0.5)
            late = await load.once(channels[min(channels)], "Find", timeout_s=2.0)
            assert late.code is StatusCode.UNAVAILABLE
            assert not any(call.done() for call in calls)
            gate.set()
            await asyncio.gather(*calls)
            await stopping
            free_s = time.monotonic() - stopped_s
        assert Counter(call.result().code for call in calls) == {StatusCode.OK: wanted}
        assert len(provider.asked) == wanted
        assert free_s < _GRACE_S + 1.0
        for channel in channels.values():
            await channel.close()
        report("SIGTERM under load", in_flight=wanted, free_s=free_s)


async def test_what_does_not_end_is_cut_after_the_grace_and_accounted_for() -> None:
    grace_s = 1.0
    async with running_market(limits={"drain_s": grace_s}) as own:
        shop = depot("acme.drain.v1")
        await own.technical.core.publish_interface(shop.files)
        requester, load = await own.requester(), Load(shop)
        provider = ScriptedProvider(waits_for(asyncio.Event(), b""))
        await own.contracted(requester, provider, interface=shop.interface)
        channels = await own.channels(requester)
        worker, *_ = channels
        async with asyncio.TaskGroup() as group:
            call = group.create_task(load.once(channels[worker], "Order"))
            await until(lambda: provider.asked, 20, "the call is in flight")
            stopped_s = time.monotonic()
            await own.market.supervisor.stop(worker, grace_s + 5.0)
            ended_s = time.monotonic() - stopped_s
        assert call.result().code is StatusCode.UNAVAILABLE
        assert grace_s <= ended_s < grace_s + 1.5
        for channel in channels.values():
            await channel.close()
        # The other worker has the account; its connection is made anew where it had been to this.
        assert load.balance(await entries_of(requester)) == {mesh.ANSWER_STATUS_IN_DOUBT: 1}
        report("SIGTERM with a call that does not end", ended_s=ended_s)
