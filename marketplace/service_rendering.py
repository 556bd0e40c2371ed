"""Services and what belongs to them as messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gem.marketplace.v1 import contract_pb2, service_hosting_pb2, service_pb2, service_version_pb2
from gem.marketplace.v1.contract_pb2 import Offering, OfferingTerms
from marketplace.actor import Actor
from marketplace.rendering import enum_number, timestamp
from marketplace.service import Service
from marketplace.service_version import ServiceVersion
from marketplace.storage_command import Work
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_description import ServiceDescriptionStorage

STATE = "SERVICE_STATE"
_VERSION_STATE = "SERVICE_VERSION_STATE"


async def rendered(w: Work, service: Service) -> service_pb2.Service:
    """Give a service with its offerings, where it is hosted and its image."""
    offerings = await ServiceStorage(w.connection).offerings(service.service_id)
    made = render_service(service, offerings, w.actor)
    storage = ServiceDescriptionStorage(w.connection)
    hosting, image = await storage.hosting(service.service_id)
    if hosting is not None and hosting.country_code is not None:
        made.hosting.CopyFrom(_render_hosting(hosting, service, w.actor))
    if image is not None:
        made.image.CopyFrom(render_image(image))
    return made


def render_service(service: Service, offerings: Sequence[Any], actor: Actor) -> service_pb2.Service:
    """Give a service as the actor may see it."""
    made: Any = service_pb2.Service(
        service_id=service.service_id,
        provider_id=service.provider_id,
        title=service.title,
        description=service.description,
        interface_name=service.interface_name,
        interface_version=service.interface_version,
        service_version=service.service_version,
        endpoint=service.endpoint if actor.may_see(service.provider_id) else "",
        offerings=map(_render_offering, offerings),
        register_time=timestamp(service.registered_at),
        category=service.category,
        keywords=service.keywords,
    )
    made.state = enum_number(service_pb2.ServiceState, STATE, service.state)
    return made  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_image(row: Any) -> service_hosting_pb2.ServiceImage:
    """Give an image of the catalogue."""
    return service_hosting_pb2.ServiceImage(
        image_id=row.image_id,
        provider_id=row.provider_id,
        reference=row.reference,
        title=row.title,
        register_time=timestamp(row.registered_at),
    )


def render_related(rows: Iterable[Any]) -> list[service_pb2.RelatedService]:
    """Give related services."""
    return [
        service_pb2.RelatedService(
            service_id=row.service_id,
            title=row.title,
            interface_name=row.interface_name,
            category=row.category,
        )
        for row in rows
    ]


def render_own_contract(row: Any) -> contract_pb2.Contract:
    """Give a contract without its terms."""
    made: Any = contract_pb2.Contract(
        contract_id=row.contract_id,
        requester_id=row.requester_id,
        provider_id=row.provider_id,
        service_id=row.service_id,
        offering_id=row.offering_id,
        create_time=timestamp(row.created_at),
    )
    if row.terminated_at is not None:
        made.terminate_time.CopyFrom(timestamp(row.terminated_at))
    made.state = contract_pb2.ContractState.Value(f"CONTRACT_STATE_{row.state}")
    return made  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_version(
    version: ServiceVersion, service: Service, actor: Actor, unchanged_count: int = 0
) -> service_version_pb2.ServiceVersion:
    """Give a version as the actor may see it, without what it is offered for."""
    own = actor.may_see(service.provider_id)
    made: Any = service_version_pb2.ServiceVersion(
        service_id=version.service_id,
        service_version=version.service_version,
        interface_version=version.interface_version,
        compatible=version.compatible,
        endpoint=version.endpoint if own else "",
        prepare_time=timestamp(version.prepared_at),
        unchanged_contract_count=unchanged_count if own else 0,
    )
    made.state = enum_number(service_version_pb2.ServiceVersionState, _VERSION_STATE, version.state)
    return made  # type: ignore[no-any-return]  # enum fields take plain numbers


def _render_hosting(row: Any, service: Service, actor: Actor) -> service_hosting_pb2.ServiceHosting:
    return service_hosting_pb2.ServiceHosting(
        country_code=row.country_code,
        region=row.region,
        operator_name=row.operator_name,
        contact_email=row.contact_email if actor.may_see(service.provider_id) else "",
    )


def _render_offering(row: Any) -> Offering:
    return Offering(
        offering_id=row.offering_id,
        service_id=row.service_id,
        terms=OfferingTerms.FromString(row.terms),
        create_time=timestamp(row.created_at),
    )
