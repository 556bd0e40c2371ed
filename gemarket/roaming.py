"""The reference clearing house: a partner of the market like any other, in a process of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from clearinghouse.token_hash import write_token_key
from foundation.migrations import migrate
from gem.options.v1 import options_pb2
from gem.roaming.v1 import (
    clearing_contract_service_pb2,
    clearing_service_pb2,
    contract_holder_service_pb2,
    settlement_service_pb2,
    tariff_service_pb2,
)
from gemarket.administration import Connection, PartnerPlan, ServicePlan, descriptor_set
from gemarket.identity import Identity
from gemarket.layout import Layout
from gemarket.market import Market
from gemarket.onboarding import anybody, endpoint_of, join
from gemarket.supervisor import ChildSpec

HOUSE = PartnerPlan(
    "clear-house",
    "Clear House",
    [options_pb2.PARTNER_ROLE_CLEARING_HOUSE],
)
#: Name of its process.
CHILD = "clearing-house"
CLEARING = "gem.roaming.v1.ClearingService"
#: What the clearing house serves, and the title of its service for it.
TITLES = {
    CLEARING: "Authorization and clearing of charging sessions",
    "gem.roaming.v1.ClearingContractService": "Roaming agreements and customer contracts",
    "gem.roaming.v1.SettlementService": "Settlement of cleared sessions",
    "gem.roaming.v1.TariffService": "Tariffs of EVSE operators",
}
_FILES = (
    clearing_service_pb2,
    clearing_contract_service_pb2,
    settlement_service_pb2,
    tariff_service_pb2,
    contract_holder_service_pb2,
)


def house_settings_file(layout: Layout) -> Path:
    """Give the settings of the reference clearing house, also for its operator's commands."""
    return layout.run / "clearing-house.json"


class Roaming:
    """Sets the clearing house up in a running market; the same again changes nothing."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._endpoint = ""

    async def start(self) -> None:
        """Publish the roaming interfaces, bring the clearing house in, publish its services."""
        market, layout = self._market, self._market.layout
        await migrate(market.database_url, "clearinghouse")
        async with (
            Connection(market.address, layout.operator("business")) as business,
            Connection(market.address, layout.operator("technical")) as technical,
            anybody(market) as outside,
        ):
            files = descriptor_set(*(file.DESCRIPTOR for file in _FILES))
            await technical.ensure_interface(files)
            await join(market, outside, business, HOUSE)
            self._endpoint = await endpoint_of(market, HOUSE.partner_id, CLEARING)
            await market.supervisor.start(self.child())
            await asyncio.gather(*(self._publish(technical, name) for name in TITLES))

    def identities(self) -> dict[str, Identity]:
        """Give the clearing house's identity by its partner id."""
        return {HOUSE.partner_id: self._market.layout.partner(HOUSE.partner_id)}

    def endpoints(self) -> dict[str, str]:
        """Give where the clearing house serves, by its partner id."""
        return {HOUSE.partner_id: self._endpoint}

    def child(self) -> ChildSpec:
        """Write the settings of the process, and give what runs it."""
        market, layout = self._market, self._market.layout
        identity = layout.partner(HOUSE.partner_id)
        host, _, port = self._endpoint.rpartition(":")
        # Every stored token depends on it: it lasts as long as the database.
        token_key = identity.folder / "token.key"
        if not token_key.exists():
            write_token_key(token_key)
        content = {
            "partner_id": HOUSE.partner_id,
            "database_url": market.database_url,
            "host": host,
            "port": int(port),
            "key_file": str(identity.key_file),
            "certificate_file": str(identity.certificate_file),
            "ca_file": str(identity.ca_file),
            "trust_domain": market.settings.trust_domain,
            "token_key_file": str(token_key),
            "market_address": market.address,
        }
        config = house_settings_file(layout)
        config.touch(mode=0o600)
        config.write_text(json.dumps(content))
        return ChildSpec(CHILD, "clearinghouse.provider", ("--config", str(config)))

    async def _publish(self, technical: Connection, interface_name: str) -> None:
        """Register one service; the technical operator publishes it.

        No conformance run comes first: ids of contracts and EVSEs have forms that the interfaces do
        not state as rules yet, so that made-up ones are refused.
        """
        market, title = self._market, TITLES[interface_name]
        plan = ServicePlan(HOUSE.partner_id, title, interface_name, self._endpoint)
        async with Connection(market.address, market.layout.partner(HOUSE.partner_id)) as seller:
            service_id = await seller.ensure_service(plan)
        await technical.publish_service(service_id)
