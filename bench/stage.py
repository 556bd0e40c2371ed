"""The stage of a router benchmark: a real market, canned providers, the bare proxy beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
from grpc import aio

from bench.answers import INTERFACE, METHOD, search_answer
from bench.load import Ask
from foundation.certificates import provider_dns_name
from foundation.settings import Settings
from gem.charging.v1 import evse_search_service_pb2
from gem.options.v1 import options_pb2
from gemarket.administration import Connection, PartnerPlan, ServicePlan, descriptor_set
from gemarket.identity import Identity, channel_credentials
from gemarket.market import Market
from gemarket.options import LOOPBACK_NETWORKS
from gemarket.ports import free_port
from gemarket.supervisor import KEPT_MEMORY, OWN_POLLING, READY

REQUESTER = "bench-evsp"
PRICE_MICROS = 10_000


@dataclass(frozen=True, slots=True)
class CannedProvider:
    """A provider of the stage; without an answer it hangs."""

    partner_id: str
    endpoint: str
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a benchmark measures against."""

    market: Market
    providers: Sequence[CannedProvider]
    requester: Identity

    def worker_processes(self) -> list[psutil.Process]:
        """The workers, whose CPU is measured."""
        pids = self.market.supervisor.pids()
        return [psutil.Process(pid) for name, pid in pids.items() if name.startswith("worker")]

    def channel(self, address: str) -> aio.Channel:
        """Open a channel as the requester, with a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        return aio.secure_channel(address, channel_credentials(self.requester), options=options)


async def start_python(
    module: str, *arguments: str, own_polling: bool = True
) -> asyncio.subprocess.Process:
    """Start a helper process, as a market's are, and wait until it says that it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env={**KEPT_MEMORY, **(OWN_POLLING if own_polling else {}), **os.environ},
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    if not line.startswith(READY):
        message = f"{module} did not start"
        raise RuntimeError(message)
    return process


@asynccontextmanager
async def market(workers: int = 1, **settings: object) -> AsyncIterator[Market]:
    """Run a market in a temporary data directory."""
    with tempfile.TemporaryDirectory(prefix="gem-bench-") as folder:
        made = Settings.model_validate(
            {
                "data_dir": folder,
                "port": 0,
                "session_port": 0,
                "metrics_port": 0,
                "workers": workers,
                "services": {"endpoint_networks_allowed": LOOPBACK_NETWORKS},
                **settings,
            }
        )
        running = Market(made)
        await running.start()
        try:
            yield running
        finally:
            await running.stop()


@asynccontextmanager
async def stage(answers: Mapping[str, bytes | None], workers: int = 1) -> AsyncIterator[Stage]:
    """Set up providers with the given answers, all contracted by one requester, log durable."""
    limits = {"partner_max_calls": 1000, "partner_calls_per_s": 1_000_000}
    async with market(workers, limits=limits) as running:
        providers = [
            CannedProvider(partner_id, f"127.0.0.1:{free_port()}", answer)
            for partner_id, answer in answers.items()
        ]
        await register(running, providers)
        process = await _start_providers(running, providers)
        try:
            yield Stage(running, providers, running.layout.partner(REQUESTER))
        finally:
            process.terminate()
            await process.wait()


async def register(running: Market, providers: Sequence[CannedProvider]) -> None:
    """Bring interface, partners, services and contracts into the market, through its services."""
    layout, roots = running.layout, running.authority.root_pem
    requester = PartnerPlan(REQUESTER, "Bench EVSP", [options_pb2.PARTNER_ROLE_EVSP])
    plans = [
        PartnerPlan(provider.partner_id, "Bench", [options_pb2.PARTNER_ROLE_EVSE_OPERATOR])
        for provider in providers
    ]
    async with (
        Connection(running.address, layout.operator("business")) as business,
        Connection(running.address, layout.operator("technical")) as technical,
    ):
        files = descriptor_set(evse_search_service_pb2.DESCRIPTOR)
        await technical.publish_interface(files)
        for plan in (requester, *plans):
            await business.ensure_partner(plan)
            await business.issue_identity(plan.partner_id, layout.partner(plan.partner_id), roots)
        services = [await _offer(running, technical, provider) for provider in providers]
    async with Connection(running.address, layout.partner(REQUESTER)) as buyer:
        for service_id in services:
            await buyer.ensure_contract(service_id)


async def _offer(running: Market, technical: Connection, provider: CannedProvider) -> str:
    plan = ServicePlan(
        provider.partner_id, "EVSE search", INTERFACE, provider.endpoint, PRICE_MICROS
    )
    identity = running.layout.partner(provider.partner_id)
    async with Connection(running.address, identity) as seller:
        service_id = await seller.ensure_service(plan)
    await technical.publish_service(service_id)
    return service_id


async def _start_providers(
    running: Market, providers: Sequence[CannedProvider]
) -> asyncio.subprocess.Process:
    plan = [
        {
            "address": provider.endpoint,
            "identity": str(running.layout.partner(provider.partner_id).folder),
            "answer": provider.answer.hex() if provider.answer is not None else None,
        }
        for provider in providers
    ]
    file = running.layout.run / "canned.json"
    file.write_text(json.dumps(plan))
    return await start_python("bench.canned_provider", str(file))


@asynccontextmanager
async def bare_proxy(on: Stage, *, own_polling: bool) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run the yardstick against the same providers; gives its address and process.

    It is grpc.aio as it comes, or with the polling that the market's processes have.
    """
    domain = on.market.settings.trust_domain
    upstreams = [
        {
            "address": provider.endpoint,
            "name": provider_dns_name(domain, provider.partner_id),
        }
        for provider in on.providers
    ]
    identity = _proxy_identity(on)
    address = f"127.0.0.1:{free_port()}"
    plan = {
        "address": address,
        "identity": str(identity.folder),
        "upstreams": upstreams,
        "method": METHOD,
    }
    process = await start_python("bench.bare_proxy", json.dumps(plan), own_polling=own_polling)
    try:
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


def _proxy_identity(on: Stage) -> Identity:
    """Make a certificate that serves callers and calls providers, as the router has two for."""
    from foundation.certificates import marketplace_uri, new_key_and_csr  # noqa: PLC0415

    authority = on.market.authority
    identity = Identity(on.market.layout.run / "bare-proxy")
    key, csr = new_key_and_csr("bare proxy")
    uri = marketplace_uri(authority.trust_domain)
    names = ("127.0.0.1", "localhost")
    issued = authority.issue_from_csr(csr, uri, names, client=True, server=True)
    identity.write(key, issued.chain_pem, authority.root_pem)
    return identity


def asking(channel: aio.Channel, request: bytes, timeout_s: float = 10.0) -> Ask:
    """Make the call that the load generator repeats, on bytes: its own cost is not measured."""
    ask: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

    async def once() -> object:
        return await ask(request, timeout=timeout_s)

    return once


def operators(count: int, evses: int) -> dict[str, bytes | None]:
    """Give `count` operators with `evses` EVSEs each."""
    return {f"operator-{index}": search_answer(f"B{index:02d}", evses) for index in range(count)}
