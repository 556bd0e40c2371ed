"""Real sessions as records: each is classified, none is lost, none breaks anything."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from clearinghouse.plausibility import Assessment, check_record
from clearinghouse.plausibility_context import Validity
from clearinghouse.rateable import read_session
from clearinghouse.rating import rate
from gem.roaming.v1.cdr_clearing_pb2 import CdrOddity, PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import (
    ChargeDetailRecord,
    ChargingPeriod,
    PeriodDimension,
)
from tests.clearinghouse_records import known, plausible
from tests.external_data import FOLDER, needs


def as_record(
    start: datetime, end: datetime, done: datetime | None, kwh: str, zone: str
) -> ChargeDetailRecord:
    """Give a session as a record of one period, priced as the plausible one is."""
    made = plausible()
    made.location.time_zone = zone
    made.location.connector.power_w = 50_000
    energy = int(Fraction(kwh) * 1_000_000)
    del made.charging_periods[:]
    for name in ("meter_start_milli_wh", "meter_end_milli_wh", "total_parking_time_ms"):
        made.ClearField(name)
    for name in ("charging_start_time", "charging_end_time", "total_parking_cost"):
        made.ClearField(name)  # type: ignore[arg-type]  # all three are fields
    made.ClearField("total_energy_cost")
    period = ChargingPeriod(dimensions=[PeriodDimension(energy_milli_wh=energy)])
    for stamp in (made.start_time, period.start_time):
        stamp.FromDatetime(start)
    made.end_time.FromDatetime(end)
    if done is not None:
        made.charging_start_time.FromDatetime(start)
        made.charging_end_time.FromDatetime(done)
    made.charging_periods.append(period)
    made.total_energy_milli_wh = energy
    made.total_time_ms = (end - start) // timedelta(milliseconds=1)
    if end >= start:
        rating = rate(read_session(made))
        made.total_cost.without_tax_micros = rating.without_tax_micros
        made.total_cost.with_tax_micros = rating.with_tax_micros
    del made.total_cost.taxes[:]
    return made


def judged(made: ChargeDetailRecord) -> Assessment:
    """Judge a record whose authorization and contract fit."""
    context = known(
        now=datetime(2030, 1, 1, tzinfo=UTC),
        connector_power_w=50_000,
        contract=Validity(),
        other_sessions=(),
    )
    assert context.authorization is not None
    start = made.start_time.ToDatetime(UTC)
    fitting = replace(context.authorization, decided_at=start, valid_until=start)
    return check_record(made, replace(context, authorization=fitting))


def acn() -> Iterator[ChargeDetailRecord]:
    acn = FOLDER / "charging-sessions" / "acn-office-1.json"
    for each in json.loads(acn.read_text())["_items"]:
        done = each["doneChargingTime"]
        yield as_record(
            parsedate_to_datetime(each["connectionTime"]),
            parsedate_to_datetime(each["disconnectTime"]),
            parsedate_to_datetime(done) if done else None,
            str(each["kWhDelivered"]),
            each["timezone"],
        )


def dundee() -> Iterator[ChargeDetailRecord | None]:
    """Give the dirty sessions and every fortieth of the others; None for one without its times."""
    zone = ZoneInfo("Europe/London")
    with (FOLDER / "charging-sessions" / "dundee-2018-06-to-09.csv").open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            start, end = (
                local(row[f"{name} Date"], row[f"{name} Time"], zone) for name in ("Start", "End")
            )
            if start is None or end is None:
                yield None
            elif start >= end or float(row["Total kWh"]) <= 0 or number % 40 == 0:
                yield as_record(start, end, None, row["Total kWh"], "Europe/London")


def local(date: str, time: str, zone: ZoneInfo) -> datetime | None:
    if not date.strip() or not time.strip():
        return None
    at = datetime.strptime(f"{date} {time}", "%d/%m/%Y %H:%M").replace(tzinfo=zone)
    return at.astimezone(UTC)


def classes(records: list[ChargeDetailRecord]) -> tuple[Counter[str], Counter[str]]:
    odd: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for made in records:
        assessment = judged(made)
        odd.update(CdrOddity.Name(each)[11:] for each in assessment.oddities)
        found.update({PlausibilityReason.Name(each.reason)[20:] for each in assessment.findings})
    return odd, found


@needs("charging-sessions")
@pytest.mark.external_data
@pytest.mark.usecase(1511)
def test_sessions_of_a_workplace_are_all_plausible() -> None:
    odd, found = classes(list(acn()))
    assert odd["CHARGING_ENDS_AFTER_SESSION"] == 8
    assert odd["CHARGING_TIMES_MISSING"] == 38
    assert found == Counter()


@needs("charging-sessions")
@pytest.mark.external_data
@pytest.mark.usecase(1511)
def test_dirty_sessions_of_a_city_are_classified() -> None:
    made = list(dundee())
    odd, found = classes([each for each in made if each is not None])
    assert odd["ZERO_LENGTH"] == 129
    assert odd["ZERO_ENERGY"] == 733
    assert found == {"NEGATIVE": 8}
    assert made.count(None) == 72


def test_a_session_that_is_made_a_record_is_plausible() -> None:
    start = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    made = as_record(start, start + timedelta(hours=2), None, "14.327", "Europe/London")
    assert judged(made).findings == ()
    backwards = as_record(start, start - timedelta(hours=1), None, "0", "Europe/London")
    found = {each.reason for each in judged(backwards).findings}
    assert PlausibilityReason.PLAUSIBILITY_REASON_END_BEFORE_START in found
