"""How long a contract is in force: start, end, trial period and prolongation.

A day has 24 hours: every end is an instant that both parties can compute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from google.protobuf.timestamp_pb2 import Timestamp

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.contract_pb2 import ContractTerms
from gem.marketplace.v1.contract_section_pb2 import TrialOutcome
from gem.mesh.v1.error_reason_pb2 import ErrorReason

#: The parties are reminded of an end so long before it, or at half of a shorter time.
REMINDER = timedelta(days=7)
#: How far ahead a contract may start.
START_AHEAD_DAYS = 1000
#: Periods are added to instants: far behind this year the calendar ends.
_LAST_YEAR = 2999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Ending(StrEnum):
    """What happens at the end of the present period; but for NONE the names are the proto's."""

    NONE = "NONE"
    EXPIRES = "EXPIRES"
    PROLONGS = "PROLONGS"
    TERMINATES = "TERMINATES"


@dataclass(frozen=True, slots=True)
class Period:
    """The dates of a contract; the default is one without end."""

    #: None means since its creation.
    starts_at: datetime | None = None
    #: End of the present period; None exactly where `ending` is NONE.
    ends_at: datetime | None = None
    ending: Ending = Ending.NONE
    prolongation_days: int = 0
    #: Stays when the trial period is over.
    trial_ends_at: datetime | None = None
    #: Whether the end of the trial period is still to come, and is not the contract's own.
    trial_pending: bool = False
    #: The next reminder.
    remind_at: datetime | None = None

    def in_trial(self, now: datetime) -> bool:
        """Say whether the trial period lasts."""
        return self.trial_ends_at is not None and now < self.trial_ends_at

    def routed_until(self) -> datetime | None:
        """Give when calls stop for good; None while that is not certain."""
        return self.ends_at if self.ending in (Ending.EXPIRES, Ending.TERMINATES) else None


def instant(message: Timestamp, field: str) -> datetime:
    """Read a time, rounded up to microseconds; MarketError REQUEST_INVALID beyond all reason."""
    try:
        found = _EPOCH + timedelta(seconds=message.seconds, microseconds=-(-message.nanos // 1000))
    except OverflowError:
        found = None
    if found is None or not _EPOCH.year <= found.year <= _LAST_YEAR:
        raise refused(field, f"must lie between the years {_EPOCH.year} and {_LAST_YEAR}", "time")
    return found


def refused(field: str, description: str, rule: str) -> MarketError:
    """Give the error for a form whose `field` is not as it has to be."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The form is incomplete or makes no sense: nothing was done.",
        violations=(FieldViolation(field, description, rule),),
    )


def first_period(terms: ContractTerms, wanted: datetime | None, now: datetime) -> Period:
    """Give the period of a contract that is made now and is wanted from an instant on.

    Raises:
        MarketError: REQUEST_INVALID for a start too far ahead, STATE_NOT_ALLOWED where the term on
            offer is over before the start.
    """
    if wanted is not None and wanted > now + timedelta(days=START_AHEAD_DAYS):
        raise refused("start_time", f"must be within {START_AHEAD_DAYS} days", "start_ahead")
    starts_at = max(wanted or now, now)
    term = terms.term
    if term.HasField("start_time"):
        starts_at = max(starts_at, instant(term.start_time, "term.start_time"))
    period = _with_end(Period(starts_at), terms)
    if period.ends_at is not None and period.ends_at <= starts_at:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The term on offer ends before the contract would start.",
        )
    return with_reminder(_with_trial(period, terms), starts_at)


def prolonged(period: Period, ends_at: datetime | None = None) -> Period:
    """Give the next period: up to an instant, else by the days of the term."""
    assert period.ends_at is not None, "what has no end is not prolonged"
    until = ends_at or period.ends_at + timedelta(days=period.prolongation_days)
    return with_reminder(replace(period, ends_at=until), period.ends_at)


def terminating(period: Period, at: datetime) -> Period:
    """Give the period of a contract that ends at an instant, or earlier where it does anyway."""
    ends_at = at
    if period.ends_at is not None and period.ending is not Ending.PROLONGS:
        ends_at = min(at, period.ends_at)
    return replace(period, ends_at=ends_at, ending=Ending.TERMINATES, remind_at=None)


def notice_end(period: Period, notice_days: int, now: datetime) -> datetime:
    """Give when a notice that is given now takes effect."""
    return now if period.in_trial(now) else now + timedelta(days=notice_days)


def with_reminder(period: Period, since: datetime) -> Period:
    """Give the period with its next reminder: of the trial period's end, else of its own."""
    ending = period.ending in (Ending.EXPIRES, Ending.PROLONGS)
    until = period.ends_at if ending else None
    if period.trial_pending:
        until = period.trial_ends_at
    if until is None or until <= since:
        return replace(period, remind_at=None)
    return replace(period, remind_at=until - min(REMINDER, (until - since) / 2))


def _with_end(period: Period, terms: ContractTerms) -> Period:
    term = terms.term
    assert period.starts_at is not None, "a new contract has a start"
    match term.WhichOneof("end"):
        case "duration_days":
            ends_at = period.starts_at + timedelta(days=term.duration_days)
        case "end_time":
            ends_at = instant(term.end_time, "term.end_time")
        case _:
            return period
    ending = Ending.PROLONGS if term.prolongation_days else Ending.EXPIRES
    days = term.prolongation_days
    return replace(period, ends_at=ends_at, ending=ending, prolongation_days=days)


def _with_trial(period: Period, terms: ContractTerms) -> Period:
    if not terms.HasField("trial"):
        return period
    assert period.starts_at is not None, "a new contract has a start"
    trial_ends_at = period.starts_at + timedelta(days=terms.trial.trial_days)
    until = period.routed_until()
    if until is not None and until <= trial_ends_at:
        return replace(period, trial_ends_at=until)
    if terms.trial.outcome == TrialOutcome.TRIAL_OUTCOME_ENDS:
        return replace(
            period,
            ends_at=trial_ends_at,
            ending=Ending.EXPIRES,
            prolongation_days=0,
            trial_ends_at=trial_ends_at,
        )
    return replace(period, trial_ends_at=trial_ends_at, trial_pending=True)
