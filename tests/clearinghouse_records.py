"""Tariffs, charge detail records and their contexts that tests of the clearing house start from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from clearinghouse.plausibility import check_record
from clearinghouse.plausibility_context import (
    KnownAuthorization,
    OtherSession,
    PlausibilityContext,
    Validity,
)
from clearinghouse.rateable import RateableSession, read_session
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction
from gem.common.v1.geo_pb2 import GeoPoint
from gem.roaming.v1.authorization_pb2 import AuthorizationMethod
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import (
    ChargeDetailRecord,
    ChargingPeriod,
    Cost,
    PeriodDimension,
)
from gem.roaming.v1.identification_pb2 import IdentificationKind

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


def plausible() -> ChargeDetailRecord:
    """Give a record of 10 kWh in 60 minutes and 30 of parking, to which nothing is to be said."""
    given = tariff(price("ENERGY", "0.50", 20), price("PARKING_TIME", 2, 20))
    made = record(given, [])
    made.ClearField("charging_periods")
    energies = [PeriodDimension(energy_milli_wh=10_000_000)]
    charging = ChargingPeriod(dimensions=[*energies, PeriodDimension(charging_time_ms=3_600_000)])
    parking = ChargingPeriod(dimensions=[PeriodDimension(parking_time_ms=1_800_000)])
    charging.start_time.FromDatetime(START)
    parking.start_time.FromDatetime(START + timedelta(minutes=60))
    made.charging_periods.extend([charging, parking])
    made.charging_start_time.FromDatetime(START + timedelta(seconds=10))
    made.charging_end_time.FromDatetime(START + timedelta(minutes=60))
    made.end_time.FromDatetime(START + timedelta(minutes=90))
    made.total_energy_milli_wh, made.total_time_ms = 10_000_000, 5_400_000
    made.total_parking_time_ms = 1_800_000
    made.meter_start_milli_wh, made.meter_end_milli_wh = 5_000_000, 15_000_000
    made.operator_session_id, made.session_id = "OP-1", "CH-1"
    made.authorization_reference = "AUTH-1"
    made.authorization_method = AuthorizationMethod.AUTHORIZATION_METHOD_REQUEST
    made.identification.kind = IdentificationKind.IDENTIFICATION_KIND_RFID
    made.identification.contract_id = "NL-TNM-C00122045-K"
    made.location.evse_id = "DE*ABC*E1234"
    made.location.point.latitude_e7, made.location.point.longitude_e7 = 520_000_000, 130_000_000
    made.location.connector.power_w = 11_000
    set_cost(made.total_cost, 6_000_000, 7_200_000)
    set_cost(made.total_energy_cost, 5_000_000, 6_000_000)
    set_cost(made.total_parking_cost, 1_000_000, 1_200_000)
    return made


def set_cost(cost: Cost, without_tax_micros: int, with_tax_micros: int) -> None:
    """Set a cost with one tax."""
    cost.without_tax_micros, cost.with_tax_micros = without_tax_micros, with_tax_micros
    cost.taxes.add(name="VAT", amount_micros=with_tax_micros - without_tax_micros)


def known(**changes: Any) -> PlausibilityContext:
    """Give what is known about the session of the plausible record."""
    authorization = KnownAuthorization(
        allowed=True,
        operator_key="DEABC",
        evse_key="DEABCE1234",
        identity_key="NLTNMC00122045",
        session_id="CH-1",
        decided_at=START - timedelta(minutes=1),
        valid_until=START + timedelta(minutes=5),
    )
    context = PlausibilityContext(
        now=START + timedelta(days=1),
        operator_keys=frozenset({"DEABC"}),
        authorization=authorization,
        identity_key="NLTNMC00122045",
        contract=Validity(START - timedelta(days=30), START + timedelta(days=30)),
        tariffs={"T1": plausible().tariffs[0]},
        connector_power_w=11_000,
        evse_point=GeoPoint(latitude_e7=520_001_000, longitude_e7=130_001_000),
        other_sessions=[
            OtherSession(START - timedelta(hours=1), START),
            OtherSession(START + timedelta(minutes=90), START + timedelta(hours=3)),
        ],
    )
    return replace(context, **changes)


def reasons(made: ChargeDetailRecord, **changes: Any) -> set[tuple[str, str]]:
    """Give what is found with its fields: `("POWER", "total_energy_milli_wh")`."""
    found = check_record(made, known(**changes)).findings
    prefix = "PLAUSIBILITY_REASON_"
    return {(PlausibilityReason.Name(f.reason).removeprefix(prefix), f.field) for f in found}


def at(minutes: float) -> datetime:
    """Give an instant by its minutes from the start of the plausible record."""
    return START + timedelta(minutes=minutes)


def to_dimensions(made: ChargeDetailRecord, number: int, *dimensions: PeriodDimension) -> None:
    """Replace what was measured in a period."""
    del made.charging_periods[number].dimensions[:]
    made.charging_periods[number].dimensions.extend(dimensions)
