"""A whole market as its parties see it: started as `gemarket up` does it, used over mutual TLS."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from grpc import aio

from foundation.settings import Settings
from gem.charging.v1 import evse_search_service_pb2
from gem.marketplace.v1 import transaction_service_pb2_grpc
from gem.options.v1 import options_pb2
from gemarket.administration import Connection, PartnerPlan, ServicePlan, descriptor_set
from gemarket.identity import Identity, channel_credentials
from gemarket.market import Market
from gemarket.options import LOOPBACK_NETWORKS
from tests.end_to_end.scripted_provider import ScriptedProvider
from tests.memory import memory_folder

EVSE_SEARCH = "gem.charging.v1.EvseSearchService"
PRICE_MICROS = 25_000
OPERATOR = options_pb2.PARTNER_ROLE_EVSE_OPERATOR
EVSP = options_pb2.PARTNER_ROLE_EVSP
_CHANNELS_MAX = 64
_LOCAL = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20))
_numbers = itertools.count(1)
_running: list[Market] = []
_SHOWN_MAX = 20


def new_id(kind: str) -> str:
    """Give a partner id that no other test has."""
    return f"{kind}-{next(_numbers)}"


class Party:
    """A partner or operator with its own connection."""

    def __init__(self, partner_id: str, identity: Identity, address: str) -> None:
        self.partner_id = partner_id
        self.identity = identity
        self.address = address
        self.core = Connection(address, identity)
        self.log = transaction_service_pb2_grpc.TransactionServiceStub(self.core.channel)

    def channel(self) -> aio.Channel:
        """Open a further channel with a connection of its own."""
        return open_channel(self.address, self.identity)

    async def close(self) -> None:
        await self.core.channel.close()


def open_channel(address: str, identity: Identity) -> aio.Channel:
    """Open a channel that shares its connection with no other."""
    return aio.secure_channel(address, channel_credentials(identity), options=_LOCAL)


class WholeMarket:
    """A running market, its operators, and short ways to bring partners into it."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.business = Party("business", market.layout.operator("business"), market.address)
        self.technical = Party("technical", market.layout.operator("technical"), market.address)
        self._parties = [self.business, self.technical]
        self._providers: list[ScriptedProvider] = []

    async def close(self) -> None:
        """Close what tests opened; the market goes on."""
        for party in self._parties:
            await party.close()
        for provider in self._providers:
            await provider.stop()

    def worker_pids(self) -> dict[str, int]:
        """Give the process ids of the workers by name."""
        pids = self.market.supervisor.pids()
        return {name: pid for name, pid in pids.items() if name.startswith("worker")}

    async def registered(
        self,
        kind: str,
        *roles: options_pb2.PartnerRole.ValueType,
        operator_ids: Sequence[str] = (),
    ) -> Party:
        """Register and activate a partner, and have its certificate issued."""
        plan = PartnerPlan(new_id(kind), kind.title(), roles, operator_ids=operator_ids)
        await self.business.core.ensure_partner(plan)
        return await self.with_certificate(plan.partner_id)

    async def with_certificate(self, partner_id: str) -> Party:
        """Have one more certificate issued for a partner; every worker knows it at once."""
        layout = self.market.layout
        identity = Identity(layout.partner(partner_id).folder.with_name(new_id(partner_id)))
        roots = self.market.authority.root_pem
        await self.business.core.issue_identity(partner_id, identity, roots)
        party = Party(partner_id, identity, self.market.address)
        self._parties.append(party)
        return party

    async def requester(self) -> Party:
        """Bring in an EVSP."""
        return await self.registered("evsp", EVSP)

    async def operator(self) -> Party:
        """Bring in an EVSE operator that serves nothing."""
        return await self.registered("operator", OPERATOR)

    async def provider(self, provider: ScriptedProvider, operator_ids: Sequence[str] = ()) -> Party:
        """Bring in an operator that serves what `provider` says, and start that."""
        party = await self.registered("operator", OPERATOR, operator_ids=operator_ids)
        await provider.start(party.identity, self.market.settings.trust_domain)
        self._providers.append(provider)
        return party

    async def offer(
        self,
        party: Party,
        endpoint: str,
        interface: str = EVSE_SEARCH,
        *,
        price: int = PRICE_MICROS,
    ) -> str:
        """Register and publish a service of a provider; gives its id."""
        plan = ServicePlan(party.partner_id, "A service", interface, endpoint, price)
        service_id = await party.core.ensure_service(plan)
        await self.technical.core.publish_service(service_id)
        return service_id

    async def contracted(
        self,
        requester: Party,
        *providers: ScriptedProvider,
        interface: str = EVSE_SEARCH,
        operator_ids: Sequence[Sequence[str]] = (),
    ) -> dict[str, str]:
        """Bring in providers and contract them in this order; contract ids by partner id."""
        contracts = {}
        for provider, owned in itertools.zip_longest(providers, operator_ids, fillvalue=()):
            assert isinstance(provider, ScriptedProvider)
            party = await self.provider(provider, owned)
            service_id = await self.offer(party, provider.endpoint, interface)
            contracts[party.partner_id] = await requester.core.ensure_contract(service_id)
            provider.partner_id = party.partner_id
        return contracts

    async def publish_evse_search(self) -> None:
        """Put the interface of use case 1527 into the catalogue."""
        files = descriptor_set(evse_search_service_pb2.DESCRIPTOR)
        await self.technical.core.publish_interface(files)

    async def channels(self, party: Party) -> dict[str, aio.Channel]:
        """Open one channel to each worker, by the worker's name; the caller closes them."""
        found: dict[str, aio.Channel] = {}
        spare: list[aio.Channel] = []
        pids = self.worker_pids()
        for _ in range(_CHANNELS_MAX):
            before = self._connections()
            channel = party.channel()
            await asyncio.wait_for(channel.channel_ready(), 10)
            after = self._connections()
            (worker,) = [name for name in pids if after[name] - before[name]]
            (spare.append(channel) if worker in found else found.update({worker: channel}))
            if len(found) == len(pids):
                break
        for channel in spare:
            await channel.close()
        assert found.keys() == pids.keys(), "the kernel shares connections out"
        return found

    def _connections(self) -> Mapping[str, set[tuple[str, int]]]:
        """Give the callers' addresses of the connections that each worker has accepted."""
        port = self.market.port
        return {
            name: {
                (connection.raddr.ip, connection.raddr.port)
                for connection in psutil.Process(pid).net_connections("tcp")
                if connection.raddr and connection.laddr.port == port
            }
            for name, pid in self.worker_pids().items()
        }


@asynccontextmanager
async def running_market(workers: int = 2, **settings: object) -> AsyncIterator[WholeMarket]:
    """Run a market in a folder of its own; its interface catalogue has the EVSE search."""
    with memory_folder() as folder:
        ports = {"port": 0, "session_port": 0, "metrics_port": 0}
        loopback = {"endpoint_networks_allowed": LOOPBACK_NETWORKS}
        values = {"data_dir": Path(folder), "workers": workers, **ports, "services": loopback}
        market = Market(Settings.model_validate({**values, **settings}))
        _running.append(market)
        try:
            await market.start()
            whole = WholeMarket(market)
            try:
                await whole.publish_evse_search()
                yield whole
            finally:
                await whole.close()
        finally:
            await market.stop()
            _running.remove(market)


def worker_errors() -> str:
    """Give the last lines that workers of the running markets logged as errors or defects."""
    found = [
        f"{file.name}: {line}"
        for market in _running
        for file in sorted(market.layout.logs.glob("worker-*.log"))
        for line in file.read_text(errors="replace").splitlines()
        if '"level": "error"' in line or not line.startswith("{")
    ]
    return "\n".join(found[-_SHOWN_MAX:])
