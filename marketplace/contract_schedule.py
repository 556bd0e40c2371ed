"""What happens to a contract by itself, and when: start, reminder, trial end, change, end.

The agreed instant counts, whenever somebody looks: a contract is brought up to an instant by all
steps that are due by then, in their order, each at its own instant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from marketplace.contract import ENDED, Contract, ContractState, ContractStep, advance_contract
from marketplace.contract_period import Ending, prolonged, with_reminder

#: Steps that are taken at a time: after a long absence of the marketplace the rest comes later.
STEPS_MAX = 64

_END_STEPS = {
    Ending.EXPIRES: ContractStep.EXPIRED,
    Ending.PROLONGS: ContractStep.PROLONGED,
    Ending.TERMINATES: ContractStep.TERMINATED,
}
#: Of steps at one instant the end is the last, and what starts the contract the first.
_ORDER = (
    ContractStep.STARTED,
    ContractStep.REMINDED,
    ContractStep.TRIAL_ENDED,
    ContractStep.CHANGED,
    *_END_STEPS.values(),
)


@dataclass(frozen=True, slots=True)
class DueStep:
    """One step that came about by itself."""

    step: ContractStep
    occurred_at: datetime
    after: Contract


def next_step(contract: Contract) -> tuple[datetime, ContractStep] | None:
    """Give what happens next to a contract by itself; None for nothing ever."""
    if contract.state in ENDED:
        return None
    period = contract.period
    found = [
        (period.starts_at, ContractStep.STARTED, contract.state is ContractState.PENDING),
        (period.remind_at, ContractStep.REMINDED, True),
        (period.trial_ends_at, ContractStep.TRIAL_ENDED, period.trial_pending),
        (contract.changes_at, ContractStep.CHANGED, True),
        (period.ends_at, _END_STEPS.get(period.ending, ContractStep.EXPIRED), True),
    ]
    due = [(at, step) for at, step, wanted in found if wanted and at is not None]
    return min(due, key=lambda each: (each[0], _ORDER.index(each[1])), default=None)


def due_at(contract: Contract) -> datetime | None:
    """Give when something happens to a contract by itself."""
    following = next_step(contract)
    return None if following is None else following[0]


def due_steps(contract: Contract, now: datetime) -> list[DueStep]:
    """Give what has happened to a contract by itself until now, in order; at most STEPS_MAX."""
    found: list[DueStep] = []
    while len(found) < STEPS_MAX:
        following = next_step(contract)
        if following is None or following[0] > now:
            break
        occurred_at, step = following
        contract = _taken(contract, step, occurred_at)
        found.append(DueStep(step, occurred_at, contract))
    return found


def as_of(contract: Contract, now: datetime) -> Contract:
    """Give a contract as it is now, whether or not its due steps were written already."""
    while steps := due_steps(contract, now):
        contract = steps[-1].after
    return contract


def _taken(contract: Contract, step: ContractStep, occurred_at: datetime) -> Contract:
    period = contract.period
    state = advance_contract(contract.state, step)
    after = replace(contract, state=state)
    match step:
        case ContractStep.REMINDED:
            return replace(after, period=replace(period, remind_at=None))
        case ContractStep.TRIAL_ENDED:
            ended = replace(period, trial_pending=False)
            return replace(after, period=with_reminder(ended, occurred_at))
        case ContractStep.CHANGED:
            return replace(after, revision=contract.revision + 1, changes_at=None)
        case ContractStep.PROLONGED:
            return replace(after, period=prolonged(period))
        case ContractStep.TERMINATED:
            return replace(after, terminated_at=occurred_at)
        case _:
            return after
