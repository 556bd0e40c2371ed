"""What two parties agree on: a contract by an offering, and what an accepted request brings."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from foundation.errors import MarketError
from gem.marketplace.v1.contract_amendment_pb2 import ProposedTerms, ServiceAddition
from gem.marketplace.v1.contract_pb2 import AddedService, ContractTerms, OfferingTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.amendment import Amendment, AmendmentKind, changed_terms, check_asked
from marketplace.contract import (
    Acceptance,
    Contract,
    ContractState,
    agree,
    check_parties,
)
from marketplace.contract_changes import ContractChanges
from marketplace.contract_framework import size_violations
from marketplace.contract_period import first_period, prolonged, refused, terminating
from marketplace.service import Service, check_role
from marketplace.service_registry_servicer import check_visible as check_service_visible
from marketplace.storage_command import Work
from marketplace.storage_contract import ContractStorage
from marketplace.storage_framework import FrameworkStorage
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_price import PriceStorage
from marketplace.storage_service import ServiceStorage

#: Further services of a contract.
ADDED_MAX = 10


async def new_contract(
    w: Work,
    changes: ContractChanges,
    contract_id: str,
    offering_id: str,
    acceptance: Acceptance,
    starts_at: datetime | None,
) -> Contract:
    """Write a contract of the caller; no party nor service changes until the transaction ends."""
    offering, service = await _on_offer(w, offering_id, w.actor.subject_id)
    terms = agree(OfferingTerms.FromString(offering.terms), service, acceptance, offering.revision)
    period = first_period(terms, starts_at, w.now)
    storage = ContractStorage(w.connection)
    for overdue in await storage.overdue(w.actor.subject_id, service.service_id, w.now):
        await changes.locked(overdue)
    if await storage.covers(w.actor.subject_id, service.service_id):
        raise _covered()
    assert period.starts_at is not None, "a new contract has a start"
    pending = period.starts_at > w.now
    contract = Contract(
        contract_id=contract_id,
        position=0,
        requester_id=w.actor.subject_id,
        provider_id=service.provider_id,
        service_id=service.service_id,
        offering_id=offering_id,
        state=ContractState.PENDING if pending else ContractState.ACTIVE,
        terms=terms.SerializeToString(deterministic=True),
        created_at=w.now,
        terminated_at=None,
        period=period,
    )
    price = await PriceStorage(w.connection).kept(terms.price)
    return await storage.add(contract, price)


async def check_content(w: Work, contract: Contract, amendment: Amendment) -> None:
    """Refuse a request whose content could not be agreed on as things are now."""
    if amendment.kind in (AmendmentKind.CHANGE, AmendmentKind.ADDITION):
        await _next_terms(w, contract, amendment)


async def accept(
    w: Work, changes: ContractChanges, contract: Contract, amendment: Amendment
) -> Contract:
    """Bring about what was accepted, now or at its time; gives the contract as it is now."""
    at = max(amendment.effective_at or w.now, w.now)
    if amendment.kind is AmendmentKind.PROLONGATION:
        check_asked(contract, amendment.kind, amendment.effective_at, w.now)
        after = replace(contract, period=prolonged(contract.period, amendment.effective_at))
        return await changes.apply(after, amendment)
    if amendment.kind is AmendmentKind.TERMINATION:
        if at <= w.now:
            return await changes.apply(contract, amendment)
        after = replace(contract, period=terminating(contract.period, at))
        await changes.contracts.put(after)
        return after
    return await _accept_terms(w, changes, contract, amendment, at)


async def _accept_terms(
    w: Work, changes: ContractChanges, contract: Contract, amendment: Amendment, at: datetime
) -> Contract:
    """Write the next revision, in force from an instant on."""
    terms = await _next_terms(w, contract, amendment)
    raw = terms.SerializeToString(deterministic=True)
    revision = contract.revision + 1
    prices = PriceStorage(w.connection)
    price = await prices.kept(terms.price)
    await changes.amendments.add_revision(amendment, revision, raw, price, at)
    if amendment.kind is AmendmentKind.ADDITION:
        added = terms.added_services[-1]
        price = await prices.kept(added.price)
        await changes.amendments.add_service(
            contract.contract_id, added.service_id, added.offering_id, price, at
        )
    if at <= w.now:
        return await changes.apply(replace(contract, revision=revision, terms=raw), amendment)
    after = replace(contract, changes_at=at)
    await changes.contracts.put(after)
    changes.reroute(replace(after, terms=raw))
    return after


async def _next_terms(w: Work, contract: Contract, amendment: Amendment) -> ContractTerms:
    """Give the terms that a change or an addition leads to."""
    before = ContractTerms.FromString(contract.terms)
    if amendment.kind is AmendmentKind.CHANGE:
        version = before.framework_version
        framework = await FrameworkStorage(w.connection).get(version) if version else None
        return changed_terms(before, ProposedTerms.FromString(amendment.content), framework)
    return await _with_service(w, contract, ServiceAddition.FromString(amendment.content))


async def _with_service(w: Work, contract: Contract, addition: ServiceAddition) -> ContractTerms:
    offering, service = await _on_offer(w, addition.offering_id, contract.requester_id)
    if service.provider_id != contract.provider_id:
        description = "must be an offering of the contract's provider"
        raise refused("addition.offering_id", description, "same_provider")
    if await ContractStorage(w.connection).covers(contract.requester_id, service.service_id):
        raise _covered()
    acceptance = Acceptance(tuple(addition.section_ids), accepted=True)
    terms = agree(OfferingTerms.FromString(offering.terms), service, acceptance, offering.revision)
    after = ContractTerms.FromString(contract.terms)
    if len(after.added_services) >= ADDED_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            f"The contract has {ADDED_MAX} further services already.",
        )
    after.added_services.add().CopyFrom(_added(offering.offering_id, service, terms))
    for found in size_violations(after, "addition"):
        raise refused(found.field, found.description, found.rule)
    return after


def _added(offering_id: str, service: Service, terms: ContractTerms) -> AddedService:
    return AddedService(
        service_id=service.service_id,
        offering_id=offering_id,
        interface_name=service.interface_name,
        interface_version=service.interface_version,
        service_title=service.title,
        service_version=service.service_version,
        sections=terms.sections,
        price=terms.price,
    )


async def _on_offer(w: Work, offering_id: str, requester_id: str) -> tuple[Any, Service]:
    """Give an offering and its service, which this partner may contract; both stay as they are."""
    services = ServiceStorage(w.connection)
    service_id = (await services.offering(offering_id)).service_id
    service = await services.shared(service_id)
    # Read again: whoever withdraws it holds the service alone.
    offering = await services.offering(offering_id)
    check_service_visible(service, w.actor)
    requester = await PartnerStorage(w.connection).shared(requester_id)
    provider = await PartnerStorage(w.connection).shared(service.provider_id)
    check_parties(service, requester, provider)
    interface = await InterfaceStorage(w.connection).get(
        service.interface_name, service.interface_version
    )
    check_role(requester.roles, interface.called_by, "call")
    return offering, service


def _covered() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_ALREADY_EXISTS,
        "The partner has a contract for this service already.",
        metadata={"kind": "contract"},
    )
