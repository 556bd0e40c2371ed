"""Contracts, their history, requests and offerings as messages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gem.marketplace.v1 import contract_amendment_pb2, contract_pb2
from gem.marketplace.v1.contract_amendment_pb2 import ProposedTerms, ServiceAddition
from gem.marketplace.v1.contract_pb2 import ContractTerms, OfferingTerms
from marketplace.actor import party_of
from marketplace.amendment import Amendment, AmendmentKind
from marketplace.contract import Contract, ContractState, ContractStep
from marketplace.contract_period import Ending
from marketplace.rendering import enum_number, timestamp

STATE = "CONTRACT_STATE"
_EVENT = "CONTRACT_EVENT_KIND"
_ENDING = "CONTRACT_ENDING"


def render_contract(contract: Contract) -> contract_pb2.Contract:
    """Give a contract as a message; one without terms is of a list."""
    period = contract.period
    rendered: Any = contract_pb2.Contract(
        contract_id=contract.contract_id,
        requester_id=contract.requester_id,
        provider_id=contract.provider_id,
        service_id=contract.service_id,
        offering_id=contract.offering_id,
        terms=ContractTerms.FromString(contract.terms) if contract.terms else None,
        create_time=timestamp(contract.created_at),
        start_time=timestamp(period.starts_at or contract.created_at),
        revision=contract.revision,
        terms_digest=digest_of(contract.terms) if contract.terms else b"",
    )
    _put_times(
        rendered,
        {
            "terminate_time": contract.terminated_at,
            "end_time": period.ends_at,
            "trial_end_time": period.trial_ends_at,
        },
    )
    rendered.state = enum_number(contract_pb2.ContractState, STATE, contract.state)
    if period.ending is not Ending.NONE:
        rendered.ending = enum_number(contract_pb2.ContractEnding, _ENDING, period.ending)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def digest_of(terms: bytes) -> bytes:
    """Give the SHA-256 of terms as they were written: serialised in the order of their fields."""
    return hashlib.sha256(terms).digest()


def render_event(row: Any) -> contract_pb2.ContractEvent:
    """Give a row of the history as a message."""
    rendered: Any = contract_pb2.ContractEvent(
        actor=party_of(row.actor), event_time=timestamp(row.occurred_at)
    )
    step, state = ContractStep(row.kind), ContractState(row.state)
    rendered.kind = enum_number(contract_pb2.ContractEventKind, _EVENT, step)
    rendered.state = enum_number(contract_pb2.ContractState, STATE, state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_amendment(amendment: Amendment) -> contract_amendment_pb2.ContractAmendment:
    """Give a request as a message."""
    rendered: Any = contract_amendment_pb2.ContractAmendment(
        amendment_id=amendment.amendment_id,
        contract_id=amendment.contract_id,
        requested_by=amendment.requested_by,
        reason=amendment.reason,
        create_time=timestamp(amendment.created_at),
        note=amendment.note,
    )
    kinds = contract_amendment_pb2.AmendmentKind
    rendered.kind = enum_number(kinds, "AMENDMENT_KIND", amendment.kind)
    states = contract_amendment_pb2.AmendmentState
    rendered.state = enum_number(states, "AMENDMENT_STATE", amendment.state)
    if amendment.kind is AmendmentKind.CHANGE:
        rendered.terms.CopyFrom(ProposedTerms.FromString(amendment.content))
    elif amendment.kind is AmendmentKind.ADDITION:
        rendered.addition.CopyFrom(ServiceAddition.FromString(amendment.content))
    times = {"effective_time": amendment.effective_at, "decide_time": amendment.decided_at}
    _put_times(rendered, times)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_revision(row: Any) -> contract_amendment_pb2.ContractRevision:
    """Give a revision of terms as a message."""
    return contract_amendment_pb2.ContractRevision(
        revision=row.revision,
        terms=ContractTerms.FromString(row.terms),
        terms_digest=digest_of(row.terms),
        effective_time=timestamp(row.effective_at),
    )


def render_offering(row: Any) -> contract_pb2.Offering:
    """Give a row of an offering as a message."""
    rendered = contract_pb2.Offering(
        offering_id=row.offering_id,
        service_id=row.service_id,
        terms=OfferingTerms.FromString(row.terms),
        create_time=timestamp(row.created_at),
        revision=row.revision,
        previous_offering_id=row.previous_offering_id or "",
    )
    _put_times(rendered, {"withdraw_time": row.withdrawn_at})
    return rendered


def _put_times(message: Any, times: Mapping[str, datetime | None]) -> None:
    for name, instant in times.items():
        if instant is not None:
            getattr(message, name).CopyFrom(timestamp(instant))
