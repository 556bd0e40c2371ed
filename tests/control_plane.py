"""The control plane as its callers meet it, without a transport: access, validation, servicers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import CertificateAuthority, utc_now
from foundation.errors import FieldViolation, MarketError
from foundation.validation import violations
from gem.marketplace.v1 import (
    contract_service_pb2,
    interface_catalog_service_pb2,
    notification_service_pb2,
    partner_service_pb2,
    saved_search_service_pb2,
    service_registry_service_pb2,
    service_request_service_pb2,
)
from gem.options.v1.options_pb2 import AccessRole, PartnerRole
from gemarket.options import LOOPBACK_NETWORKS
from interceptors.access import AccessCheck
from interceptors.call import Caller, Handler
from interceptors.core_services import CoreServices
from marketplace.certificate_servicer import Authority
from marketplace.conformance_endpoint import Market
from marketplace.contract_servicer import ContractServicer
from marketplace.endpoint_policy import EndpointCheck, EndpointPolicy
from marketplace.interface_catalog_servicer import InterfaceCatalogServicer
from marketplace.notice_feed import NoticeFeed
from marketplace.notification_servicer import NotificationServicer
from marketplace.partner_servicer import PartnerServicer
from marketplace.saved_search_servicer import SavedSearchServicer
from marketplace.service_registry import RegistryParts, ServiceRegistry
from marketplace.service_request_servicer import ServiceRequestServicer
from marketplace.storage_command import Commands
from tests.conformance_market import conformance_market, runner_of
from tests.engines import engine_of
from tests.interceptors.support import MemoryWire, make_call
from tests.interfaces import descriptor_set, rpc, service

INTERFACE = "acme.test.v1.S"
#: EVSE operators implement it, EVSPs call it.
INTERFACE_BODY = """
message Ask { string text = 1 [(buf.validate.field).string.max_len = 100]; }
message Found {
  repeated Item items = 1 [(buf.validate.field).repeated.max_items = 100];
  repeated gem.mesh.v1.ProviderAnswer answers = 2 [(buf.validate.field).repeated.max_items = 100];
}
message Item { string name = 1 [(buf.validate.field).string.max_len = 100]; }
""" + service(rpc()).replace(
    'category: "c"',
    'category: "c" implemented_by: [PARTNER_ROLE_EVSE_OPERATOR] called_by: [PARTNER_ROLE_EVSP]',
)
EVSE_OPERATOR = int(PartnerRole.PARTNER_ROLE_EVSE_OPERATOR)
EVSP = int(PartnerRole.PARTNER_ROLE_EVSP)

#: Callers: a partner's id, or one of the operators.
BUSINESS, TECHNICAL = "operator:business", "operator:technical"
_ROLES = {
    BUSINESS: AccessRole.ACCESS_ROLE_BUSINESS_OPERATOR,
    TECHNICAL: AccessRole.ACCESS_ROLE_TECHNICAL_OPERATOR,
}
_SERVICES = {
    "PartnerService": partner_service_pb2,
    "InterfaceCatalogService": interface_catalog_service_pb2,
    "ServiceRegistryService": service_registry_service_pb2,
    "ContractService": contract_service_pb2,
    "NotificationService": notification_service_pb2,
    "ServiceRequestService": service_request_service_pb2,
    "SavedSearchService": saved_search_service_pb2,
}

PROFILE = {
    "company_name": "Volt GmbH",
    "postal_address": "Weg 1\n10115 Berlin",
    "country_code": "DE",
    "responsible_person": {"full_name": "Ada Byron", "email": "ada@volt.example"},
}
TERMS: dict[str, Any] = {
    "sections": [
        {"section_id": "price", "title": "Price", "text": "Per call.", "required": True},
        {"section_id": "service-level", "title": "Level", "text": "99 %.", "required": True},
        {"section_id": "support", "title": "Support", "text": "By phone."},
    ],
    "price": {"per_call": {"price": {"amount_micros": 20_000, "currency_code": "EUR"}}},
}
REQUIRED = ["price", "service-level"]


class ControlPlane:
    """The services over one database; `clock` can be set."""

    def __init__(
        self,
        engine: AsyncEngine,
        authority: CertificateAuthority,
        notices: NoticeFeed,
        market: Market,
        *,
        publication_needs_operator: bool = False,
    ) -> None:
        self.engine = engine
        self.notices = notices
        self.now: datetime | None = None
        #: Addresses of host names; any other name has a public one.
        self.hosts: dict[str, list[str]] = {}
        #: Public addresses and this machine, where the endpoints of tests are.
        self.endpoints = EndpointCheck(EndpointPolicy(LOOPBACK_NETWORKS), resolve=self._resolve)
        self._numbers = itertools.count(1)
        self._core = CoreServices(violations)
        self._replaced: dict[str, Handler] = {}
        self._access = AccessCheck(self._core.access(), lambda _: False)
        commands = Commands(engine, lambda: self.now or utc_now())
        self.runner = runner_of(engine, market, lambda: self.now or utc_now())
        servicers = {
            "PartnerService": PartnerServicer(
                commands, Authority(authority, authority.trust_domain)
            ),
            "InterfaceCatalogService": InterfaceCatalogServicer(commands),
            "ServiceRegistryService": ServiceRegistry(
                commands,
                RegistryParts(
                    self.runner,
                    endpoints=self.endpoints,
                    publication_needs_operator=publication_needs_operator,
                ),
            ),
            "ContractService": ContractServicer(commands),
            "NotificationService": NotificationServicer(commands, notices, sends_email=True),
            "ServiceRequestService": ServiceRequestServicer(commands),
            "SavedSearchService": SavedSearchServicer(commands),
        }
        for name, servicer in servicers.items():
            self._core.add(_descriptor(name), servicer)

    def serve(self, name: str, servicer: object) -> None:
        """Serve one of the services by another servicer, the others as before."""
        core = CoreServices(violations)
        core.add(_descriptor(name), servicer)
        self._replaced.update(core.methods())

    async def _resolve(self, host: str) -> list[str]:
        return self.hosts.get(host, ["11.22.33.44"])

    async def ask(self, who: str, method: str, /, **fields: Any) -> Any:
        """Call `Service/Method` as somebody; a command without `request_id` gets a fresh one."""
        *_, last = await self.ask_all(who, method, **fields)
        return last

    async def ask_all(self, who: str, method: str, /, **fields: Any) -> list[Any]:
        """Call a method and give all its responses."""
        found = _method(method)
        if "request_id" in found.input_type.fields_by_name:
            fields.setdefault("request_id", f"request-{next(self._numbers)}")
        return await self.send(
            who, method, message_factory.GetMessageClass(found.input_type)(**fields)
        )

    async def send(self, who: str, method: str, *requests: Any) -> list[Any]:
        """Call a method with these requests and give all its responses."""
        found = _method(method)
        path = f"/{found.containing_service.full_name}/{found.name}"
        raw = [request.SerializeToString() for request in requests]
        call = make_call(*raw, method=path, caller=_caller(who))
        await self._access(call, self._replaced.get(path, self._core.methods()[path]))
        assert isinstance(call.wire, MemoryWire)
        response = message_factory.GetMessageClass(found.output_type)
        return [response.FromString(raw) for raw in call.wire.written]

    async def partner(self, partner_id: str, *roles: int, **fields: Any) -> None:
        """Register and activate a partner."""
        await self.register(partner_id, *roles, **fields)
        await self.ask(BUSINESS, "PartnerService/ActivatePartner", partner_id=partner_id)

    async def register(self, partner_id: str, *roles: int, **fields: Any) -> Any:
        """Register a partner."""
        values: dict[str, Any] = {
            "partner_id": partner_id,
            "profile": PROFILE,
            "roles": roles or (EVSE_OPERATOR, EVSP),
            "accepted_partner_contract_version": 1,
            **fields,
        }
        response = await self.ask(BUSINESS, "PartnerService/RegisterPartner", **values)
        return response.partner

    async def publish_interface(self, body: str = INTERFACE_BODY) -> Any:
        """Publish an interface, the test's own unless another is given."""
        method = "InterfaceCatalogService/PublishInterface"
        return await self.ask(TECHNICAL, method, descriptor_set=descriptor_set(body))

    async def register_service(self, provider_id: str, **fields: Any) -> Any:
        """Register a service of a partner."""
        values: dict[str, Any] = {
            "title": "Search",
            "description": "Finds things.",
            "interface_name": INTERFACE,
            "service_version": "1.0",
            "endpoint": f"{provider_id}.example:8443",
            "offering": TERMS,
            "accepted_registration_contract_version": 1,
            **fields,
        }
        method = "ServiceRegistryService/RegisterService"
        return (await self.ask(provider_id, method, **values)).service

    async def service(self, provider_id: str, **fields: Any) -> Any:
        """Register and publish a service of a partner."""
        registered = await self.register_service(provider_id, **fields)
        method = "ServiceRegistryService/PublishService"
        return (await self.ask(TECHNICAL, method, service_id=registered.service_id)).service

    async def contract(self, requester_id: str, service: Any, **fields: Any) -> Any:
        """Make a contract for a service."""
        values: dict[str, Any] = {
            "offering_id": service.offerings[0].offering_id,
            "section_ids": REQUIRED,
            "accepted": True,
            **fields,
        }
        response = await self.ask(requester_id, "ContractService/CreateContract", **values)
        return response.contract

    async def market(self, *providers: str, requester: str = "evsp") -> list[Any]:
        """Set up an interface, a requester, and a published service of each provider."""
        await self.publish_interface()
        await self.partner(requester, EVSP)
        for provider in providers:
            await self.partner(provider, EVSE_OPERATOR)
        return [await self.service(provider) for provider in providers]


