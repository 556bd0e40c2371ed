"""Which contracts cover a service, in PostgreSQL: as their own, or added to them later (1682)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, CompoundSelect, select, union_all

from marketplace.contract import ENDED
from marketplace.contract_period import Ending
from marketplace.storage_tables import CONTRACT
from marketplace.storage_tables_contract import CONTRACT_SERVICE


def in_force() -> ColumnElement[bool]:
    """Say whether a contract has not ended."""
    return CONTRACT.c.state.not_in(sorted(state.value for state in ENDED))


def is_over(now: datetime) -> ColumnElement[bool]:
    """Say whether the agreed end of a contract has come, written down already or not."""
    ends = CONTRACT.c.ending.in_([Ending.EXPIRES.value, Ending.TERMINATES.value])
    return ends & (CONTRACT.c.ends_at <= now)


def covers(service_id: str) -> ColumnElement[bool]:
    """Say whether a contract covers a service, or will from an agreed instant on."""
    own, added = CONTRACT.alias().c, CONTRACT_SERVICE.c
    # Each part finds its contracts by an index, which a disjunction would not.
    return CONTRACT.c.contract_id.in_(
        union_all(
            select(own.contract_id).where(own.service_id == service_id),
            select(added.contract_id).where(added.service_id == service_id),
        )
    )


def services_under_contract(requester_id: str | BindParameter[str]) -> CompoundSelect[Any]:
    """Give the ids of the services that a partner's contracts in force cover."""
    mine = (CONTRACT.c.requester_id == requester_id) & in_force()
    added = CONTRACT_SERVICE.join(
        CONTRACT, CONTRACT.c.contract_id == CONTRACT_SERVICE.c.contract_id
    )
    return union_all(
        select(CONTRACT.c.service_id).where(mine),
        select(CONTRACT_SERVICE.c.service_id).select_from(added).where(mine),
    )
