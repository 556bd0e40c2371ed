"""Tariffs, charge detail records and their contexts that tests of the clearing house start from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from clearinghouse.rateable import RateableSession, read_session
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction
from gem.roaming.v1.charge_detail_record_pb2 import (
    ChargeDetailRecord,
    ChargingPeriod,
    PeriodDimension,
)

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday
KINDS = {
    "ENERGY": tariff_pb2.PRICE_DIMENSION_ENERGY,
    "TIME": tariff_pb2.PRICE_DIMENSION_TIME,
    "PARKING_TIME": tariff_pb2.PRICE_DIMENSION_PARKING_TIME,
    "FLAT": tariff_pb2.PRICE_DIMENSION_FLAT,
}
UNIT = 1_000_000
Dimensions = list[PeriodDimension]


def price(
    kind: str, amount: str | int, vat_percent: int = 0, step: int = 1, **restriction: object
) -> PriceComponent:
    """Give a price component; the price in units of the currency, restrictions as of the proto."""
    component = PriceComponent(
        dimension=KINDS[kind],
        price_micros=int(Fraction(amount) * UNIT),
        vat_ppm=vat_percent * 10_000,
    )
    if kind == "ENERGY":
        component.step_wh = step
    elif kind != "FLAT":
        component.step_s = step
    if restriction:
        component.restriction.CopyFrom(TariffRestriction(**restriction))  # type: ignore[arg-type]  # fields by name
    return component


def tariff(*components: PriceComponent, currency: str = "EUR", **more: object) -> Tariff:
    """Give a tariff whose prices are without tax unless told otherwise."""
    more.setdefault("tax", tariff_pb2.TAX_TREATMENT_EXCLUDED)
    return Tariff(tariff_id="T1", currency_code=currency, components=components, **more)  # type: ignore[arg-type]  # fields by name


def charged(
    kwh: str | int = 0, current_a: int | None = None, power_w: int | None = None
) -> Dimensions:
    """Give the dimensions of a period in which energy flowed; its time is that of the period."""
    found = [PeriodDimension(energy_milli_wh=int(Fraction(kwh) * 1_000_000))]
    if current_a is not None:
        found.append(PeriodDimension(current_ma=current_a * 1000))
    if power_w is not None:
        found.append(PeriodDimension(power_w=power_w))
    return found


def parked() -> Dimensions:
    """Give the dimensions of a period without charging; its time is that of the period."""
    return [PeriodDimension(energy_milli_wh=0)]


def record(
    given: Tariff | None,
    periods: Iterable[tuple[float, Dimensions]],
    start: datetime = START,
    zone: str = "Europe/Berlin",
) -> ChargeDetailRecord:
    """Give what rating reads of a record: periods of so many minutes, one after the other."""
    made = ChargeDetailRecord(cdr_id="CDR1", operator_id="DE*ABC", currency_code="EUR")
    made.location.time_zone = zone
    made.start_time.FromDatetime(start)
    at = start
    for minutes, dimensions in periods:
        period = ChargingPeriod(dimensions=dimensions)
        period.start_time.FromDatetime(at)
        made.charging_periods.append(period)
        at += timedelta(minutes=minutes)
    made.end_time.FromDatetime(at)
    if given is not None:
        made.tariffs.append(given)
    return made


def session(*arguments: object, **named: object) -> RateableSession:
    """Give a record as rating reads it."""
    return read_session(record(*arguments, **named))  # type: ignore[arg-type]  # passed through
