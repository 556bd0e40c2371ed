"""The core services of the marketplace, put together."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import CertificateAuthority
from foundation.validation import violations
from gem.marketplace.v1 import (
    contract_service_pb2,
    interface_catalog_service_pb2,
    partner_service_pb2,
    service_registry_service_pb2,
    transaction_service_pb2,
)
from interceptors.core_services import CoreServices
from marketplace.certificate_servicer import Authority
from marketplace.contract_servicer import ContractServicer
from marketplace.interface_catalog_servicer import InterfaceCatalogServicer
from marketplace.partner_servicer import PartnerServicer
from marketplace.service_registry_servicer import ServiceRegistryServicer
from marketplace.storage_command import Commands
from marketplace.transaction_servicer import TransactionServicer


def core_services(engine: AsyncEngine, authority: CertificateAuthority) -> CoreServices:
    """Register every core service."""
    commands = Commands(engine)
    core = CoreServices(violations)
    servicers = (
        (
            partner_service_pb2,
            PartnerServicer(commands, Authority(authority, authority.trust_domain)),
        ),
        (interface_catalog_service_pb2, InterfaceCatalogServicer(commands)),
        (service_registry_service_pb2, ServiceRegistryServicer(commands)),
        (contract_service_pb2, ContractServicer(commands)),
        (transaction_service_pb2, TransactionServicer(engine)),
    )
    for module, servicer in servicers:
        (service,) = module.DESCRIPTOR.services_by_name.values()
        core.add(service, servicer)
    return core
