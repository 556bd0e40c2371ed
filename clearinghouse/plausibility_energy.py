"""Whether the quantities of a record fit: energy, meter, power."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from clearinghouse.plausibility_context import Finding, PlausibilityContext, Tolerances
from clearinghouse.plausibility_times import Times
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, ChargingPeriod

#: No connector gives more.
GREATEST_POWER_W = 10_000_000
#: Meters and clocks are read at slightly different times.
_SLACK = timedelta(seconds=60)
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS_PER_HOUR = 3_600_000_000


def check_energy(
    record: ChargeDetailRecord, times: Times, context: PlausibilityContext, tolerances: Tolerances
) -> Iterator[Finding]:
    """Check signs, sums, the meter's difference and the power."""
    yield from _check_signs(record)
    for number, period in enumerate(record.charging_periods):
        yield from _check_dimensions(number, period)
    total = record.total_energy_milli_wh
    energies = [_energy(period) for period in record.charging_periods]
    known = [energy for energy in energies if energy is not None]
    if abs(sum(known) - total) > tolerances.energy_milli_wh:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_ENERGY_SUM
        yield Finding(reason, "total_energy_milli_wh", "not what the periods add up to")
    if record.HasField("meter_start_milli_wh") and record.HasField("meter_end_milli_wh"):
        difference = record.meter_end_milli_wh - record.meter_start_milli_wh
        if abs(difference - total) > tolerances.energy_milli_wh:
            reason = PlausibilityReason.PLAUSIBILITY_REASON_METER_DIFFERENCE
            yield Finding(reason, "meter_end_milli_wh", "the meter's difference is not the total")
    most_w = _most_power_w(record, context) * (1000 + tolerances.power_permille) // 1000
    if _is_too_much(total, times.duration, most_w, tolerances):
        yield _power("total_energy_milli_wh")
    for number, energy in enumerate(energies):
        if _is_too_much(energy or 0, times.period_length(number), most_w, tolerances):
            yield _power(f"charging_periods[{number}].dimensions")


def _check_signs(record: ChargeDetailRecord) -> Iterator[Finding]:
    for name in (
        *("total_energy_milli_wh", "total_time_ms", "total_parking_time_ms"),
        *("meter_start_milli_wh", "meter_end_milli_wh", "odometer_m", "carbon_intensity_g_per_kwh"),
    ):
        if getattr(record, name) < 0:
            yield Finding(PlausibilityReason.PLAUSIBILITY_REASON_NEGATIVE, name, "negative")


def _check_dimensions(number: int, period: ChargingPeriod) -> Iterator[Finding]:
    path = f"charging_periods[{number}].dimensions"
    kinds = [dimension.WhichOneof("volume") for dimension in period.dimensions]
    if not kinds or None in kinds or len(set(kinds)) < len(kinds):
        reason = PlausibilityReason.PLAUSIBILITY_REASON_PERIOD_DIMENSIONS
        yield Finding(reason, path, "measures nothing, or the same thing twice")
    values = [
        getattr(dimension, kind)
        for kind, dimension in zip(kinds, period.dimensions, strict=True)
        if kind is not None
    ]
    if any(value < 0 for value in values):
        yield Finding(PlausibilityReason.PLAUSIBILITY_REASON_NEGATIVE, path, "negative")


def _energy(period: ChargingPeriod) -> int | None:
    """Give the energy of a period; None where it says none."""
    found = [
        dimension.energy_milli_wh
        for dimension in period.dimensions
        if dimension.WhichOneof("volume") == "energy_milli_wh"
    ]
    return sum(found) if found else None


def _most_power_w(record: ChargeDetailRecord, context: PlausibilityContext) -> int:
    """Give what the connector can: as published and as the record says, else as any can."""
    told = (context.connector_power_w, record.location.connector.power_w)
    return min((power_w for power_w in told if power_w), default=GREATEST_POWER_W)


def _is_too_much(
    energy_milli_wh: int, length: timedelta | None, most_w: int, tolerances: Tolerances
) -> bool:
    if length is None:
        return False
    microseconds = (length + _SLACK) // _MICROSECOND
    most_milli_wh = most_w * 1000 * microseconds // _MICROSECONDS_PER_HOUR
    return energy_milli_wh > most_milli_wh + tolerances.energy_milli_wh


def _power(path: str) -> Finding:
    reason = PlausibilityReason.PLAUSIBILITY_REASON_POWER
    return Finding(reason, path, "more energy than the connector gives in the time")
