"""What operators and partners do before a call: the control plane's services, as a client.

Everything goes over mutual TLS with the generated stubs, as any partner's back end would do it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc import StatusCode, aio

from foundation.certificates import new_key_and_csr
from gem.common.v1 import identifier_pb2, money_pb2
from gem.marketplace.v1 import (
    contract_pb2,
    contract_service_pb2_grpc,
    interface_catalog_service_pb2_grpc,
    interface_pb2,
    partner_pb2,
    partner_service_pb2_grpc,
    service_pb2,
    service_registry_service_pb2_grpc,
)
from gem.marketplace.v1 import (
    contract_service_pb2 as contracts,
)
from gem.marketplace.v1 import (
    interface_catalog_service_pb2 as catalog,
)
from gem.marketplace.v1 import (
    partner_service_pb2 as partners,
)
from gem.marketplace.v1 import (
    service_registry_service_pb2 as registry,
)
from gem.marketplace.v1.partner_contract_pb2 import GetPartnerContractRequest
from gem.options.v1.options_pb2 import PartnerRole
from gemarket.identity import Identity, channel_credentials

_TIMEOUT_S = 20.0


def new_request_id() -> str:
    """Make a request id: a repetition with the same one has the first result."""
    return uuid.uuid4().hex


def descriptor_set(*files: FileDescriptor) -> bytes:
    """Give generated files and all that they import as a serialised FileDescriptorSet."""
    collected: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name in collected:
            return
        for dependency in file.dependencies:
            add(dependency)
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        collected[file.name] = proto

    for file in files:
        add(file)
    return FileDescriptorSet(file=collected.values()).SerializeToString()


@dataclass(frozen=True, slots=True)
class PartnerPlan:
    """A partner to register."""

    partner_id: str
    company_name: str
    roles: Sequence[PartnerRole.ValueType]
    country_code: str = "DE"
    #: Operator ids that the partner owns, for BY_KEY routing.
    operator_ids: Sequence[str] = ()

    def profile(self) -> partner_pb2.PartnerProfile:
        """Render the company data; the person is the demonstration's, nobody real."""
        person = partner_pb2.ResponsiblePerson(
            full_name="Responsible Person", email=f"market@{self.partner_id}.example"
        )
        return partner_pb2.PartnerProfile(
            company_name=self.company_name,
            postal_address="Main Street 1",
            country_code=self.country_code,
            responsible_person=person,
        )


