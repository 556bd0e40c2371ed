"""Contracts as the command line asks for them: criteria, forms, decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from gem.common.v1 import paging_pb2
from gem.marketplace.v1 import contract_amendment_pb2 as amendments
from gem.marketplace.v1 import contract_pb2, contract_search_pb2
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1.contract_framework_pb2 import ListOfferingsRequest
from gemarket.administration import new_request_id
from gemarket.times import instant_of
from gemarket.transactions import money_text

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

    # The stub with awaitable methods is a type only: at run time it is ContractServiceStub.
    from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceAsyncStub

TIMEOUT_S = 60.0
_PAGE_SIZE = 1000
_M = TypeVar("_M", bound=Message)


def criteria_of(
    *,
    role: str = "",
    party: str = "",
    partner: str = "",
    service: str = "",
    interface: str = "",
    state: str = "",
    valid_at: str = "",
    ends_within: int = 0,
    pending: bool = False,
) -> contract_search_pb2.ContractCriteria:
    """Read the options of a search; ValueError with the reason."""
    known = contract_pb2.ContractState
    states = (_value(known, name, "state") for name in state.split(",") if name)
    role_value = _value(contract_search_pb2.ContractRole, role, "role") if role else 0
    return contract_search_pb2.ContractCriteria(
        party_id=party,
        role=role_value,  # type: ignore[arg-type]  # enum fields take plain numbers
        partner_id=partner,
        service_id=service,
        interface_name=interface,
        states=states,  # type: ignore[arg-type]  # as above
        valid_at_time=time_of(valid_at),
        ends_within_days=ends_within,
        request_pending=pending,
    )


def time_of(text: str) -> Timestamp | None:
    """Read a time; None for none, ValueError where it is not of ISO 8601."""
    return instant_of(text) if text else None


def name_of(enum: _EnumTypeWrapper[Any], number: int, prefix: str) -> str:
    """Give the value of an enum in lower case words; empty for the unspecified one."""
    name: str = enum.Name(number)
    return name.removeprefix(f"{prefix}_").lower().replace("_", " ") if number else ""


def price_text(price: contract_pb2.PriceModel) -> str:
    """Say in a line what a price is."""
    kind = price.WhichOneof("model")
    if kind == "per_call":
        return f"{money_text(price.per_call.price)} a call"
    if kind == "per_month":
        return f"{money_text(price.per_month.price)} a month"
    if kind == "per_unit":
        count, unit = price.per_unit.per_unit_count, price.per_unit.unit.unit_name
        return f"{money_text(price.per_unit.price)} for {count} {unit}"
    if kind == "tiered":
        tiered = price.tiered
        steps = (f"from {tier.from_count} {money_text(tier.price)}" for tier in tiered.tiers)
        unit = tiered.unit.unit_name if tiered.HasField("unit") else "calls"
        return f"{', '.join(steps)}; for {tiered.per_count} {unit}"
    return "free"


def message_of(file: Path, kind: type[_M]) -> _M:
    """Read a message in protobuf's JSON from a file; ValueError where it is none."""
    try:
        return json_format.Parse(file.read_text(encoding="utf-8"), kind())
    except json_format.ParseError as error:
        raise ValueError(f"{file}: {error}") from None


async def search(
    stub: ContractServiceAsyncStub, criteria: contract_search_pb2.ContractCriteria, limit: int
) -> AsyncIterator[contract_pb2.Contract]:
    """Give the first contracts of a search, at most `limit`, page by page."""
    page, left = paging_pb2.PageRequest(), limit
    while left > 0:
        page.page_size = min(left, _PAGE_SIZE)
        request = contract_search_pb2.SearchContractsRequest(criteria=criteria, page=page)
        answer = await stub.SearchContracts(request, timeout=TIMEOUT_S)
        for contract in answer.contracts:
            yield contract
        left -= len(answer.contracts)
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return


async def offerings(
    stub: ContractServiceAsyncStub, service_id: str
) -> AsyncIterator[contract_pb2.Offering]:
    """Give the offerings of a service that can be accepted, the oldest first."""
    page = paging_pb2.PageRequest()
    while True:
        request = ListOfferingsRequest(service_id=service_id, page=page)
        answer = await stub.ListOfferings(request, timeout=TIMEOUT_S)
        for offering in answer.offerings:
            yield offering
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return


async def required_sections(
    stub: ContractServiceAsyncStub, service_id: str, offering_id: str
) -> list[str]:
    """Give the ids of an offering's required sections; ValueError where it is not on offer."""
    async for each in offerings(stub, service_id):
        if each.offering_id == offering_id:
            return [section.section_id for section in each.terms.sections if section.required]
    raise ValueError(f"service {service_id} does not offer {offering_id}")


