"""Steps of contracts in one transaction: the rows, their history, and at last who is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gem.marketplace.v1.contract_pb2 import ContractTerms
from marketplace.actor import MARKET, Actor
from marketplace.amendment import (
    DECIDED,
    Amendment,
    AmendmentKind,
    AmendmentState,
    AmendmentStep,
    advance_amendment,
)
from marketplace.contract import ENDED, Contract, ContractStep, advance_contract
from marketplace.contract_period import Ending
from marketplace.contract_schedule import DueStep, due_steps
from marketplace.notice import Notice, contract_notices
from marketplace.routing_change import RoutingChange
from marketplace.storage_amendment import AmendmentStorage
from marketplace.storage_contract import ContractStorage
from marketplace.storage_notice import tell
from marketplace.storage_routing import announce

#: What the contract's history calls an amendment that comes into effect.
_EFFECTS = {
    AmendmentKind.CHANGE: ContractStep.CHANGED,
    AmendmentKind.ADDITION: ContractStep.SERVICE_ADDED,
    AmendmentKind.PROLONGATION: ContractStep.PROLONGED,
    AmendmentKind.TERMINATION: ContractStep.TERMINATED,
}


class ContractChanges:
    """Takes steps of contracts; `finish` is called once, last in the transaction."""

    def __init__(self, connection: AsyncConnection, now: datetime) -> None:
        self.contracts = ContractStorage(connection)
        self.amendments = AmendmentStorage(connection)
        self._connection = connection
        self._now = now
        self._notices: list[Notice] = []
        self._routes: set[tuple[str, str]] = set()

    async def locked(self, contract_id: str) -> Contract:
        """Give a contract as it is now, which nobody else changes until the transaction ends."""
        return await self.settle(await self.contracts.locked(contract_id))

    async def settle(self, contract: Contract) -> Contract:
        """Write what has happened to a locked contract by itself, each step at its instant."""
        while steps := due_steps(contract, self._now):
            for due in steps:
                contract = await self._came_about(contract, due)
        return contract

    async def take(
        self,
        contract: Contract,
        step: ContractStep,
        actor: Actor,
        at: datetime | None = None,
        *,
        detail: str = "",
    ) -> Contract:
        """Write a step of a contract, which is given as it is after it but for its state."""
        occurred_at = at or self._now
        after = replace(contract, state=advance_contract(contract.state, step))
        if step is ContractStep.TERMINATED:
            after = replace(after, terminated_at=occurred_at)
        await self.contracts.put(after)
        await self._remember(after, step, actor, occurred_at, detail)
        return after

    async def created(self, contract: Contract, actor: Actor) -> None:
        """Write the history of a contract that was just made."""
        await self._remember(contract, ContractStep.CREATED, actor, self._now, _ends(contract))

    async def end(self, contract: Contract, actor: Actor) -> Contract:
        """Terminate a contract now; what was asked about it comes to nothing."""
        after = await self.take(contract, ContractStep.TERMINATED, actor)
        await self._close_request(after, self._now, agreed=False)
        return after

    async def apply(self, contract: Contract, amendment: Amendment) -> Contract:
        """Let an accepted request take effect now, on a contract that is given as it is after."""
        step = _EFFECTS[amendment.kind]
        actor = Actor(amendment.requested_by, is_partner=True)
        after = await self.take(contract, step, actor, detail="It was agreed by both parties.")
        await self._applied(amendment, self._now)
        return after

    def reroute(self, contract: Contract) -> None:
        """Have the workers read again what the contract's terms cover."""
        self._routes |= routes_of(contract)

    async def finish(self) -> None:
        """Tell the parties and the workers."""
        await tell(self._connection, self._notices)
        if self._routes:
            await announce(self._connection, RoutingChange(routes=frozenset(self._routes)))

    async def _came_about(self, before: Contract, due: DueStep) -> Contract:
        after, step = due.after, due.step
        await self.contracts.put(after)
        request = None
        if step is ContractStep.CHANGED:
            after = await self.contracts.with_terms(after)
            request = await self.amendments.open(after.contract_id)
            assert request is not None, "what changes by itself was agreed"
            step = _EFFECTS[request.kind]
            await self._applied(request, due.occurred_at)
        detail = _ends(before) if step is ContractStep.REMINDED else _ends(after)
        await self._remember(after, step, MARKET, due.occurred_at, detail)
        if after.state in ENDED:
            agreed = due.step is ContractStep.TERMINATED
            await self._close_request(after, due.occurred_at, agreed=agreed)
        return after

    async def _close_request(self, contract: Contract, at: datetime, *, agreed: bool) -> None:
        """Close the open request of a contract that ended, which may be the one to end it."""
        request = await self.amendments.open(contract.contract_id)
        if request is None:
            return
        scheduled = request.state is AmendmentState.SCHEDULED
        if agreed and scheduled and request.kind is AmendmentKind.TERMINATION:
            await self._applied(request, at)
            return
        state = advance_amendment(request.state, AmendmentStep.LAPSED)
        await self.amendments.set_state(request, state, at)
        await self._remember(contract, DECIDED[AmendmentStep.LAPSED], MARKET, at, "")

    async def _applied(self, amendment: Amendment, at: datetime) -> None:
        state = advance_amendment(amendment.state, AmendmentStep.APPLIED)
        await self.amendments.set_state(amendment, state, at)

    async def _remember(
        self, after: Contract, step: ContractStep, actor: Actor, at: datetime, detail: str
    ) -> None:
        await self.contracts.remember(after, step, actor, at)
        self._notices += contract_notices(after, step, actor, at, detail)
        self.reroute(after)


def routes_of(contract: Contract) -> set[tuple[str, str]]:
    """Give the requester and interface of each service that the contract's terms cover."""
    terms = ContractTerms.FromString(contract.terms)
    names = {terms.interface_name, *(added.interface_name for added in terms.added_services)}
    return {(contract.requester_id, name) for name in names}


def _ends(contract: Contract) -> str:
    """Say in a sentence which end is to come."""
    period = contract.period
    if contract.state in ENDED:
        return ""
    if period.trial_pending and period.trial_ends_at is not None:
        return f"Its trial period ends at {period.trial_ends_at:%Y-%m-%d %H:%M} UTC."
    if period.ends_at is None:
        return ""
    what = "prolongs itself" if period.ending is Ending.PROLONGS else "ends"
    return f"It {what} at {period.ends_at:%Y-%m-%d %H:%M} UTC."