class Connection:
    """The control plane as one party sees it; an async context manager."""

    def __init__(self, address: str, identity: Identity) -> None:
        self.channel = aio.secure_channel(address, channel_credentials(identity))
        self.partners = partner_service_pb2_grpc.PartnerServiceStub(self.channel)
        self.catalog = interface_catalog_service_pb2_grpc.InterfaceCatalogServiceStub(self.channel)
        self.services = service_registry_service_pb2_grpc.ServiceRegistryServiceStub(self.channel)
        self.contracts = contract_service_pb2_grpc.ContractServiceStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()

    async def ensure_interface(self, files: bytes) -> None:
        """Publish a descriptor set unless it is published already (technical operator)."""
        try:
            await self.publish_interface(files)
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.ALREADY_EXISTS:
                raise

    async def publish_interface(self, files: bytes) -> Sequence[interface_pb2.Interface]:
        """Publish a descriptor set (technical operator)."""
        request = catalog.PublishInterfaceRequest(request_id=new_request_id(), descriptor_set=files)
        response = await self.catalog.PublishInterface(request, timeout=_TIMEOUT_S)
        return response.interfaces

    async def ensure_partner(self, plan: PartnerPlan) -> None:
        """Register and activate a partner unless it is active already (business operator)."""
        listing = partners.GetPartnerRequest(partner_id=plan.partner_id)
        try:
            known = (await self.partners.GetPartner(listing, timeout=_TIMEOUT_S)).partner
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.NOT_FOUND:
                raise
            known = await self._register(plan)
        if known.state != partner_pb2.PARTNER_STATE_ACTIVE:
            activate = partners.ActivatePartnerRequest(
                request_id=new_request_id(), partner_id=plan.partner_id
            )
            await self.partners.ActivatePartner(activate, timeout=_TIMEOUT_S)

    async def _register(self, plan: PartnerPlan) -> partner_pb2.Partner:
        identifiers = [
            identifier_pb2.OwnedIdentifier(
                kind=identifier_pb2.IDENTIFIER_KIND_OPERATOR_ID, value=operator_id
            )
            for operator_id in plan.operator_ids
        ]
        wanted = GetPartnerContractRequest()
        current = await self.partners.GetPartnerContract(wanted, timeout=_TIMEOUT_S)
        request = partners.RegisterPartnerRequest(
            request_id=new_request_id(),
            partner_id=plan.partner_id,
            profile=plan.profile(),
            roles=plan.roles,
            identifiers=identifiers,
            accepted_partner_contract_version=current.partner_contract.version,
        )
        response = await self.partners.RegisterPartner(request, timeout=_TIMEOUT_S)
        return response.partner

    async def issue_identity(self, partner_id: str, identity: Identity, roots: bytes) -> None:
        """Make a key, have its certificate issued (business operator), and write the files."""
        key, csr = new_key_and_csr(partner_id)
        request = partners.IssueCertificateRequest(
            request_id=new_request_id(),
            partner_id=partner_id,
            certificate_signing_request_pem=csr,
        )
        response = await self.partners.IssueCertificate(request, timeout=_TIMEOUT_S)
        identity.write(key, response.chain_pem, roots)

    async def ensure_service(self, plan: ServicePlan) -> str:
        """Register a service, or move it to its endpoint (its provider); gives its id."""
        listing = registry.ListServicesRequest(
            interface_name=plan.interface_name, provider_id=plan.provider_id
        )
        known = (await self.services.ListServices(listing, timeout=_TIMEOUT_S)).services
        if not known:
            response = await self.services.RegisterService(plan.request(), timeout=_TIMEOUT_S)
            return response.service.service_id
        if known[0].endpoint != plan.endpoint:
            change = registry.ChangeServiceEndpointRequest(
                request_id=new_request_id(),
                service_id=known[0].service_id,
                endpoint=plan.endpoint,
            )
            await self.services.ChangeServiceEndpoint(change, timeout=_TIMEOUT_S)
        return known[0].service_id

    async def publish_service(self, service_id: str) -> None:
        """Publish a registered service (technical operator); a published one stays as it is."""
        request = registry.GetServiceRequest(service_id=service_id)
        known = (await self.services.GetService(request, timeout=_TIMEOUT_S)).service
        if known.state == service_pb2.SERVICE_STATE_REGISTERED:
            publish = registry.PublishServiceRequest(
                request_id=new_request_id(), service_id=service_id
            )
            await self.services.PublishService(publish, timeout=_TIMEOUT_S)

    async def ensure_contract(self, service_id: str) -> str:
        """Accept the first offering of a service (its requester); gives the contract's id.

        A contract that has not ended is kept, also a suspended one.
        """
        ended = (contract_pb2.CONTRACT_STATE_TERMINATED, contract_pb2.CONTRACT_STATE_EXPIRED)
        listing = contracts.ListContractsRequest(service_id=service_id)
        known = (await self.contracts.ListContracts(listing, timeout=_TIMEOUT_S)).contracts
        for contract in known:
            if contract.state not in ended:
                return contract.contract_id
        request = registry.GetServiceRequest(service_id=service_id)
        service = (await self.services.GetService(request, timeout=_TIMEOUT_S)).service
        offering = service.offerings[0]
        create = contracts.CreateContractRequest(
            request_id=new_request_id(),
            offering_id=offering.offering_id,
            section_ids=[section.section_id for section in offering.terms.sections],
            accepted=True,
        )
        response = await self.contracts.CreateContract(create, timeout=_TIMEOUT_S)
        return response.contract.contract_id

    async def suspend(self, contract_id: str) -> None:
        """Suspend a contract (its requester); the next call no longer asks the provider."""
        request = contracts.SuspendContractRequest(
            request_id=new_request_id(), contract_id=contract_id
        )
        await self.contracts.SuspendContract(request, timeout=_TIMEOUT_S)

    async def resume(self, contract_id: str) -> None:
        """Resume a suspended contract (its requester)."""
        request = contracts.ResumeContractRequest(
            request_id=new_request_id(), contract_id=contract_id
        )
        await self.contracts.ResumeContract(request, timeout=_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A service to register, with its one offering."""

    provider_id: str
    title: str
    interface_name: str
    endpoint: str
    price_micros: int = 0
    currency_code: str = "EUR"
    service_version: str = "1.0.0"

    def request(self) -> registry.RegisterServiceRequest:
        """Render the registration."""
        price = contract_pb2.PriceModel(free=contract_pb2.PriceModel.Free())
        if self.price_micros:
            money = money_pb2.Money(
                amount_micros=self.price_micros, currency_code=self.currency_code
            )
            price = contract_pb2.PriceModel(per_call=contract_pb2.PriceModel.PerCall(price=money))
        section = contract_pb2.ContractSection(
            section_id="terms",
            title="Terms of use",
            text="Every call is answered as the interface says, and priced as offered.",
            required=True,
        )
        return registry.RegisterServiceRequest(
            request_id=new_request_id(),
            title=self.title,
            description=f"{self.title}, by {self.provider_id}",
            interface_name=self.interface_name,
            service_version=self.service_version,
            endpoint=self.endpoint,
            offering=contract_pb2.OfferingTerms(sections=[section], price=price),
            accepted_registration_contract_version=1,
        )
