"""Makes the parties of a replay partners of the market, with contracts with a clearing house."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clearinghouse.replay_cast import Cast
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.options.v1 import options_pb2
from gemarket.administration import Connection, PartnerPlan
from gemarket.endpoints import Endpoints
from gemarket.identity import Identity
from gemarket.layout import Layout
from gemarket.preparation import needs_renewal

_TIMEOUT_S = 20.0
_INTERFACES = (
    "gem.roaming.v1.ClearingService",
    "gem.roaming.v1.ClearingContractService",
    "gem.roaming.v1.SettlementService",
    "gem.roaming.v1.TariffService",
)


class NoClearingHouseError(Exception):
    """Nobody offers an interface that a replay needs."""


def plans_of(cast: Cast) -> list[PartnerPlan]:
    """Give the partners that a replay needs."""
    operators = [
        PartnerPlan(
            party.partner_id,
            party.company_name,
            [options_pb2.PARTNER_ROLE_EVSE_OPERATOR],
            country_code=party.owner_id[:2],
            operator_ids=[party.owner_id],
        )
        for party in cast.operators.values()
    ]
    evsps = [
        PartnerPlan(
            party.partner_id,
            party.company_name,
            [options_pb2.PARTNER_ROLE_EVSP],
            country_code=party.owner_id[:2],
        )
        for party in cast.evsps
    ]
    return [*operators, *evsps]


async def join(
    cast: Cast,
    endpoints: Endpoints,
    layout: Layout,
    clearing_house: str,
    advance: Callable[[], None],
) -> dict[str, Identity]:
    """Register the parties, have their certificates issued, and contract the clearing house.

    What is there already stays as it is. Gives each party's identity by its partner id.

    Raises:
        NoClearingHouseError: no partner, or not the one named, offers an interface.
        aio.AioRpcError: the market refuses.
    """
    operator = Identity(Path(endpoints.party("business").certificate_file).parent)
    _, _, roots = operator.read()
    identities: dict[str, Identity] = {}
    async with Connection(endpoints.marketplace, operator) as business:
        for plan in plans_of(cast):
            identity = layout.partner(plan.partner_id)
            await business.ensure_partner(plan)
            if needs_renewal(identity):
                await business.issue_identity(plan.partner_id, identity, roots)
            async with Connection(endpoints.marketplace, identity) as partner:
                await _contract(partner, clearing_house)
            identities[plan.partner_id] = identity
            advance()
    return identities


async def _contract(partner: Connection, clearing_house: str) -> None:
    """Contract the first service of each interface, unless that was done before."""
    for interface in _INTERFACES:
        listing = registry.ListServicesRequest(interface_name=interface, provider_id=clearing_house)
        found = await partner.services.ListServices(listing, timeout=_TIMEOUT_S)
        if not found.services:
            raise NoClearingHouseError(f"nobody offers {interface}")
        await partner.ensure_contract(found.services[0].service_id)
