"""Roaming in a whole market: a clearing house, an operator and an EVSP, each with its contracts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from clearinghouse.provider import serve
from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.storage import Pool
from clearinghouse.token_hash import write_token_key
from foundation.migrations import migrate
from gem.common.v1 import identifier_pb2
from gem.marketplace.v1 import partner_service_pb2
from gem.options.v1 import options_pb2
from gem.roaming.v1 import (
    clearing_contract_service_pb2,
    clearing_contract_service_pb2_grpc,
    clearing_service_pb2,
    clearing_service_pb2_grpc,
    contract_holder_service_pb2,
)
from gemarket.administration import descriptor_set, new_request_id
from tests.end_to_end.scripted_provider import ScriptedProvider
from tests.end_to_end.whole_market import EVSP, OPERATOR, Party, WholeMarket

CLEARING = "gem.roaming.v1.ClearingService"
CONTRACTS = "gem.roaming.v1.ClearingContractService"
HOLDER = "gem.roaming.v1.ContractHolderService"
#: Owned by the operator and the EVSP of this market.
OPERATOR_ID, PROVIDER_ID = "DE*RMO", "DE-RMP"
EVSE = f"{OPERATOR_ID}*E1"
PATIENCE_S = 15.0
_HOUSE = options_pb2.PARTNER_ROLE_CLEARING_HOUSE
_FILES = (clearing_service_pb2, clearing_contract_service_pb2, contract_holder_service_pb2)


class Roaming:
    """The three parties; calls go through the marketplace's router."""

    def __init__(self, whole: WholeMarket, house: Party, port: int, pool: Pool) -> None:
        self.whole = whole
        self.house = house
        #: Where the clearing house serves, and its database.
        self.port = port
        self.pool = pool
        self.operator: Party
        self.evsp: Party
        #: What the EVSP serves.
        self.holder = ScriptedProvider(self._hold)
        self.asked: list[Any] = []
        #: What the EVSP answers; None hangs.
        self.answer: contract_holder_service_pb2.AuthorizeCustomerResponse | None = None
        #: The clearing house's services by interface.
        self.service_ids: dict[str, str] = {}
        #: Contracts in the marketplace by what they are.
        self.contract_ids: dict[str, str] = {}

    def clearing(self, party: Party) -> Any:
        """Give a party's stub of ClearingService."""
        return clearing_service_pb2_grpc.ClearingServiceStub(party.core.channel)

    def contracts(self, party: Party) -> Any:
        """Give a party's stub of ClearingContractService."""
        return clearing_contract_service_pb2_grpc.ClearingContractServiceStub(party.core.channel)

    async def follow(self, agreements: int) -> None:
        """Wait until so many agreements are in force by the marketplace's word."""
        text = (
            "SELECT count(*) FROM clearinghouse.agreement"
            " WHERE active AND market_active AND replaced_at = 'infinity'"
        )
        async with asyncio.timeout(PATIENCE_S):
            while await self.pool.fetchval(text) != agreements:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _hold(
        self, path: str, requests: AsyncIterator[bytes], _context: Any
    ) -> AsyncIterator[bytes]:
        async for raw in requests:
            request: Any = contract_holder_service_pb2.ReceiveSessionNoticeRequest
            answer: Any = contract_holder_service_pb2.ReceiveSessionNoticeResponse()
            if path.endswith("/AuthorizeCustomer"):
                request = contract_holder_service_pb2.AuthorizeCustomerRequest
                answer = self.answer
            self.asked.append(request.FromString(raw))
            if answer is None:
                await asyncio.Event().wait()
            yield answer.SerializeToString()

    async def bring_in(self) -> None:
        """Register operator and EVSP, and let everybody contract everybody."""
        await self.register()
        await self.holder.start(self.evsp.identity, self.whole.market.settings.trust_domain)
        self.whole._providers.append(self.holder)
        await self.contract(self.holder.endpoint)

    async def register(self) -> None:
        """Register operator and EVSP."""
        whole = self.whole
        self.operator = await whole.registered("operator", OPERATOR, operator_ids=[OPERATOR_ID])
        self.evsp = await whole.registered("evsp", EVSP)
        await own_provider_id(whole, self.evsp, PROVIDER_ID)

    async def contract(self, endpoint: str) -> None:
        """Let everybody contract everybody; the endpoint is the EVSP's."""
        whole = self.whole
        self.service_ids = {
            name: await whole.offer(self.house, f"127.0.0.1:{self.port}", name, price=0)
            for name in (CLEARING, CONTRACTS)
        }
        holder = await whole.offer(self.evsp, endpoint, HOLDER, price=0)
        for party in (self.operator, self.evsp):
            for name, service_id in self.service_ids.items():
                key = f"{party.partner_id}>{name}"
                self.contract_ids[key] = await party.core.ensure_contract(service_id)
        self.contract_ids["house>evsp"] = await self.house.core.ensure_contract(holder)
        self.contract_ids["operator>evsp"] = await self.operator.core.ensure_contract(holder)


async def own_provider_id(whole: WholeMarket, party: Party, provider_id: str) -> None:
    """Let a partner own a provider id."""
    kind = identifier_pb2.IDENTIFIER_KIND_PROVIDER_ID
    request = partner_service_pb2.AddPartnerIdentifierRequest(
        request_id=new_request_id(),
        partner_id=party.partner_id,
        identifier=identifier_pb2.OwnedIdentifier(kind=kind, value=provider_id),
    )
    await whole.business.core.partners.AddPartnerIdentifier(request, timeout=10)


async def house_settings(
    whole: WholeMarket, folder: Path, database_url: str, **more: Any
) -> tuple[Party, ProviderSettings]:
    """Register a clearing house, make its tables, and give it with its settings."""
    for file in _FILES:
        await whole.technical.core.ensure_interface(descriptor_set(file.DESCRIPTOR))
    await migrate(database_url, "clearinghouse")
    house = await whole.registered("house", _HOUSE)
    write_token_key(folder / "token.key")
    return house, ProviderSettings(
        partner_id=house.partner_id,
        database_url=database_url,
        key_file=house.identity.key_file,
        certificate_file=house.identity.certificate_file,
        ca_file=house.identity.ca_file,
        trust_domain=whole.market.settings.trust_domain,
        token_key_file=folder / "token.key",
        market_address=whole.market.address,
        question_s=1.0,
        **more,
    )


@asynccontextmanager
async def roaming_in(whole: WholeMarket, folder: Path, database_url: str) -> AsyncIterator[Roaming]:
    """Run a clearing house as a partner of a market, with an operator and an EVSP."""
    house, settings = await house_settings(whole, folder, database_url)
    provider = await serve(settings)
    try:
        roaming = Roaming(whole, house, provider.port, provider.parts.pool)
        await roaming.bring_in()
        await roaming.follow(1)
        yield roaming
    finally:
        await provider.stop(1.0)
