"""Partners and services that are to be, as the forms of the control plane ask for them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from gem.common.v1 import identifier_pb2, money_pb2
from gem.marketplace.v1 import contract_pb2, partner_pb2, service_hosting_pb2
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.options.v1.options_pb2 import PartnerRole


def new_request_id() -> str:
    """Make a request id: a repetition with the same one has the first result."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class PartnerPlan:
    """A partner to register."""

    partner_id: str
    company_name: str
    roles: Sequence[PartnerRole.ValueType]
    country_code: str = "DE"
    #: Operator ids that the partner owns, for BY_KEY routing.
    operator_ids: Sequence[str] = ()

    def identifiers(self) -> list[identifier_pb2.OwnedIdentifier]:
        """Render what the partner owns."""
        kind = identifier_pb2.IDENTIFIER_KIND_OPERATOR_ID
        return [identifier_pb2.OwnedIdentifier(kind=kind, value=each) for each in self.operator_ids]

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
    #: The offering's terms; without them one section and the price.
    terms: contract_pb2.OfferingTerms | None = None
    hosting: service_hosting_pb2.ServiceHosting | None = None

    def request(self, registration_contract_version: int = 1) -> registry.RegisterServiceRequest:
        """Render the registration, with this version of the registration contract accepted."""
        return registry.RegisterServiceRequest(
            request_id=new_request_id(),
            title=self.title,
            description=f"{self.title}, by {self.provider_id}",
            interface_name=self.interface_name,
            service_version=self.service_version,
            endpoint=self.endpoint,
            offering=self.terms or self._plain_terms(),
            hosting=self.hosting,
            accepted_registration_contract_version=registration_contract_version,
        )

    def price(self) -> contract_pb2.PriceModel:
        """Render what an answered call costs."""
        price = contract_pb2.PriceModel(free=contract_pb2.PriceModel.Free())
        if self.price_micros:
            money = money_pb2.Money(
                amount_micros=self.price_micros, currency_code=self.currency_code
            )
            price = contract_pb2.PriceModel(per_call=contract_pb2.PriceModel.PerCall(price=money))
        return price

    def _plain_terms(self) -> contract_pb2.OfferingTerms:
        section = contract_pb2.ContractSection(
            section_id="terms",
            title="Terms of use",
            text="Every call is answered as the interface says, and priced as offered.",
            required=True,
        )
        return contract_pb2.OfferingTerms(sections=[section], price=self.price())