async def accept(
    stub: ContractServiceAsyncStub, offering_id: str, sections: Sequence[str], start: str
) -> contract_pb2.Contract:
    """Accept an offering with a choice of its sections."""
    request = contracts.CreateContractRequest(
        request_id=new_request_id(),
        offering_id=offering_id,
        section_ids=sections,
        accepted=True,
        start_time=time_of(start),
    )
    return (await stub.CreateContract(request, timeout=TIMEOUT_S)).contract


async def suspend(stub: ContractServiceAsyncStub, contract_id: str) -> contract_pb2.Contract:
    """Suspend a contract."""
    request = contracts.SuspendContractRequest(request_id=new_request_id(), contract_id=contract_id)
    return (await stub.SuspendContract(request, timeout=TIMEOUT_S)).contract


async def resume(stub: ContractServiceAsyncStub, contract_id: str) -> contract_pb2.Contract:
    """Resume a suspended contract."""
    request = contracts.ResumeContractRequest(request_id=new_request_id(), contract_id=contract_id)
    return (await stub.ResumeContract(request, timeout=TIMEOUT_S)).contract


async def terminate(stub: ContractServiceAsyncStub, contract_id: str) -> contract_pb2.Contract:
    """Give notice, or end a contract as the business operator."""
    request = contracts.TerminateContractRequest(
        request_id=new_request_id(), contract_id=contract_id
    )
    return (await stub.TerminateContract(request, timeout=TIMEOUT_S)).contract


async def ask_for_end(
    stub: ContractServiceAsyncStub, contract_id: str, reason: str, at: str
) -> amendments.ContractAmendment:
    """Ask the other party for the end of a contract."""
    request = amendments.RequestContractTerminationRequest(
        request_id=new_request_id(),
        contract_id=contract_id,
        reason=reason,
        effective_time=time_of(at),
    )
    return (await stub.RequestContractTermination(request, timeout=TIMEOUT_S)).amendment


async def ask_for_change(
    stub: ContractServiceAsyncStub, contract_id: str, reason: str, file: Path, at: str
) -> amendments.ContractAmendment:
    """Ask the other party for the terms in a file."""
    request = amendments.RequestContractChangeRequest(
        request_id=new_request_id(),
        contract_id=contract_id,
        reason=reason,
        terms=message_of(file, amendments.ProposedTerms),
        effective_time=time_of(at),
    )
    return (await stub.RequestContractChange(request, timeout=TIMEOUT_S)).amendment


async def ask_for_longer(
    stub: ContractServiceAsyncStub, contract_id: str, reason: str, until: str
) -> amendments.ContractAmendment:
    """Ask the other party for a later end."""
    request = amendments.RequestContractProlongationRequest(
        request_id=new_request_id(),
        contract_id=contract_id,
        reason=reason,
        end_time=time_of(until),
    )
    return (await stub.RequestContractProlongation(request, timeout=TIMEOUT_S)).amendment


async def ask_for_service(
    stub: ContractServiceAsyncStub,
    contract_id: str,
    reason: str,
    offering_id: str,
    sections: Sequence[str],
) -> amendments.ContractAmendment:
    """Ask the other party to take a further service into a contract."""
    request = amendments.RequestServiceAdditionRequest(
        request_id=new_request_id(),
        contract_id=contract_id,
        reason=reason,
        addition=amendments.ServiceAddition(offering_id=offering_id, section_ids=sections),
    )
    return (await stub.RequestServiceAddition(request, timeout=TIMEOUT_S)).amendment


async def decide(
    stub: ContractServiceAsyncStub, step: str, amendment_id: str, note: str
) -> amendments.ContractAmendment:
    """Accept (`confirm`), `reject` or `revoke` a request."""
    named = {"request_id": new_request_id(), "amendment_id": amendment_id}
    if step == "confirm":
        accepting = amendments.AcceptContractAmendmentRequest(**named, note=note)
        return (await stub.AcceptContractAmendment(accepting, timeout=TIMEOUT_S)).amendment
    if step == "reject":
        rejecting = amendments.RejectContractAmendmentRequest(**named, note=note)
        return (await stub.RejectContractAmendment(rejecting, timeout=TIMEOUT_S)).amendment
    revoking = amendments.RevokeContractAmendmentRequest(**named)
    return (await stub.RevokeContractAmendment(revoking, timeout=TIMEOUT_S)).amendment


def _value(enum: _EnumTypeWrapper[Any], name: str, kind: str) -> int:
    known: dict[str, int] = {}
    for full, number in enum.items():
        if number:
            known[full.rpartition("_")[2].lower()] = number
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    return known[name]
