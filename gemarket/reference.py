"""The reference partners: EVSE operators of real data, and one EVSP that contracts them all.

They come into the market as anybody does: a request at the listener for people, its approval, the
first certificate, a service that is checked and certified, and an offering that is found by a
search and accepted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from gem.charging.v1 import evse_search_service_pb2
from gem.marketplace.v1 import contract_pb2, partner_pb2, service_pb2
from gem.options.v1 import options_pb2
from gemarket.administration import Connection, PartnerPlan, ServicePlan, descriptor_set
from gemarket.identity import Identity
from gemarket.market import Market
from gemarket.onboarding import anybody, endpoint_of, join, publish
from gemarket.reference_terms import reference_hosting, reference_terms
from gemarket.supervisor import ChildSpec
from mobility.import_evses import SAMPLE_FILE, known_operator_ids, store
from mobility.import_osm import read_osm
from mobility.import_report import ImportReport
from mobility.operator_name import name_key
from mobility.storage import EvseStorage, Operator, open_pool

#: Operators as the `operator` field of the data names them, around Frankfurt am Main.
OPERATOR_NAMES = ("EnBW", "Mainova", "Pfalzwerke AG", "RWE", "Tesla Motors Inc.")
REQUESTER = PartnerPlan("roam-evsp", "Roam EVSP", [options_pb2.PARTNER_ROLE_EVSP])
INTERFACE = "gem.charging.v1.EvseSearchService"
CURRENCY_CODE = "EUR"
#: Price of one answered search in millionths of a euro, as every operator here offers it.
SEARCH_PRICE_MICROS = 2_000


@dataclass(frozen=True, slots=True)
class ReferenceProvider:
    """One operator of the data as a partner of the market."""

    operator: Operator
    endpoint: str
    service_id: str
    contract_id: str

    @property
    def child_name(self) -> str:
        """Name of its process."""
        return f"provider-{self.operator.partner_id}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a partner has come in the market; a requester offers nothing itself."""

    partner_id: str
    registered: bool
    certified: bool | None = None
    published: bool | None = None
    contracted: bool | None = None


class Reference:
    """Sets the reference partners up in a running market; the same again changes nothing."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.providers: dict[str, ReferenceProvider] = {}

    async def start(self) -> None:
        """Import the sample, bring the partners in, start providers, contract their services.

        Raises:
            SettingsError: a provider does not keep to its interface.
        """
        market, layout = self._market, self._market.layout
        operators = await self._import_sample()
        plans = [REQUESTER, *map(_plan_of, operators)]
        async with (
            Connection(market.address, layout.operator("business")) as business,
            Connection(market.address, layout.operator("technical")) as technical,
            anybody(market) as outside,
        ):
            files = descriptor_set(evse_search_service_pb2.DESCRIPTOR)
            await technical.ensure_interface(files)
            await asyncio.gather(*(join(market, outside, business, plan) for plan in plans))
            names = [operator.partner_id for operator in operators]
            endpoints = await asyncio.gather(
                *(endpoint_of(market, name, INTERFACE) for name in names)
            )
            pairs = list(zip(operators, endpoints, strict=True))
            await market.supervisor.start(*(self.child(*pair) for pair in pairs))
            await asyncio.gather(*(self._publish(technical, *pair) for pair in pairs))
        await self._contract(pairs)

    async def standings(self) -> list[Standing]:
        """Ask the market how far each partner has come, the requester first."""
        market, layout = self._market, self._market.layout
        made = []
        async with (
            Connection(market.address, layout.operator("technical")) as technical,
            Connection(market.address, layout.partner(REQUESTER.partner_id)) as requester,
        ):
            known = await technical.partner(REQUESTER.partner_id)
            made.append(Standing(REQUESTER.partner_id, registered=_is_active(known)))
            for name, provider in self.providers.items():
                service = await technical.service(provider.service_id)
                contract = await requester.contract(provider.contract_id)
                made.append(
                    Standing(
                        name,
                        registered=_is_active(await technical.partner(name)),
                        certified=await technical.certified(provider.service_id) is not None,
                        published=service.state == service_pb2.SERVICE_STATE_PUBLISHED,
                        contracted=contract.state == contract_pb2.CONTRACT_STATE_ACTIVE,
                    )
                )
        return made

    def identities(self) -> dict[str, Identity]:
        """Give the partners' identities by partner id, the requester first."""
        names = [REQUESTER.partner_id, *self.providers] if self.providers else []
        return {name: self._market.layout.partner(name) for name in names}

    def endpoints(self) -> dict[str, str]:
        """Give the providers' endpoints by partner id."""
        return {name: provider.endpoint for name, provider in self.providers.items()}

    def child(self, operator: Operator, endpoint: str) -> ChildSpec:
        """Give the process that serves one operator's EVSEs."""
        market = self._market
        identity = market.layout.partner(operator.partner_id)
        host, _, port = endpoint.rpartition(":")
        config = market.layout.run / f"provider-{operator.partner_id}.json"
        content = {
            "partner_id": operator.partner_id,
            "database_url": market.database_url,
            "host": host,
            "port": int(port),
            "key_file": str(identity.key_file),
            "certificate_file": str(identity.certificate_file),
            "ca_file": str(identity.ca_file),
            "trust_domain": market.settings.trust_domain,
        }
        config.touch(mode=0o600)
        config.write_text(json.dumps(content))
        name = f"provider-{operator.partner_id}"
        return ChildSpec(name, "mobility.provider", ("--config", str(config)))

    async def _import_sample(self) -> list[Operator]:
        async with open_pool(self._market.database_url) as pool:
            storage = EvseStorage(pool)
            keys = [name_key(name) for name in OPERATOR_NAMES]
            found = [await storage.operator(key, None) for key in keys]
            if not all(found):
                report = ImportReport()
                ids = await known_operator_ids(storage)
                read_osm(SAMPLE_FILE.read_bytes(), SAMPLE_FILE.name, report, ids)
                await store(storage, report)
                found = [await storage.operator(key, None) for key in keys]
        return [operator for operator in found if operator is not None]

    async def _publish(self, technical: Connection, operator: Operator, endpoint: str) -> None:
        """Register an operator's service, have it checked and certified, and publish it."""
        price = ServicePlan("", "", "", "", SEARCH_PRICE_MICROS, CURRENCY_CODE).price()
        plan = ServicePlan(
            operator.partner_id,
            f"Charging points of {operator.operator_name}",
            INTERFACE,
            endpoint,
            terms=reference_terms(price),
            hosting=reference_hosting(operator.operator_name),
        )
        await publish(self._market, technical, plan)

    async def _contract(self, pairs: Sequence[tuple[Operator, str]]) -> None:
        """Have the requester find the services and accept their offerings, in the given order."""
        market = self._market
        async with Connection(market.address, market.layout.partner(REQUESTER.partner_id)) as buyer:
            found = await buyer.find_services(INTERFACE)
            for operator, endpoint in pairs:
                service_id = found[operator.partner_id].service_id
                self.providers[operator.partner_id] = ReferenceProvider(
                    operator, endpoint, service_id, await buyer.ensure_contract(service_id)
                )


def _is_active(partner: partner_pb2.Partner | None) -> bool:
    return partner is not None and partner.state == partner_pb2.PARTNER_STATE_ACTIVE


def _plan_of(operator: Operator) -> PartnerPlan:
    return PartnerPlan(
        operator.partner_id,
        operator.operator_name,
        [options_pb2.PARTNER_ROLE_EVSE_OPERATOR],
        operator_ids=operator.operator_ids,
    )
