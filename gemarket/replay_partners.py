"""Makes the parties of a replay partners of the market, with all contracts that they need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from clearinghouse.contract_follower import HOLDER_INTERFACE
from clearinghouse.replay_cast import Cast, ReplayParty
from clearinghouse.replay_evsp import ReplayEvsp
from gem.options.v1 import options_pb2
from gem.roaming.v1.contract_holder_service_pb2_grpc import (
    add_ContractHolderServiceServicer_to_server,
)
from gemarket.administration import Connection, PartnerPlan, ServicePlan
from gemarket.endpoints import Endpoints, Party
from gemarket.identity import Identity
from gemarket.layout import Layout
from gemarket.preparation import needs_renewal
from interceptors.provider_server import Listener, ProviderServer

_INTERFACES = (
    "gem.roaming.v1.ClearingService",
    "gem.roaming.v1.ClearingContractService",
    "gem.roaming.v1.SettlementService",
)
#: Only operators have tariffs.
_TARIFFS = "gem.roaming.v1.TariffService"
_GRACE_S = 5.0
#: A delivery of the clearing house is 500 kB.
_REQUEST_BYTES_MAX = 4 << 20


class NoClearingHouseError(ValueError):
    """Nobody offers an interface that a replay needs, or who does cannot be contracted for.

    A ValueError, for it is the partner that was asked for: another may do.
    """


@dataclass(frozen=True, slots=True)
class Stage:
    """The market in which a replay takes place."""

    endpoints: Endpoints
    layout: Layout
    #: Partner id; empty takes the first that offers to clear.
    clearing_house: str
    #: Where the market reaches what runs here.
    host: str = "127.0.0.1"

    def operator(self, role: str) -> Connection:
        """Connect as an operator of the market."""
        return Connection(self.endpoints.marketplace, _identity(self.endpoints.party(role)))

    def partner(self, partner_id: str) -> Connection:
        """Connect as a partner of the market."""
        return Connection(self.endpoints.marketplace, self.layout.partner(partner_id))

    def roots(self) -> bytes:
        """Read the roots that everybody in the market trusts."""
        return Path(self.endpoints.ca_file).read_bytes()

    def house(self, partner_id: str) -> Connection:
        """Connect as the clearing house; NoClearingHouseError where its certificate is not here."""
        try:
            identity = _identity(self.endpoints.party(partner_id))
        except KeyError:
            text = f"the certificate of {partner_id} is needed to contract the EVSPs for it"
            raise NoClearingHouseError(text) from None
        return Connection(self.endpoints.marketplace, identity)


def _identity(party: Party) -> Identity:
    return Identity(Path(party.certificate_file).parent)


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


@asynccontextmanager
async def joined(
    cast: Cast, stage: Stage, advance: Callable[[], None]
) -> AsyncIterator[dict[str, Identity]]:
    """Register the parties, serve as their EVSPs, and contract all who need each other.

    What is there already stays as it is. Gives each party's identity by its partner id; inside,
    the EVSPs take records.

    Raises:
        NoClearingHouseError: no partner, or not the one named, offers an interface.
        aio.AioRpcError: the market refuses.
    """
    identities = {}
    roots = stage.roots()
    async with stage.operator("business") as business:
        for plan in plans_of(cast):
            identity = identities[plan.partner_id] = stage.layout.partner(plan.partner_id)
            await business.ensure_partner(plan)
            if needs_renewal(identity):
                await business.issue_identity(plan.partner_id, identity, roots)
    servers = []
    try:
        holders = []
        for evsp in cast.evsps:
            servers.append(await _serve(cast, evsp, stage))
            endpoint = f"{stage.host}:{servers[-1].port}"
            holders.append(await _publish(evsp, endpoint, stage))
        await _contract(cast, stage, holders, advance)
        yield identities
    finally:
        for server in servers:
            await server.stop(_GRACE_S)


async def _serve(cast: Cast, evsp: ReplayParty, stage: Stage) -> ProviderServer:
    identity = stage.layout.partner(evsp.partner_id)
    listener = Listener(
        host=stage.host,
        port=0,
        key_file=identity.key_file,
        certificate_file=identity.certificate_file,
        ca_file=identity.ca_file,
        trust_domain=stage.endpoints.trust_domain,
        request_bytes_max=_REQUEST_BYTES_MAX,
    )
    made = ProviderServer(listener, (HOLDER_INTERFACE,))
    add_ContractHolderServiceServicer_to_server(ReplayEvsp(cast, evsp), made.server)
    await made.start()
    return made


async def _publish(evsp: ReplayParty, endpoint: str, stage: Stage) -> str:
    """Publish an EVSP's service, or move it to where it runs now; gives its id."""
    title = f"Customers of {evsp.company_name}"
    plan = ServicePlan(evsp.partner_id, title, HOLDER_INTERFACE, endpoint)
    async with stage.partner(evsp.partner_id) as seller:
        service_id = await seller.ensure_service(plan)
    async with stage.operator("technical") as technical:
        await technical.publish_service(service_id)
    return service_id


async def _contract(
    cast: Cast, stage: Stage, holders: list[str], advance: Callable[[], None]
) -> None:
    """Let everybody contract the clearing house, and it and the operators the EVSPs."""
    house = stage.clearing_house
    for evsp in cast.evsps:
        async with stage.partner(evsp.partner_id) as buyer:
            house = await _contract_house(buyer, house, _INTERFACES)
        advance()
    async with stage.house(house) as buyer:
        for service_id in holders:
            await buyer.ensure_contract(service_id)
    for operator in cast.operators.values():
        async with stage.partner(operator.partner_id) as buyer:
            await _contract_house(buyer, house, (*_INTERFACES, _TARIFFS))
            for service_id in holders:
                await buyer.ensure_contract(service_id)
        advance()


async def _contract_house(buyer: Connection, house: str, interfaces: tuple[str, ...]) -> str:
    """Contract a service of each interface, unless that was done before; gives the provider."""
    for interface in interfaces:
        found = await buyer.find_services(interface)
        house = house or next(iter(found), "")
        if house not in found:
            raise NoClearingHouseError(f"nobody offers {interface}")
        await buyer.ensure_contract(found[house].service_id)
    return house
