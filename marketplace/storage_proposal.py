"""Proposals of standard interfaces, their votes and their history, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import Actor, not_found
from marketplace.proposal import OPEN, PRIVATE, Proposal, ProposalState, ProposalStep, VoteKind
from marketplace.proposal_findings import Finding
from marketplace.storage_paging import Page
from marketplace.storage_tables import (
    INTERFACE_PROPOSAL,
    INTERFACE_PROPOSAL_EVENT,
    INTERFACE_PROPOSAL_VOTE,
)

_TABLE, _VOTE, _EVENT = INTERFACE_PROPOSAL, INTERFACE_PROPOSAL_VOTE, INTERFACE_PROPOSAL_EVENT
_LIST_COLUMNS = tuple(
    column
    for column in _TABLE.c
    if column.name not in ("position", "descriptor_set", "note", "findings")
)


@dataclass(frozen=True, slots=True)
class ProposalFilter:
    """Conditions of a list of proposals, applied together; an empty one does not apply."""

    state: ProposalState | None = None
    category: str = ""
    proposer_id: str = ""


class ProposalStorage:
    """Reads and writes proposals inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, proposal: Proposal, descriptor_set: bytes) -> None:
        """Write a new proposal."""
        row = asdict(proposal)
        del row["votes_for"], row["votes_against"]
        row |= {
            "state": proposal.state.value,
            "interface_names": list(proposal.interface_names),
            "descriptor_set": descriptor_set,
        }
        await self._connection.execute(insert(_TABLE).values(row))

    async def count_open(self, proposer_id: str) -> int:
        """Count a partner's undecided proposals; nobody adds one until the transaction ends."""
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        await self._connection.execute(lock, {"name": f"interface_proposal {proposer_id}"})
        query = select(func.count()).select_from(_TABLE)
        query = query.where(_TABLE.c.proposer_id == proposer_id)
        query = query.where(_TABLE.c.state.in_([state.value for state in OPEN]))
        return int((await self._connection.execute(query)).scalar_one())

    async def get(self, proposal_id: str) -> Proposal:
        """Give a proposal with the numbers of its votes; raises MarketError NOT_FOUND."""
        return await self._one(proposal_id, lock=False)

    async def locked(self, proposal_id: str) -> Proposal:
        """Give a proposal that nobody else changes until the transaction ends."""
        return await self._one(proposal_id, lock=True)

    async def descriptor_set(self, proposal_id: str) -> bytes:
        """Give the files of a proposal; empty where they do not compile."""
        query = select(_TABLE.c.descriptor_set).where(_TABLE.c.proposal_id == proposal_id)
        return bytes((await self._connection.execute(query)).scalar_one())

    async def set_state(self, proposal: Proposal) -> None:
        """Write the state and the reason of a decision."""
        statement = update(_TABLE).where(_TABLE.c.proposal_id == proposal.proposal_id)
        values = {"state": proposal.state.value, "decision_reason": proposal.decision_reason}
        await self._connection.execute(statement.values(values))

    async def vote(
        self, proposal_id: str, partner_id: str, kind: VoteKind, comment: str, now: datetime
    ) -> None:
        """Write a partner's vote in place of its earlier one."""
        values = {"kind": kind.value, "comment": comment, "voted_at": now}
        key = {"proposal_id": proposal_id, "partner_id": partner_id}
        statement = insert(_VOTE).values({**key, **values})
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=list(key), set_=values)
        )

    async def remember(
        self, proposal: Proposal, step: ProposalStep, actor: Actor, now: datetime
    ) -> None:
        """Write one row of the history; `proposal` is as it is after the step."""
        row = {
            "proposal_id": proposal.proposal_id,
            "kind": step.value,
            "state": proposal.state.value,
            "actor": actor.name,
            "occurred_at": now,
        }
        await self._connection.execute(insert(_EVENT).values(row))

    async def page(
        self, page: Page[int], condition: ProposalFilter, actor: Actor
    ) -> tuple[list[Proposal], PageInfo]:
        """List what the actor may see, the oldest first, without note and findings."""
        query = select(_TABLE.c.position, *_LIST_COLUMNS, *_votes())
        if actor.is_partner:
            shown = _TABLE.c.state.not_in([state.value for state in PRIVATE])
            query = query.where(shown | (_TABLE.c.proposer_id == actor.subject_id))
        if condition.state is not None:
            query = query.where(_TABLE.c.state == condition.state.value)
        for name in ("category", "proposer_id"):
            if value := getattr(condition, name):
                query = query.where(_TABLE.c[name] == value)
        rows = (await self._connection.execute(page.of(query, _TABLE.c.position))).all()
        cut, info = page.cut(rows, lambda row: int(row.position))
        return [_proposal(row) for row in cut], info

    async def votes(self, page: Page[str], proposal_id: str) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the votes on a proposal by partner."""
        query = select(_VOTE).where(_VOTE.c.proposal_id == proposal_id)
        rows = (await self._connection.execute(page.of(query, _VOTE.c.partner_id))).all()
        return page.cut(rows, lambda row: str(row.partner_id))

    async def events(
        self, page: Page[int], proposal_id: str
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the history of a proposal, the oldest first."""
        query = select(_EVENT).where(_EVENT.c.proposal_id == proposal_id)
        rows = (await self._connection.execute(page.of(query, _EVENT.c.position))).all()
        return page.cut(rows, lambda row: int(row.position))

    async def _one(self, proposal_id: str, *, lock: bool) -> Proposal:
        key = _TABLE.c.proposal_id == proposal_id
        if lock:
            # Before the votes are counted, so that none is written meanwhile.
            await self._connection.execute(select(_TABLE.c.position).where(key).with_for_update())
        query = select(*_LIST_COLUMNS, _TABLE.c.note, _TABLE.c.findings, *_votes()).where(key)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("proposal")
        return _proposal(row)


def _votes() -> tuple[Any, Any]:
    def count(kind: VoteKind) -> Any:
        query = select(func.count()).where(_VOTE.c.proposal_id == _TABLE.c.proposal_id)
        return query.where(_VOTE.c.kind == kind.value).scalar_subquery()

    return count(VoteKind.FOR).label("votes_for"), count(VoteKind.AGAINST).label("votes_against")


def _proposal(row: Any) -> Proposal:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    values.pop("position", None)
    findings = tuple(Finding(**finding) for finding in values.pop("findings", ()))
    proposal = Proposal(
        **{"note": "", **values, "state": ProposalState(row.state), "findings": findings}
    )
    return replace(proposal, interface_names=tuple(proposal.interface_names))
