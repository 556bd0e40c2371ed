"""The core services of the marketplace, put together."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import CertificateAuthority
from foundation.validation import violations
from gem.marketplace.v1 import (
    contract_service_pb2,
    interface_catalog_service_pb2,
    notification_service_pb2,
    partner_service_pb2,
    saved_search_service_pb2,
    service_registry_service_pb2,
    service_request_service_pb2,
    session_service_pb2,
    transaction_service_pb2,
)
from gem.options.v1 import options_pb2
from interceptors.core_services import CoreServices
from interceptors.health import SERVICE as HEALTH
from interceptors.health import HealthServicer
from interceptors.reflection import ReflectionServicer, reflection_services
from marketplace.certificate_servicer import Authority
from marketplace.contract_servicer import ContractServicer
from marketplace.interface_catalog_servicer import InterfaceCatalogServicer
from marketplace.notice_feed import NoticeFeed
from marketplace.notification_servicer import NotificationServicer
from marketplace.partner_servicer import PartnerServicer
from marketplace.password_hashing import PasswordHashing
from marketplace.route_explanation_servicer import LeftOut
from marketplace.routing_barrier import RoutingBarrier
from marketplace.routing_feed import RoutingFeed
from marketplace.saved_search_servicer import SavedSearchServicer
from marketplace.service_registry import RegistryParts, ServiceRegistry
from marketplace.service_request_servicer import ServiceRequestServicer
from marketplace.session import SessionLimits
from marketplace.session_servicer import SessionParts, SessionServicer
from marketplace.storage_command import Commands
from marketplace.transaction_servicer import TransactionServicer

_PUBLIC = (options_pb2.ACCESS_ROLE_PUBLIC,)


@dataclass(frozen=True, slots=True)
class CoreParts:
    """What the core services work with."""

    engine: AsyncEngine
    authority: CertificateAuthority
    barrier: RoutingBarrier
    session_limits: SessionLimits
    notices: NoticeFeed
    sends_email: bool
    services: RegistryParts
    #: Says which endpoints the router of this worker leaves out for the moment.
    left_out: LeftOut


def core_services(parts: CoreParts) -> CoreServices:
    """Register every core service of the marketplace."""
    engine, authority = parts.engine, parts.authority
    commands = Commands(engine, effective=parts.barrier.wait)
    core = CoreServices(violations)
    sessions = SessionParts(engine, PasswordHashing(), parts.session_limits)
    servicers: tuple[tuple[ModuleType, object], ...] = (
        (session_service_pb2, SessionServicer(commands, sessions)),
        (
            partner_service_pb2,
            PartnerServicer(commands, Authority(authority, authority.trust_domain)),
        ),
        (interface_catalog_service_pb2, InterfaceCatalogServicer(commands)),
        (service_registry_service_pb2, ServiceRegistry(commands, parts.services)),
        (contract_service_pb2, ContractServicer(commands, left_out=parts.left_out)),
        (transaction_service_pb2, TransactionServicer(engine)),
        (service_request_service_pb2, ServiceRequestServicer(commands)),
        (saved_search_service_pb2, SavedSearchServicer(commands)),
        (
            notification_service_pb2,
            NotificationServicer(commands, parts.notices, sends_email=parts.sends_email),
        ),
    )
    for module, servicer in servicers:
        (service,) = module.DESCRIPTOR.services_by_name.values()
        core.add(service, servicer)
    return core


def add_health(core: CoreServices, feed: RoutingFeed, max_age_s: float) -> HealthServicer:
    """Register the health service: overall, and for every core service and published interface."""

    def served() -> set[str]:
        own = {service.full_name for service in core.services()}
        return own | set(feed.current().interfaces())

    servicer = HealthServicer(served, lambda: feed.age_s() <= max_age_s)
    core.add(HEALTH, servicer, _PUBLIC)
    feed.on_change.append(lambda _: servicer.notify())
    return servicer


def add_reflection(core: CoreServices, feed: RoutingFeed) -> None:
    """Register reflection of the core services and of every published interface."""

    def interfaces() -> dict[str, bytes]:
        found = feed.current().interfaces()
        return {name: rules.descriptor_set for name, rules in found.items()}

    servicer = ReflectionServicer(core.services, interfaces)
    for service in reflection_services():
        core.add(service, servicer, _PUBLIC)
