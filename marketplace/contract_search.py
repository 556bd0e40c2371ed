"""What a search for contracts means to the one who searches (use case 1245)."""

from __future__ import annotations

from collections.abc import Sequence

from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1.contract_search_pb2 import ContractCriteria, ContractRole
from marketplace.actor import Actor
from marketplace.contract import ContractState
from marketplace.contract_period import instant
from marketplace.contract_rendering import STATE, render_contract
from marketplace.contract_schedule import as_of
from marketplace.storage_command import Work
from marketplace.storage_contract_search import ContractFilter, find_contracts
from marketplace.storage_paging import Page

_SIDES = {
    ContractRole.CONTRACT_ROLE_REQUESTER: ("requester_id", "provider_id"),
    ContractRole.CONTRACT_ROLE_PROVIDER: ("provider_id", "requester_id"),
}


def contract_filter(criteria: ContractCriteria, actor: Actor) -> ContractFilter:
    """Read criteria; MarketError REQUEST_INVALID for an instant beyond all reason."""
    party_id = criteria.party_id or (actor.subject_id if actor.is_partner else "")
    sides: dict[str, str] = {}
    parties: tuple[str, ...] = ()
    if criteria.role in _SIDES:
        own, other = _SIDES[criteria.role]
        sides = {own: party_id, other: criteria.partner_id}
    else:
        parties = tuple(name for name in (party_id, criteria.partner_id) if name)
    valid_at = None
    if criteria.HasField("valid_at_time"):
        valid_at = instant(criteria.valid_at_time, "criteria.valid_at_time")
    return ContractFilter(
        **sides,
        party_ids=parties,
        service_id=criteria.service_id,
        interface_name=criteria.interface_name,
        states=tuple(map(_state, criteria.states)),
        valid_at=valid_at,
        ends_within_days=criteria.ends_within_days,
        request_pending=criteria.request_pending,
    )


async def contract_page(
    w: Work, page: Page[int], condition: ContractFilter
) -> tuple[Sequence[contract_pb2.Contract], PageInfo]:
    """Give a page of contracts as they are now, without their terms."""
    found, info = await find_contracts(w.connection, page, condition, w.actor, w.now)
    return [render_contract(as_of(contract, w.now)) for contract in found], info


def _state(number: int) -> ContractState:
    return ContractState(contract_pb2.ContractState.Name(number).removeprefix(f"{STATE}_"))  # type: ignore[arg-type]  # an enum value
