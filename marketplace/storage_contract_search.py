"""The search for contracts, in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, String, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import Actor
from marketplace.amendment import AmendmentState
from marketplace.contract import Contract, ContractState
from marketplace.contract_period import Ending
from marketplace.storage_contract import LIST_COLUMNS, contract_of
from marketplace.storage_paging import Page
from marketplace.storage_tables import CONTRACT, SERVICE
from marketplace.storage_tables_contract import CONTRACT_AMENDMENT, CONTRACT_SERVICE

_ENDED = (ContractState.TERMINATED.value, ContractState.EXPIRED.value)
_ENDINGS = (Ending.EXPIRES.value, Ending.TERMINATES.value)


@dataclass(frozen=True, slots=True)
class ContractFilter:
    """Conditions of a search for contracts, applied together; an empty one does not apply."""

    requester_id: str = ""
    provider_id: str = ""
    #: Partners that are a party each, on whatever side.
    party_ids: tuple[str, ...] = ()
    service_id: str = ""
    interface_name: str = ""
    states: tuple[ContractState, ...] = ()
    valid_at: datetime | None = None
    ends_within_days: int = 0
    request_pending: bool = False


async def find_contracts(
    connection: AsyncConnection,
    page: Page[int],
    condition: ContractFilter,
    actor: Actor,
    now: datetime,
) -> tuple[list[Contract], PageInfo]:
    """List the contracts that the actor may see, in contract order, with empty terms.

    A state is looked for as it is now, whether or not a due step was written already.
    """
    query = select(*LIST_COLUMNS).where(*_conditions(condition, now))
    if actor.is_partner:
        query = query.where(_is_party(actor.subject_id))
    rows = (await connection.execute(page.of(query, CONTRACT.c.position))).all()
    shown, info = page.cut(rows, lambda row: int(row.position))
    return [contract_of(row) for row in shown], info


def _conditions(condition: ContractFilter, now: datetime) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in ("requester_id", "provider_id"):
        value = getattr(condition, name)
        if value:
            found.append(CONTRACT.c[name] == value)
    found += map(_is_party, condition.party_ids)
    if condition.service_id:
        found.append(_covers(CONTRACT_SERVICE.c.service_id == condition.service_id, condition))
    if condition.interface_name:
        found.append(_of_interface(condition.interface_name))
    if condition.states:
        found.append(_state(now).in_([state.value for state in condition.states]))
    if condition.valid_at is not None:
        found.append(_valid(condition.valid_at))
    if condition.ends_within_days:
        until = now + timedelta(days=condition.ends_within_days)
        found.append(_valid(now) & (CONTRACT.c.ends_at <= until))
    if condition.request_pending:
        pending = CONTRACT_AMENDMENT.c.state == AmendmentState.PENDING.value
        asked = select(CONTRACT_AMENDMENT.c.contract_id).where(pending)
        found.append(CONTRACT.c.contract_id.in_(asked) & _state(now).not_in(_ENDED))
    return found


def _is_party(partner_id: str) -> ColumnElement[bool]:
    return or_(CONTRACT.c.requester_id == partner_id, CONTRACT.c.provider_id == partner_id)


def _covers(added: ColumnElement[bool], condition: ContractFilter) -> ColumnElement[bool]:
    contracts = select(CONTRACT_SERVICE.c.contract_id).where(added)
    own = CONTRACT.c.service_id == condition.service_id
    return own | CONTRACT.c.contract_id.in_(contracts)


def _of_interface(name: str) -> ColumnElement[bool]:
    services = select(SERVICE.c.service_id).where(SERVICE.c.interface_name == name)
    added = select(CONTRACT_SERVICE.c.contract_id).where(
        CONTRACT_SERVICE.c.service_id.in_(services)
    )
    return CONTRACT.c.service_id.in_(services) | CONTRACT.c.contract_id.in_(added)


def _state(now: datetime) -> ColumnElement[str]:
    """Give the state as it is at an instant, also where the step to it is still to be written."""
    live = CONTRACT.c.state.not_in(_ENDED)
    over = and_(live, CONTRACT.c.ends_at <= now)
    started = (CONTRACT.c.state == ContractState.PENDING.value) & (CONTRACT.c.starts_at <= now)
    return case(
        (over & (CONTRACT.c.ending == Ending.EXPIRES.value), ContractState.EXPIRED.value),
        (over & (CONTRACT.c.ending == Ending.TERMINATES.value), ContractState.TERMINATED.value),
        (started, ContractState.ACTIVE.value),
        else_=CONTRACT.c.state.cast(String),
    )


def _valid(at: datetime) -> ColumnElement[bool]:
    """Say whether a contract is valid at an instant: started, and not ended."""
    started = func.coalesce(CONTRACT.c.starts_at, CONTRACT.c.created_at) <= at
    ended = case((CONTRACT.c.ending.in_(_ENDINGS), CONTRACT.c.ends_at))
    not_ended = func.coalesce(CONTRACT.c.terminated_at, ended).is_(None)
    return started & (not_ended | (func.coalesce(CONTRACT.c.terminated_at, ended) > at))
