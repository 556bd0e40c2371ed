"""A market over a real database whose routes are explained, and what the router would do in it."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from foundation.certificates import new_key_and_csr
from foundation.errors import MarketError
from foundation.validation import violations
from gem.marketplace.v1 import route_explanation_pb2 as wire
from marketplace.rendering import timestamp
from marketplace.router.plan import Hints, plan
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.storage_snapshot import SnapshotStorage
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, TERMS, ControlPlane
from tests.interfaces import interface, rpc, service
from tests.transaction_log_support import connected

BODY = """
message Ask { string text = 1 [(buf.validate.field).string.max_len = 100]; }
message Keyed {
  string evse_id = 1 [
    (buf.validate.field).string.max_len = 100,
    (gem.options.v1.route_key) = ROUTE_KEY_EVSE_ID
  ];
}
message Found {
  repeated Item items = 1 [(buf.validate.field).repeated.max_items = 100];
  repeated gem.mesh.v1.ProviderAnswer answers = 2 [(buf.validate.field).repeated.max_items = 100];
}
message Item { string name = 1 [(buf.validate.field).string.max_len = 100]; }
""" + service(
    rpc(),
    rpc("Get", "ROUTE_ONE", response="Item"),
    rpc("GetFirst", "ROUTE_FIRST", response="Item"),
    rpc("GetByKey", "ROUTE_BY_KEY", request="Keyed", response="Item"),
).replace(
    'category: "c"',
    'category: "c" implemented_by: [PARTNER_ROLE_EVSE_OPERATOR] called_by: [PARTNER_ROLE_EVSP]',
)
NAME = "acme.test.v1.S"
METHODS = ("Search", "Get", "GetFirst", "GetByKey")
SECTIONS = [*TERMS["sections"], {"section_id": "notice", "title": "N", "text": "At once."}]


class RoutedMarket:
    """The control plane with an interface, a requester and providers, all with certificates."""

    def __init__(self, plane: ControlPlane, url: str) -> None:
        self.plane = plane
        self.url = url
        self.services: dict[str, Any] = {}
        self.contracts: dict[str, str] = {}

    async def begin(self, *providers: str) -> None:
        await self.plane.publish_interface(BODY)
        await self.plane.partner("evsp", EVSP)
        await self.certificate("evsp")
        for provider in providers:
            await self.plane.partner(provider, EVSE_OPERATOR)
            offering = {**TERMS, "sections": SECTIONS}
            self.services[provider] = await self.plane.service(provider, offering=offering)

    async def certificate(self, partner_id: str) -> bytes:
        method, csr = "PartnerService/IssueCertificate", new_key_and_csr(partner_id)[1]
        issued = await self.plane.ask(
            BUSINESS, method, partner_id=partner_id, certificate_signing_request_pem=csr
        )
        fingerprint: bytes = issued.certificate.fingerprint
        return fingerprint

    async def contract(self, provider: str) -> str:
        sections = [section["section_id"] for section in SECTIONS]
        made = await self.plane.contract("evsp", self.services[provider], section_ids=sections)
        self.contracts[provider] = made.contract_id
        return str(made.contract_id)

    async def step(self, method: str, who: str, provider: str) -> None:
        """Let somebody do something to a provider's service or contract, or to the partner."""
        service_name = method.partition("/")[0]
        if service_name == "ContractService":
            await self.plane.ask(who, method, contract_id=self.contracts[provider])
        elif service_name == "ServiceRegistryService":
            await self.plane.ask(who, method, service_id=self.services[provider].service_id)
        else:
            await self.plane.ask(who, method, partner_id=provider)

    async def explain(
        self,
        who: str = "evsp",
        method: str = "Search",
        *,
        at: datetime | None = None,
        key: str = "",
        requester: str = "",
        interface_name: str = NAME,
    ) -> Any:
        request = wire.ExplainRouteRequest(
            requester_id=requester,
            method=f"/{interface_name}/{method}",
            key=key,
            time=None if at is None else timestamp(at),
        )
        (answer,) = await self.plane.send(who, "ContractService/ExplainRoute", request)
        assert violations(answer) == ()
        return answer.explanation

    async def planned(self, key: str = "") -> dict[str, list[str]]:
        """Give the contracts by which the router would ask now, by a snapshot loaded now."""
        async with connected(self.url) as connection:
            rows = await SnapshotStorage(connection).everything(time.time())
        rules = interface(BODY)
        snapshot = RoutingSnapshot(
            rows.version, interfaces=[rules], routes=rows.routes, owners=rows.owners
        )
        found: dict[str, list[str]] = {method: [] for method in METHODS}
        for method in METHODS:
            with suppress(MarketError):
                chosen = plan(snapshot, "evsp", rules.methods[f"/{NAME}/{method}"], Hints(), key)
                found[method] = [target.contract_id for target in chosen.targets]
        return found
