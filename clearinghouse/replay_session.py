"""A charging session of the past as somebody recorded it, and everything odd about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import Enum

from clearinghouse.rateable import LONGEST_SESSION, MOST_ENERGY_WH

_MILLI_WH_PER_KWH = 1_000_000
_LONGEST_NUMBER = 40


class SessionClass(Enum):
    """What is to be said about a recorded session; one can be in several."""

    CLEAN = "clean"
    #: It ended when it started.
    ZERO_LENGTH = "zero length"
    ZERO_ENERGY = "zero energy"
    NEGATIVE_ENERGY = "negative energy"
    #: Charging is said to have ended after the vehicle was unplugged.
    CHARGING_AFTER_UNPLUG = "charging after unplugging"
    #: When charging ended is not known, though the source has a place for it.
    CHARGING_END_MISSING = "end of charging missing"
    START_MISSING = "start missing"
    END_MISSING = "end missing"
    #: A time that is there cannot be read.
    TIME_UNREADABLE = "time unreadable"
    END_BEFORE_START = "end before start"
    TOO_LONG = "longer than any session"
    ENERGY_MISSING = "energy missing"
    ENERGY_UNREADABLE = "energy unreadable"
    #: The clock showed the time twice, as clocks were set back; the earlier one is taken.
    AMBIGUOUS_LOCAL_TIME = "ambiguous local time"
    #: The clock never showed the time, as clocks were set forward.
    IMPOSSIBLE_LOCAL_TIME = "impossible local time"
    ZONE_UNKNOWN = "time zone unknown"
    USER_MISSING = "user missing"
    #: It cannot be told apart from others, or where it took place.
    UNIDENTIFIED = "not identified"


#: What occurs often and changes nothing about a session.
HARMLESS = frozenset({SessionClass.CHARGING_END_MISSING, SessionClass.USER_MISSING})
#: With one of these a session has no start, or nobody knows which or where it is.
NOT_A_SESSION = frozenset(
    {SessionClass.START_MISSING, SessionClass.UNIDENTIFIED, SessionClass.ZONE_UNKNOWN}
)


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """One record of a source; every record of it is one of these, whatever it is like."""

    #: Position in the source, from 1.
    number: int
    source_id: str
    #: From whose name operators follow.
    group: str
    site: str
    station: str
    connector: str
    #: None where the source does not know.
    user_id: str | None
    #: In UTC; None where missing or unreadable.
    start: datetime | None
    end: datetime | None
    charging_end: datetime | None
    #: None where missing or unreadable.
    energy_milli_wh: int | None
    #: IANA name.
    time_zone: str
    classes: frozenset[SessionClass]

    @property
    def is_session(self) -> bool:
        """Whether it can be told to a clearing house, good or not."""
        return self.start is not None and not self.classes & NOT_A_SESSION


def energy_of(text: object) -> tuple[int | None, SessionClass | None]:
    """Give energy in thousandths of a watt-hour from kilowatt-hours, rounded half up.

    With it comes what is odd about it, or None.
    """
    if text is None or not str(text).strip():
        return None, SessionClass.ENERGY_MISSING
    if isinstance(text, bool | list | dict) or len(str(text)) > _LONGEST_NUMBER:
        return None, SessionClass.ENERGY_UNREADABLE
    try:
        energy_kwh = Decimal(str(text).strip())
    except InvalidOperation:
        return None, SessionClass.ENERGY_UNREADABLE
    if not energy_kwh.is_finite() or abs(energy_kwh) * 1000 > MOST_ENERGY_WH:
        return None, SessionClass.ENERGY_UNREADABLE
    energy = int((energy_kwh * _MILLI_WH_PER_KWH).to_integral_value(ROUND_HALF_UP))
    if energy < 0:
        return energy, SessionClass.NEGATIVE_ENERGY
    return energy, None if energy else SessionClass.ZERO_ENERGY


def classes_of_times(
    start: datetime | None, end: datetime | None, charging_end: datetime | None
) -> Iterator[SessionClass]:
    """Give what is odd about the order of times that are known."""
    if start is not None and end is not None:
        if end == start:
            yield SessionClass.ZERO_LENGTH
        elif end < start:
            yield SessionClass.END_BEFORE_START
        elif end - start > LONGEST_SESSION:
            yield SessionClass.TOO_LONG
    if end is not None and charging_end is not None and charging_end > end:
        yield SessionClass.CHARGING_AFTER_UNPLUG
    if start is not None and charging_end is not None and charging_end < start:
        yield SessionClass.END_BEFORE_START


def with_clean(classes: set[SessionClass]) -> frozenset[SessionClass]:
    """Give the classes of a session; one about which nothing odd is said is clean."""
    odd = classes - HARMLESS
    return frozenset(classes if odd else classes | {SessionClass.CLEAN})


def first_of(sessions: Iterator[RecordedSession], limit: int) -> Iterator[RecordedSession]:
    """Give the first sessions of a source, all where the limit is zero."""
    for session in sessions:
        if limit and session.number > limit:
            return
        yield session
