"""Whether the times of a record fit: of session, charging and periods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from clearinghouse.local_clock import has_clock_change, zone_of
from clearinghouse.plausibility_context import Finding, PlausibilityContext, Tolerances
from clearinghouse.rateable import LONGEST_SESSION, instant_of
from gem.roaming.v1.cdr_clearing_pb2 import CdrOddity, PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, ChargingPeriod

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a record; None is missing or no time at all."""

    start: datetime | None
    end: datetime | None
    charging_start: datetime | None
    charging_end: datetime | None
    periods: tuple[datetime | None, ...]

    @classmethod
    def of(cls, record: ChargeDetailRecord) -> Times:
        """Read the times of a record."""
        return cls(
            start=instant_of(record.start_time),
            end=instant_of(record.end_time),
            charging_start=instant_of(record.charging_start_time),
            charging_end=instant_of(record.charging_end_time),
            periods=tuple(instant_of(each.start_time) for each in record.charging_periods),
        )

    @property
    def duration(self) -> timedelta | None:
        """The length of the session; None where its ends make none."""
        if self.start is None or self.end is None or self.end < self.start:
            return None
        return self.end - self.start

    def period_length(self, number: int) -> timedelta | None:
        """Give the length of a period; None where its ends make none."""
        bounds = (*self.periods, self.end)
        start, end = bounds[number], bounds[number + 1]
        return end - start if start is not None and end is not None and start <= end else None


def check_times(
    record: ChargeDetailRecord, times: Times, context: PlausibilityContext, tolerances: Tolerances
) -> Iterator[Finding]:
    """Check the order of all times and the totals of time."""
    yield from _check_ends(times, context, tolerances)
    yield from _check_charging(record, times, tolerances)
    yield from _check_period_starts(times)
    for number, period in enumerate(record.charging_periods):
        yield from _check_period_time(number, period, times, tolerances)
    yield from _check_totals(record, times, tolerances)


def _check_ends(
    times: Times, context: PlausibilityContext, tolerances: Tolerances
) -> Iterator[Finding]:
    for name, at in (("start_time", times.start), ("end_time", times.end)):
        if at is None:
            reason = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MISSING
            yield Finding(reason, name, "the time is missing or none")
        elif at > context.now + tolerances.clock:
            reason = PlausibilityReason.PLAUSIBILITY_REASON_TIME_IN_FUTURE
            yield Finding(reason, name, "the time lies in the future")
    if times.start is None or times.end is None:
        return
    if times.end < times.start:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_END_BEFORE_START
        yield Finding(reason, "end_time", "the session ends before it starts")
    elif times.end - times.start > LONGEST_SESSION:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_SESSION_TOO_LONG
        yield Finding(reason, "end_time", f"the session is longer than {LONGEST_SESSION.days} days")


def _check_charging(
    record: ChargeDetailRecord, times: Times, tolerances: Tolerances
) -> Iterator[Finding]:
    reason = PlausibilityReason.PLAUSIBILITY_REASON_CHARGING_OUTSIDE_SESSION
    begin, stop = times.charging_start, times.charging_end
    for name, at in (("charging_start_time", begin), ("charging_end_time", stop)):
        if at is None and record.HasField(name):  # type: ignore[arg-type]  # both are fields
            malformed = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MALFORMED
            yield Finding(malformed, name, "not a time")
        elif at is not None and times.start is not None and at < times.start - tolerances.clock:
            yield Finding(reason, name, "charging starts or ends before the session")
        elif at is not None and times.end is not None and at > times.end + tolerances.clock:
            yield Finding(reason, name, "charging starts or ends after the session")
    if begin is not None and stop is not None and stop < begin:
        yield Finding(reason, "charging_end_time", "charging ends before it starts")


def _check_period_starts(times: Times) -> Iterator[Finding]:
    for number, at in enumerate(times.periods):
        path = f"charging_periods[{number}].start_time"
        if at is None:
            reason = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MISSING
            yield Finding(reason, path, "the time is missing or none")
        elif (times.start is not None and at < times.start) or (
            times.end is not None and at > times.end
        ):
            reason = PlausibilityReason.PLAUSIBILITY_REASON_PERIOD_OUTSIDE_SESSION
            yield Finding(reason, path, "the period starts outside the session")
    for number, (before, at) in enumerate(pairwise(times.periods), 1):
        if before is not None and at is not None and at <= before:
            reason = PlausibilityReason.PLAUSIBILITY_REASON_PERIODS_NOT_INCREASING
            path = f"charging_periods[{number}].start_time"
            yield Finding(reason, path, "the period does not start after the one before it")


def _check_period_time(
    number: int, period: ChargingPeriod, times: Times, tolerances: Tolerances
) -> Iterator[Finding]:
    length = times.period_length(number)
    stated_ms = sum(
        dimension.charging_time_ms + dimension.parking_time_ms for dimension in period.dimensions
    )
    if length is not None and stated_ms > length // _MILLISECOND + tolerances.time_ms:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_PERIOD_TIME
        path = f"charging_periods[{number}].dimensions"
        yield Finding(reason, path, "its times add up to more than the period")


def _check_totals(
    record: ChargeDetailRecord, times: Times, tolerances: Tolerances
) -> Iterator[Finding]:
    duration = times.duration
    if duration is None:
        return
    length_ms = duration // _MILLISECOND
    if abs(record.total_time_ms - length_ms) > tolerances.time_ms:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_TOTAL_TIME
        yield Finding(reason, "total_time_ms", "not the time between start and end")
    stated = [
        dimension.parking_time_ms
        for period in record.charging_periods
        for dimension in period.dimensions
        if dimension.WhichOneof("volume") == "parking_time_ms"
    ]
    too_long = record.total_parking_time_ms > length_ms + tolerances.time_ms
    differs = abs(record.total_parking_time_ms - sum(stated)) > tolerances.time_ms
    if too_long or (stated and differs):
        reason = PlausibilityReason.PLAUSIBILITY_REASON_PARKING_TIME
        text = "not what the periods say, or longer than the session"
        yield Finding(reason, "total_parking_time_ms", text)


def oddities(record: ChargeDetailRecord, times: Times) -> Iterator[CdrOddity.ValueType]:
    """Give what is odd about a record and yet occurs: no reason to return it."""
    if times.duration == timedelta():
        yield CdrOddity.CDR_ODDITY_ZERO_LENGTH
    if record.total_energy_milli_wh == 0:
        yield CdrOddity.CDR_ODDITY_ZERO_ENERGY
    if times.charging_start is None or times.charging_end is None:
        yield CdrOddity.CDR_ODDITY_CHARGING_TIMES_MISSING
    elif times.end is not None and times.charging_end > times.end:
        yield CdrOddity.CDR_ODDITY_CHARGING_ENDS_AFTER_SESSION
    if times.duration is None or times.duration > LONGEST_SESSION:
        return
    try:
        zone = zone_of(record.location.time_zone or "UTC")
    except ValueError:
        return
    assert times.start is not None, "a session with a duration has both ends"
    assert times.end is not None, "a session with a duration has both ends"
    if has_clock_change(times.start, times.end, zone):
        yield CdrOddity.CDR_ODDITY_CLOCK_CHANGE
