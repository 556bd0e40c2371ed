"""Runs of conformance checks: their states, what a check says, and the verdict (feature 1501)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor

#: Runs of one service in a day: each of them calls somebody's server.
RUNS_A_DAY_MAX = 100


class ConformanceState(StrEnum):
    """Where a run stands; the names are those of the proto enum."""

    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"
    ABANDONED = "ABANDONED"


class CheckKind(StrEnum):
    """What a check is about; the names are those of `ConformanceCheckKind`."""

    CERTIFICATE = "CERTIFICATE"
    HEALTH = "HEALTH"
    VALID_REQUEST = "VALID_REQUEST"
    INVALID_REQUEST = "INVALID_REQUEST"


class Outcome(StrEnum):
    """How a check ended; the names are those of `ConformanceOutcome`."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    NOT_APPLICABLE = "NOT_APPLICABLE"


#: A run ends once, and never begins again.
ENDS: Mapping[ConformanceState, frozenset[ConformanceState]] = {
    ConformanceState.RUNNING: frozenset(
        {ConformanceState.PASSED, ConformanceState.FAILED, ConformanceState.ABANDONED}
    ),
    ConformanceState.PASSED: frozenset(),
    ConformanceState.FAILED: frozenset(),
    ConformanceState.ABANDONED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a report; `detail` is in our words."""

    kind: CheckKind
    method: str
    outcome: Outcome
    detail: str
    duration_us: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A run without its checks."""

    run_id: str
    service_id: str
    #: `host:port` that is asked.
    endpoint: str
    interface_name: str
    interface_version: int
    include_side_effects: bool
    state: ConformanceState
    #: Name of the actor.
    requested_by: str
    started_at: datetime
    ended_at: datetime | None = None


def verdict(checks: Iterable[Check]) -> ConformanceState:
    """Say how a run ended: one failed check fails it, and so does a run without any that passed."""
    outcomes = {check.outcome for check in checks}
    if Outcome.FAILED in outcomes or Outcome.PASSED not in outcomes:
        return ConformanceState.FAILED
    return ConformanceState.PASSED


def check_consent(actor: Actor, *, include_side_effects: bool) -> None:
    """Refuse an operator who agrees to side effects in the provider's place.

    Raises:
        MarketError: ROLE_NOT_ALLOWED.
    """
    if include_side_effects and not actor.is_partner:
        raise MarketError(
            ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
            "Only the provider itself agrees to calls with side effects.",
        )


def check_may_run(*, is_running: bool, runs_today: int) -> None:
    """Refuse a run beside another of the service, or one too many in a day.

    Raises:
        MarketError: STATE_NOT_ALLOWED or TOO_MANY_CALLS.
    """
    if is_running:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "A conformance run of the service is under way.",
            metadata={"state": ConformanceState.RUNNING.value},
        )
    if runs_today >= RUNS_A_DAY_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
            f"A service is checked at most {RUNS_A_DAY_MAX} times a day.",
            retry_after_s=3600.0,
        )
