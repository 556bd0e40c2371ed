"""A record is held against what is known; real oddities are left alone."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.plausibility import check_record
from clearinghouse.plausibility_context import MOST_FIELDS_OF_A_REASON, OtherSession, Validity
from clearinghouse.plausibility_cost import negated
from clearinghouse.plausibility_parties import distance_m
from gem.common.v1.geo_pb2 import GeoPoint
from gem.roaming.v1.cdr_clearing_pb2 import CdrOddity
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, PeriodDimension
from tests.clearinghouse_records import (
    START,
    at,
    known,
    plausible,
    reasons,
    record,
    to_dimensions,
)


def test_nothing_is_said_to_a_plausible_record() -> None:
    assessment = check_record(plausible(), known())
    assert assessment.findings == ()
    assert assessment.is_plausible
    assert assessment.oddities == ()
    assert assessment.rating is not None
    assert assessment.rating.within_tolerance


UNKNOWN: list[tuple[dict[str, Any], tuple[str, str]]] = [
    ({"authorization": None}, ("AUTHORIZATION_UNKNOWN", "authorization_reference")),
    (
        {"authorization": replace(known().authorization, allowed=False)},  # type: ignore[type-var]  # set there
        ("AUTHORIZATION_NOT_VALID", "authorization_reference"),
    ),
    (
        {"authorization": replace(known().authorization, decided_at=at(10))},  # type: ignore[type-var]  # set there
        ("AUTHORIZATION_NOT_VALID", "start_time"),
    ),
    ({"identity_key": "somebody else"}, ("AUTHORIZATION_MISMATCH", "identification")),
    ({"contract": None}, ("CONTRACT_NOT_ACTIVE", "identification")),
    ({"contract": Validity(until=START)}, ("CONTRACT_NOT_ACTIVE", "start_time")),
    ({"contract": Validity(since=at(1))}, ("CONTRACT_NOT_ACTIVE", "start_time")),
    ({"other_sessions": [OtherSession(at(89), at(100))]}, ("SESSION_OVERLAP", "start_time")),
    ({"tariffs": {}}, ("TARIFF_NOT_VALID", "tariffs[0]")),
    ({"connector_power_w": 3_700}, ("POWER", "total_energy_milli_wh")),
    ({"operator_keys": frozenset()}, ("EVSE_OPERATOR", "operator_id")),
]


@pytest.mark.parametrize(("changes", "expected"), UNKNOWN)
def test_a_record_that_nothing_known_backs_is_found(
    changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert reasons(plausible(), **changes) >= {expected}


def test_when_an_operators_own_list_decided_is_not_known() -> None:
    authorization = known().authorization
    assert authorization is not None
    later = replace(authorization, decided_at=at(10), valid_until=at(10))
    assert reasons(plausible(), authorization=later)
    assert not reasons(plausible(), authorization=replace(later, from_list=True))


def test_what_is_not_known_is_not_checked() -> None:
    unknown = {"tariffs": None, "connector_power_w": None, "evse_point": None, "other_sessions": ()}
    assert reasons(plausible(), **unknown) == set()


def test_who_paid_without_a_contract_needs_none() -> None:
    paid = replace(known().authorization, open_access=True)  # type: ignore[type-var]  # set there
    assert reasons(plausible(), authorization=paid, contract=None) == set()


def odd(made: ChargeDetailRecord, **changes: Any) -> set[str]:
    found = check_record(made, known(**changes))
    assert found.findings == ()
    return {CdrOddity.Name(each).removeprefix("CDR_ODDITY_") for each in found.oddities}


def test_a_session_without_length_and_energy_is_odd_and_plausible() -> None:
    made = plausible()
    del made.charging_periods[1]
    to_dimensions(made, 0, PeriodDimension(energy_milli_wh=0))
    for name in ("total_energy_milli_wh", "total_time_ms", "total_parking_time_ms"):
        made.ClearField(name)
    for name in ("charging_start_time", "charging_end_time", "meter_end_milli_wh"):
        made.ClearField(name)  # type: ignore[arg-type]  # all three are fields
    for name in ("total_energy_cost", "total_parking_cost", "total_cost"):
        made.ClearField(name)  # type: ignore[arg-type]  # all three are fields
    made.total_cost.without_tax_micros = 0
    made.end_time.CopyFrom(made.start_time)
    assert odd(made) == {"ZERO_LENGTH", "ZERO_ENERGY", "CHARGING_TIMES_MISSING"}


def test_charging_that_ends_a_minute_after_unplugging_is_odd_and_plausible() -> None:
    made = plausible()
    made.charging_end_time.FromDatetime(at(91))
    assert odd(made) == {"CHARGING_ENDS_AFTER_SESSION"}


@pytest.mark.parametrize(
    "night", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)]
)
def test_a_session_over_a_change_of_clocks_is_odd_and_plausible(night: datetime) -> None:
    made, shift = plausible(), night + timedelta(minutes=30) - START
    for stamp in (made.start_time, made.end_time, made.charging_start_time, made.charging_end_time):
        stamp.FromDatetime(stamp.ToDatetime(UTC) + shift)
    for period in made.charging_periods:
        period.start_time.FromDatetime(period.start_time.ToDatetime(UTC) + shift)
    authorization = known().authorization
    assert authorization is not None
    moved = replace(
        authorization,
        decided_at=authorization.decided_at + shift,
        valid_until=authorization.valid_until + shift,
    )
    now = night + timedelta(days=1)
    assert odd(made, authorization=moved, contract=Validity(), now=now) == {"CLOCK_CHANGE"}


def test_the_fields_of_one_reason_are_bounded() -> None:
    made = plausible()
    for _ in range(1_000):
        made.charging_periods.add()
    found = check_record(made, known()).findings
    missing = [each for each in found if each.text == "the time is missing or none"]
    assert len(missing) == MOST_FIELDS_OF_A_REASON


def test_a_credit_gives_one_approved_record_back_in_full() -> None:
    credit = negated(plausible(), "CREDIT-1")
    credit.remark = "the wrong customer"
    assert reasons(credit, credited=plausible()) == set()
    assert check_record(credit, known(credited=plausible())).rating is None
    assert reasons(credit) == {("CREDIT", "credited_cdr_id")}


def test_a_credit_of_a_part_is_none() -> None:
    credit = negated(plausible(), "CREDIT-1")
    credit.total_cost.without_tax_micros += 1
    credit.total_energy_milli_wh -= 1
    wrong = {("CREDIT", "total_cost"), ("CREDIT", "total_energy_milli_wh")}
    assert reasons(credit, credited=plausible()) == wrong
    assert ("CREDIT", "cdr_id") in reasons(negated(plausible(), "CDR1"), credited=plausible())
    assert ("NEGATIVE", "total_cost") in reasons(
        negated(negated(plausible(), "A"), "CREDIT-1"), credited=plausible()
    )


def test_distances_are_those_over_the_ground() -> None:
    berlin = GeoPoint(latitude_e7=525_200_000, longitude_e7=134_050_000)
    paris = GeoPoint(latitude_e7=488_566_000, longitude_e7=23_522_000)
    assert distance_m(berlin, paris) == pytest.approx(877_500, rel=0.003)
    assert distance_m(paris, paris) == 0


WILD = st.integers(-(2**63), 2**63 - 1)
NUMBERS = (
    *("total_energy_milli_wh", "total_time_ms", "total_parking_time_ms", "meter_start_milli_wh"),
    *("meter_end_milli_wh", "odometer_m"),
)


@st.composite
def wild_records(draw: st.DrawFn) -> ChargeDetailRecord:
    """Give records in which any number and any time may be anything that its type can hold."""
    made = plausible()
    for name in draw(st.sets(st.sampled_from(NUMBERS))):
        setattr(made, name, draw(WILD))
    for name in draw(st.sets(st.sampled_from(["start_time", "end_time", "charging_end_time"]))):
        getattr(made, name).seconds = draw(WILD | st.integers(1_700_000_000, 1_800_000_000))
        getattr(made, name).nanos = draw(st.integers(-(2**31), 2**31 - 1))
    for period in made.charging_periods:
        if draw(st.booleans()):
            period.start_time.seconds = draw(WILD | st.integers(1_700_000_000, 1_800_000_000))
        for name in draw(
            st.sets(st.sampled_from(["energy_milli_wh", "parking_time_ms", "power_w"]))
        ):
            period.dimensions.append(PeriodDimension(**{name: draw(WILD)}))
    if draw(st.booleans()):
        made.total_cost.with_tax_micros = draw(WILD)
        made.total_cost.without_tax_micros = draw(WILD)
    for name in ("currency_code", "operator_id", "session_id"):
        if draw(st.booleans()):
            setattr(made, name, draw(st.text(max_size=6)))
    if draw(st.booleans()):
        made.location.evse_id = draw(st.text(max_size=20))
        made.location.time_zone = draw(st.text(max_size=20))
    return made


@settings(max_examples=60, deadline=None)
@given(wild_records())
def test_whatever_a_record_contains_it_is_judged(made: ChargeDetailRecord) -> None:
    before = made.SerializeToString(deterministic=True)
    found = check_record(made, known())
    again = check_record(made, known())
    assert made.SerializeToString(deterministic=True) == before
    assert found == again
    for finding in found.findings:
        assert resolves(finding.field), finding.field
        assert len(finding.message().description) <= 256


def resolves(path: str) -> bool:
    """Say whether a path names a field of a record."""
    descriptor: Any = ChargeDetailRecord.DESCRIPTOR
    for part in path.split("."):
        name = re.sub(r"\[\d+\]$", "", part)
        if descriptor is None or name not in descriptor.fields_by_name:
            return False
        descriptor = descriptor.fields_by_name[name].message_type
    return True


def test_a_record_of_nothing_is_judged() -> None:
    found = reasons(ChargeDetailRecord())
    assert ("FIELD_MISSING", "cdr_id") in found
    assert ("FIELD_MISSING", "start_time") in found
    assert ("FIELD_MISSING", "location.evse_id") in found
    assert reasons(record(None, [])) > {("FIELD_MISSING", "charging_periods")}
