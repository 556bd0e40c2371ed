"""The registry of services as the command line asks for it: searches, registrations, steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from google.protobuf import json_format

from gem.common.v1 import money_pb2, paging_pb2
from gem.marketplace.v1 import contract_pb2, service_hosting_pb2, service_pb2
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1 import service_search_pb2 as wire
from gemarket.administration import new_request_id

if TYPE_CHECKING:
    # The stub with awaitable methods is a type only: at run time it is ServiceRegistryServiceStub.
    from gem.marketplace.v1.service_registry_service_pb2_grpc import (
        ServiceRegistryServiceAsyncStub,
    )

TIMEOUT_S = 30.0
_PAGE_SIZE = 200
_N = TypeVar("_N")

RELATIONS = {
    "offered": wire.SERVICE_RELATION_OFFERED,
    "contracted": wire.SERVICE_RELATION_CONTRACTED,
    "available": wire.SERVICE_RELATION_AVAILABLE,
}
STATES = {
    name.removeprefix("SERVICE_STATE_").lower().replace("_", "-"): number
    for name, number in service_pb2.ServiceState.items()
    if number
}


def criteria_of(
    *,
    text: str = "",
    category: str = "",
    interface: str = "",
    provider: str = "",
    state: str = "",
    relation: str = "",
    country: str = "",
) -> wire.SearchServicesRequest:
    """Read the options of a search; ValueError with the reason. Lists have commas between."""
    unspecified = wire.SERVICE_RELATION_UNSPECIFIED
    return wire.SearchServicesRequest(
        text=text,
        categories=[name for name in category.split(",") if name],
        interface_name=interface,
        provider_id=provider,
        states=[_one_of(STATES, name, "state") for name in state.split(",") if name],
        relation=_one_of(RELATIONS, relation, "relation") if relation else unspecified,
        hosting_country_code=country,
    )


def state_name(state: service_pb2.ServiceState.ValueType) -> str:
    """Give a state in lower case words."""
    name = service_pb2.ServiceState.Name(state)
    return name.removeprefix("SERVICE_STATE_").lower().replace("_", " ")


def offering_of(file: Path | None, price_micros: int, currency: str) -> contract_pb2.OfferingTerms:
    """Read an offering from a JSON file, or make one with a price and standard words.

    Raises:
        ValueError: the file is no offering.
        OSError: it cannot be read.
    """
    if file is not None:
        terms = contract_pb2.OfferingTerms()
        try:
            json_format.Parse(file.read_text(encoding="utf-8"), terms)
        except json_format.ParseError as error:
            raise ValueError(f"{file} is no offering: {error}") from None
        return terms
    price = contract_pb2.PriceModel(free=contract_pb2.PriceModel.Free())
    if price_micros:
        money = money_pb2.Money(amount_micros=price_micros, currency_code=currency)
        price = contract_pb2.PriceModel(per_call=contract_pb2.PriceModel.PerCall(price=money))
    section = contract_pb2.ContractSection(
        section_id="terms",
        title="Terms of use",
        text="Every call is answered as the interface says, and priced as offered.",
        required=True,
    )
    return contract_pb2.OfferingTerms(sections=[section], price=price)


def registration(
    *,
    title: str,
    description: str,
    interface: str,
    service_version: str,
    endpoint: str,
    offering: contract_pb2.OfferingTerms,
    accepted: int,
    keywords: Sequence[str] = (),
    hosting: str = "",
    image_id: str = "",
) -> registry.RegisterServiceRequest:
    """Render a registration; ValueError where the hosting data are not of its form."""
    name, _, version = interface.partition("@")
    if version and not version.isdecimal():
        raise ValueError("an interface is written NAME or NAME@VERSION")
    return registry.RegisterServiceRequest(
        request_id=new_request_id(),
        title=title,
        description=description,
        interface_name=name,
        interface_version=int(version or 0),
        service_version=service_version,
        endpoint=endpoint,
        offering=offering,
        accepted_registration_contract_version=accepted,
        keywords=service_pb2.ServiceKeywords(words=keywords) if keywords else None,
        hosting=_hosting(hosting) if hosting else None,
        image_id=image_id,
    )


async def search(
    stub: ServiceRegistryServiceAsyncStub, which: wire.SearchServicesRequest, limit: int
) -> AsyncIterator[wire.FoundService]:
    """Give the first services of a search, at most `limit`, page by page."""
    page, left = paging_pb2.PageRequest(), limit
    while left > 0:
        page.page_size = min(left, _PAGE_SIZE)
        which.page.CopyFrom(page)
        answer = await stub.SearchServices(which, timeout=TIMEOUT_S)
        for each in answer.found:
            yield each
        left -= len(answer.found)
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return


def _hosting(text: str) -> service_hosting_pb2.ServiceHosting:
    parts = text.split("/")
    if len(parts) not in {3, 4}:
        raise ValueError("hosting is written COUNTRY/REGION/OPERATOR or .../CONTACT")
    country, region, operator, *contact = parts
    return service_hosting_pb2.ServiceHosting(
        country_code=country,
        region=region,
        operator_name=operator,
        contact_email="".join(contact),
    )


def _one_of(known: Mapping[str, _N], name: str, kind: str) -> _N:
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    return known[name]
