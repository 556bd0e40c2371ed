"""The reference partners: EVSE operators of real data, and one EVSP that contracts them all."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gem.charging.v1 import evse_search_service_pb2
from gem.options.v1 import options_pb2
from gemarket.administration import Connection, PartnerPlan, ServicePlan, descriptor_set
from gemarket.identity import Identity
from gemarket.market import Market
from gemarket.ports import free_port
from gemarket.preparation import needs_renewal
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


class Reference:
    """Sets the reference partners up in a running market; the same again changes nothing."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.providers: dict[str, ReferenceProvider] = {}

    async def start(self) -> None:
        """Import the sample, register partners, start providers, publish services, contract."""
        market, layout = self._market, self._market.layout
        operators = await self._import_sample()
        async with (
            Connection(market.address, layout.operator("business")) as business,
            Connection(market.address, layout.operator("technical")) as technical,
        ):
            files = descriptor_set(evse_search_service_pb2.DESCRIPTOR)
            await technical.ensure_interface(files)
            await self._ensure_partner(business, REQUESTER)
            for operator in operators:
                await self._ensure_partner(business, _plan_of(operator))
            endpoints = [f"127.0.0.1:{free_port()}" for _ in operators]
            pairs = list(zip(operators, endpoints, strict=True))
            await market.supervisor.start(*(self.child(*pair) for pair in pairs))
            for operator, endpoint in pairs:
                await self._contract(technical, operator, endpoint)

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

    async def _ensure_partner(self, business: Connection, plan: PartnerPlan) -> None:
        await business.ensure_partner(plan)
        identity = self._market.layout.partner(plan.partner_id)
        if needs_renewal(identity):
            roots = self._market.authority.root_pem
            await business.issue_identity(plan.partner_id, identity, roots)

    async def _contract(self, technical: Connection, operator: Operator, endpoint: str) -> None:
        market = self._market
        plan = ServicePlan(
            operator.partner_id,
            f"Charging points of {operator.operator_name}",
            INTERFACE,
            endpoint,
            SEARCH_PRICE_MICROS,
            CURRENCY_CODE,
        )
        identity = market.layout.partner(operator.partner_id)
        async with Connection(market.address, identity) as seller:
            service_id = await seller.ensure_service(plan)
        await technical.publish_service(service_id)
        requester = market.layout.partner(REQUESTER.partner_id)
        async with Connection(market.address, requester) as buyer:
            contract_id = await buyer.ensure_contract(service_id)
        self.providers[operator.partner_id] = ReferenceProvider(
            operator, endpoint, service_id, contract_id
        )


def _plan_of(operator: Operator) -> PartnerPlan:
    return PartnerPlan(
        operator.partner_id,
        operator.operator_name,
        [options_pb2.PARTNER_ROLE_EVSE_OPERATOR],
        operator_ids=operator.operator_ids,
    )
