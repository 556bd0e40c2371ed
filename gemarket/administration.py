"""What operators and partners do before a call: the control plane's services, as a client.

Everything goes over mutual TLS with the generated stubs, as any partner's back end would do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc import StatusCode, aio, ssl_channel_credentials

from foundation.certificates import new_key_and_csr
from gem.marketplace.v1 import (
    certification_pb2,
    contract_pb2,
    contract_service_pb2_grpc,
    interface_catalog_service_pb2_grpc,
    interface_pb2,
    partner_pb2,
    partner_registration_pb2,
    partner_service_pb2_grpc,
    service_lifecycle_pb2,
    service_pb2,
    service_registry_service_pb2_grpc,
    service_search_pb2,
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
from gemarket.identity import Identity, channel_credentials
from gemarket.plans import PartnerPlan, ServicePlan, new_request_id

__all__ = ["Connection", "PartnerPlan", "ServicePlan", "descriptor_set", "new_request_id"]

_TIMEOUT_S = 20.0
#: How often a conformance run is looked at until it has ended, and the pause between.
_REPORT_TRIES = 600
_REPORT_PAUSE_S = 0.1


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


class Connection:
    """The control plane as one party sees it; an async context manager."""

    def __init__(self, address: str, identity: Identity | None, roots: bytes | None = None) -> None:
        """Come with a certificate, or without one as anybody to the listener for people.

        Anybody has to say whose certificate of the listener to trust: `roots`.
        """
        credentials = channel_credentials(identity) if identity else ssl_channel_credentials(roots)
        self.channel = aio.secure_channel(address, credentials)
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
        if await self.partner(plan.partner_id) is None:
            await self._register(plan)
        await self.activate(plan.partner_id)

    async def partner(self, partner_id: str) -> partner_pb2.Partner | None:
        """Give a partner (an operator, or the partner itself); None where there is none."""
        request = partners.GetPartnerRequest(partner_id=partner_id)
        try:
            return (await self.partners.GetPartner(request, timeout=_TIMEOUT_S)).partner
        except aio.AioRpcError as error:
            if error.code() is not StatusCode.NOT_FOUND:
                raise
            return None

    async def activate(self, partner_id: str) -> None:
        """Activate a partner unless it is active already (business operator)."""
        known = await self.partner(partner_id)
        if known is None or known.state != partner_pb2.PARTNER_STATE_ACTIVE:
            activate = partners.ActivatePartnerRequest(
                request_id=new_request_id(), partner_id=partner_id
            )
            await self.partners.ActivatePartner(activate, timeout=_TIMEOUT_S)

    async def request_registration(self, plan: PartnerPlan) -> tuple[str, str]:
        """Ask to become a partner (anybody); gives the request's id and the one-time reference.

        Repeated while the request waits, it gives the same request with a fresh reference.
        """
        form = partner_registration_pb2.RequestPartnerRegistrationRequest(
            request_id=f"join-{plan.partner_id}",
            partner_id=plan.partner_id,
            profile=plan.profile(),
            roles=plan.roles,
            identifiers=plan.identifiers(),
            accepted_partner_contract_version=await self._partner_contract_version(),
        )
        answer = await self.partners.RequestPartnerRegistration(form, timeout=_TIMEOUT_S)
        return answer.registration.registration_id, answer.reference

    async def approve_registration(self, registration_id: str) -> None:
        """Register the partner that a request asks for (business operator)."""
        request = partner_registration_pb2.ApprovePartnerRegistrationRequest(
            request_id=new_request_id(), registration_id=registration_id
        )
        await self.partners.ApprovePartnerRegistration(request, timeout=_TIMEOUT_S)

    async def first_identity(
        self, partner_id: str, reference: str, identity: Identity, roots: bytes
    ) -> None:
        """Make a key, fetch the one certificate that a reference is good for, write the files."""
        key, csr = new_key_and_csr(partner_id)
        request = partner_registration_pb2.IssueFirstCertificateRequest(
            request_id=new_request_id(), reference=reference, certificate_signing_request_pem=csr
        )
        response = await self.partners.IssueFirstCertificate(request, timeout=_TIMEOUT_S)
        identity.write(key, response.chain_pem, roots)

    async def _partner_contract_version(self) -> int:
        wanted = GetPartnerContractRequest()
        current = await self.partners.GetPartnerContract(wanted, timeout=_TIMEOUT_S)
        return current.partner_contract.version

    async def _register(self, plan: PartnerPlan) -> partner_pb2.Partner:
        request = partners.RegisterPartnerRequest(
            request_id=new_request_id(),
            partner_id=plan.partner_id,
            profile=plan.profile(),
            roles=plan.roles,
            identifiers=plan.identifiers(),
            accepted_partner_contract_version=await self._partner_contract_version(),
        )
        response = await self.partners.RegisterPartner(request, timeout=_TIMEOUT_S)
        return response.partner

    async def issue_identity(self, partner_id: str, identity: Identity, roots: bytes) -> None:
        """Make a key, have its certificate issued, and write the files.

        For the partner itself with a certificate that is still good, and for the business operator.
        """
        key, csr = new_key_and_csr(partner_id)
        request = partners.IssueCertificateRequest(
            request_id=new_request_id(),
            partner_id=partner_id,
            certificate_signing_request_pem=csr,
        )
        response = await self.partners.IssueCertificate(request, timeout=_TIMEOUT_S)
        identity.write(key, response.chain_pem, roots)

    async def services_of(
        self, provider_id: str, interface_name: str
    ) -> Sequence[service_pb2.Service]:
        """List a provider's services of an interface, the oldest first."""
        listing = registry.ListServicesRequest(
            interface_name=interface_name, provider_id=provider_id
        )
        return (await self.services.ListServices(listing, timeout=_TIMEOUT_S)).services

    async def ensure_service(self, plan: ServicePlan) -> str:
        """Register a service, or move it to its endpoint (its provider); gives its id."""
        known = await self.services_of(plan.provider_id, plan.interface_name)
        if not known:
            wanted = service_lifecycle_pb2.GetRegistrationContractRequest()
            current = await self.services.GetRegistrationContract(wanted, timeout=_TIMEOUT_S)
            form = plan.request(current.registration_contract.version)
            response = await self.services.RegisterService(form, timeout=_TIMEOUT_S)
            return response.service.service_id
        if known[0].endpoint != plan.endpoint:
            change = registry.ChangeServiceEndpointRequest(
                request_id=new_request_id(),
                service_id=known[0].service_id,
                endpoint=plan.endpoint,
            )
            await self.services.ChangeServiceEndpoint(change, timeout=_TIMEOUT_S)
        return known[0].service_id

    async def service(self, service_id: str) -> service_pb2.Service:
        """Give a service."""
        request = registry.GetServiceRequest(service_id=service_id)
        return (await self.services.GetService(request, timeout=_TIMEOUT_S)).service

    async def contract(self, contract_id: str) -> contract_pb2.Contract:
        """Give a contract (one of its parties, or an operator)."""
        request = contracts.GetContractRequest(contract_id=contract_id)
        return (await self.contracts.GetContract(request, timeout=_TIMEOUT_S)).contract

    async def certified(self, service_id: str) -> certification_pb2.Certification | None:
        """Give the certification of a service that is in force; None without one."""
        request = certification_pb2.GetCertificationRequest(service_id=service_id)
        answer = await self.services.GetCertification(request, timeout=_TIMEOUT_S)
        return answer.certification if answer.HasField("certification") else None

    async def run_conformance(self, service_id: str) -> certification_pb2.ConformanceReport:
        """Have the endpoint of a service checked against its interface (its provider).

        Gives the report of the run when it has ended, however it ended.

        Raises:
            TimeoutError: the run has not ended after a minute.
        """
        begin = certification_pb2.RunConformanceRequest(
            request_id=new_request_id(), service_id=service_id, include_side_effects=True
        )
        begun = (await self.services.RunConformance(begin, timeout=_TIMEOUT_S)).report
        request = certification_pb2.GetConformanceReportRequest(run_id=begun.run_id)
        for _ in range(_REPORT_TRIES):
            report = (await self.services.GetConformanceReport(request, timeout=_TIMEOUT_S)).report
            if report.state != certification_pb2.CONFORMANCE_STATE_RUNNING:
                return report
            await asyncio.sleep(_REPORT_PAUSE_S)
        raise TimeoutError("a conformance run does not end")

    async def certify_service(self, run_id: str) -> None:
        """Certify a service on a run that passed (technical operator)."""
        request = certification_pb2.CertifyServiceRequest(
            request_id=new_request_id(), run_id=run_id
        )
        await self.services.CertifyService(request, timeout=_TIMEOUT_S)

    async def find_services(self, interface_name: str) -> dict[str, service_pb2.Service]:
        """Search the published services of an interface; the best found by provider id."""
        request = service_search_pb2.SearchServicesRequest(
            interface_name=interface_name, states=[service_pb2.SERVICE_STATE_PUBLISHED]
        )
        found = (await self.services.SearchServices(request, timeout=_TIMEOUT_S)).found
        return {each.service.provider_id: each.service for each in reversed(found)}

    async def publish_service(self, service_id: str) -> None:
        """Publish a registered service (its provider or the technical operator).

        A published one stays as it is.
        """
        known = await self.service(service_id)
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
        offering = (await self.service(service_id)).offerings[0]
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
