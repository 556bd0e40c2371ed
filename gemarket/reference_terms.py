"""What the reference operators offer: terms by the contract framework of the market."""

from __future__ import annotations

from gem.marketplace.v1 import contract_pb2, contract_section_pb2, service_hosting_pb2

#: The version of the framework whose sections these are.
FRAMEWORK_VERSION = 1
_NOTICE_DAYS = 30
_AVAILABILITY_PERMILLE = 990
_PERCENTILE_95_MS = 1_000
_TEXTS = {
    "parties": "The operator named as provider, and the partner that accepts this offering.",
    "term": "The contract begins with its acceptance and has no set end.",
    "notice": "Either side may ask for the end of the contract with this notice.",
    "service-level": "What share of calls is answered, and within what time.",
    "price": "Every answered call costs the stated price; calls that fail cost nothing.",
    "data-protection": "Data of a search serve to answer it, and to bill it.",
    "liability": "As the law says.",
}


def reference_terms(price: contract_pb2.PriceModel) -> contract_pb2.OfferingTerms:
    """Make the terms of an offering: price per call, service level promised, notice."""
    values = {
        "term": contract_section_pb2.ContractTerm(),
        "notice": contract_section_pb2.ContractNotice(notice_days=_NOTICE_DAYS),
        "service_level": contract_section_pb2.PromisedServiceLevel(
            availability_permille=_AVAILABILITY_PERMILLE, percentile_95_ms=_PERCENTILE_95_MS
        ),
        "purposes": contract_section_pb2.DataPurposes(purposes=["search", "billing"]),
    }
    fields = {"service-level": "service_level", "data-protection": "purposes"}
    terms = contract_pb2.OfferingTerms(price=price, framework_version=FRAMEWORK_VERSION)
    for name, text in _TEXTS.items():
        section = terms.sections.add(
            section_id=name,
            framework_section_id=name,
            title=name.replace("-", " ").capitalize(),
            text=text,
            required=True,
        )
        field = fields.get(name, name)
        if field in values:
            getattr(section, field).CopyFrom(values[field])
    return terms


def reference_hosting(operator_name: str) -> service_hosting_pb2.ServiceHosting:
    """Say where a reference operator's service runs: on this machine, by the operator itself."""
    return service_hosting_pb2.ServiceHosting(
        country_code="DE", region="Hessen", operator_name=operator_name
    )