@asynccontextmanager
async def control_plane(
    url: str, authority: CertificateAuthority, **choices: bool
) -> AsyncIterator[ControlPlane]:
    """Open a control plane over a migrated database."""
    notices = NoticeFeed(url)
    await notices.start()
    async with engine_of(url) as engine, conformance_market(authority) as market:
        plane = ControlPlane(engine, authority, notices, market, **choices)
        try:
            yield plane
        finally:
            await plane.runner.close()
            await notices.stop()


def fields_of(error: MarketError) -> list[str]:
    """Give the fields that an error blames."""
    violated: tuple[FieldViolation, ...] = error.violations
    return [violation.field for violation in violated]


def _descriptor(name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = _SERVICES[name].DESCRIPTOR.services_by_name[name]
    return found


def _method(name: str) -> MethodDescriptor:
    service_name, _, method = name.partition("/")
    found: MethodDescriptor = _descriptor(service_name).methods_by_name[method]
    return found


def _caller(who: str) -> Caller:
    if who not in _ROLES and ":" in who:
        # A person of a partner, for instance `volt:ada`, who may do anything for it.
        partner_id, _, user_name = who.partition(":")
        administers = int(AccessRole.ACCESS_ROLE_ADMINISTRATOR)
        return Caller(partner_id, frozenset({administers}), b"", "session-1", user_name)
    role = _ROLES.get(who, AccessRole.ACCESS_ROLE_PARTNER)
    subject_id = who.removeprefix("operator:")
    return Caller(subject_id, frozenset({int(role)}), who.encode())
