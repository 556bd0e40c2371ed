"""Each single defect of a record is found, with its field."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, PeriodDimension
from tests.clearinghouse_records import START, at, plausible, reasons, set_cost, to_dimensions

Change = Callable[[ChargeDetailRecord], object]

#: A change to the plausible record, and a finding that it causes.
DEFECTS: list[tuple[str, Change, tuple[str, str]]] = [
    ("no id", lambda r: r.ClearField("cdr_id"), ("FIELD_MISSING", "cdr_id")),
    (
        "no session id of the operator",
        lambda r: r.ClearField("operator_session_id"),
        ("FIELD_MISSING", "operator_session_id"),
    ),
    (
        "nobody",
        lambda r: r.ClearField("identification"),
        ("FIELD_MISSING", "identification"),
    ),
    (
        "no periods",
        lambda r: r.ClearField("charging_periods"),
        ("FIELD_MISSING", "charging_periods"),
    ),
    (
        "no reference",
        lambda r: r.ClearField("authorization_reference"),
        ("FIELD_MISSING", "authorization_reference"),
    ),
    ("no cost", lambda r: r.ClearField("total_cost"), ("FIELD_MISSING", "total_cost")),
    ("no start", lambda r: r.ClearField("start_time"), ("FIELD_MISSING", "start_time")),
    ("no end", lambda r: r.ClearField("end_time"), ("FIELD_MISSING", "end_time")),
    (
        "no time of a period",
        lambda r: r.charging_periods[1].ClearField("start_time"),
        ("FIELD_MISSING", "charging_periods[1].start_time"),
    ),
    (
        "a time that is none",
        lambda r: setattr(r.end_time, "nanos", -5),
        ("FIELD_MISSING", "end_time"),
    ),
    (
        "an EVSE id that is none",
        lambda r: setattr(r.location, "evse_id", "socket 3"),
        ("FIELD_MALFORMED", "location.evse_id"),
    ),
    (
        "a contract id that is none",
        lambda r: setattr(r.identification, "contract_id", "my contract"),
        ("FIELD_MALFORMED", "identification.contract_id"),
    ),
    (
        "a zone that is none",
        lambda r: setattr(r.location, "time_zone", "../../Berlin"),
        ("FIELD_MALFORMED", "location.time_zone"),
    ),
    (
        "an end of charging that is none",
        lambda r: setattr(r.charging_end_time, "seconds", -(2**60)),
        ("FIELD_MALFORMED", "charging_end_time"),
    ),
    (
        "negative energy",
        lambda r: setattr(r, "total_energy_milli_wh", -1),
        ("NEGATIVE", "total_energy_milli_wh"),
    ),
    (
        "a negative dimension",
        lambda r: to_dimensions(r, 0, PeriodDimension(energy_milli_wh=-(2**63))),
        ("NEGATIVE", "charging_periods[0].dimensions"),
    ),
    ("negative cost", lambda r: set_cost(r.total_cost, -1, -1), ("NEGATIVE", "total_cost")),
    (
        "end before start",
        lambda r: r.end_time.FromDatetime(at(-1)),
        ("END_BEFORE_START", "end_time"),
    ),
    (
        "an end in the future",
        lambda r: r.end_time.FromDatetime(at(60 * 25)),
        ("TIME_IN_FUTURE", "end_time"),
    ),
    (
        "a session of half a year",
        lambda r: r.start_time.FromDatetime(START - timedelta(days=180)),
        ("SESSION_TOO_LONG", "end_time"),
    ),
    (
        "charging long after the session",
        lambda r: r.charging_end_time.FromDatetime(at(95)),
        ("CHARGING_OUTSIDE_SESSION", "charging_end_time"),
    ),
    (
        "charging long before the session",
        lambda r: r.charging_start_time.FromDatetime(at(-5)),
        ("CHARGING_OUTSIDE_SESSION", "charging_start_time"),
    ),
    (
        "charging that ends before it starts",
        lambda r: r.charging_start_time.FromDatetime(at(70)),
        ("CHARGING_OUTSIDE_SESSION", "charging_end_time"),
    ),
    (
        "a period after the session",
        lambda r: r.charging_periods[1].start_time.FromDatetime(at(91)),
        ("PERIOD_OUTSIDE_SESSION", "charging_periods[1].start_time"),
    ),
    (
        "a period before the session",
        lambda r: r.charging_periods[0].start_time.FromDatetime(at(-1)),
        ("PERIOD_OUTSIDE_SESSION", "charging_periods[0].start_time"),
    ),
    (
        "two periods at once",
        lambda r: r.charging_periods[1].start_time.FromDatetime(at(0)),
        ("PERIODS_NOT_INCREASING", "charging_periods[1].start_time"),
    ),
    (
        "a period that measures nothing",
        lambda r: to_dimensions(r, 1),
        ("PERIOD_DIMENSIONS", "charging_periods[1].dimensions"),
    ),
    (
        "a period that measures a thing twice",
        lambda r: to_dimensions(r, 1, *2 * [PeriodDimension(parking_time_ms=900_000)]),
        ("PERIOD_DIMENSIONS", "charging_periods[1].dimensions"),
    ),
    (
        "more time than the period has",
        lambda r: to_dimensions(r, 1, PeriodDimension(parking_time_ms=2_000_000)),
        ("PERIOD_TIME", "charging_periods[1].dimensions"),
    ),
    (
        "another total",
        lambda r: setattr(r, "total_energy_milli_wh", 10_020_000),
        ("ENERGY_SUM", "total_energy_milli_wh"),
    ),
    (
        "another meter",
        lambda r: setattr(r, "meter_end_milli_wh", 15_020_000),
        ("METER_DIFFERENCE", "meter_end_milli_wh"),
    ),
    ("no total time", lambda r: r.ClearField("total_time_ms"), ("TOTAL_TIME", "total_time_ms")),
    (
        "another parking time",
        lambda r: setattr(r, "total_parking_time_ms", 1_000_000),
        ("PARKING_TIME", "total_parking_time_ms"),
    ),
    (
        "absurd power",
        lambda r: to_dimensions(r, 0, PeriodDimension(energy_milli_wh=2**62)),
        ("POWER", "charging_periods[0].dimensions"),
    ),
    (
        "a little more than the connector gives",
        lambda r: to_dimensions(r, 1, PeriodDimension(energy_milli_wh=7_000_000)),
        ("POWER", "charging_periods[1].dimensions"),
    ),
    (
        "another place",
        lambda r: setattr(r.location.point, "latitude_e7", 520_100_000),
        ("LOCATION", "location.point"),
    ),
    (
        "another operator's EVSE",
        lambda r: setattr(r.location, "evse_id", "DE*XYZ*E1234"),
        ("EVSE_OPERATOR", "location.evse_id"),
    ),
    (
        "another operator",
        lambda r: setattr(r, "operator_id", "DE*XYZ"),
        ("EVSE_OPERATOR", "operator_id"),
    ),
    (
        "another EVSE",
        lambda r: setattr(r.location, "evse_id", "DE*ABC*E9999"),
        ("AUTHORIZATION_MISMATCH", "location.evse_id"),
    ),
    (
        "another session",
        lambda r: setattr(r, "session_id", "CH-2"),
        ("AUTHORIZATION_MISMATCH", "session_id"),
    ),
    (
        "a start after the authorization expired",
        lambda r: r.start_time.FromDatetime(at(8)),
        ("AUTHORIZATION_NOT_VALID", "start_time"),
    ),
    (
        "another tariff",
        lambda r: setattr(r.tariffs[0].components[0], "price_micros", 400_000),
        ("TARIFF_NOT_VALID", "tariffs[0]"),
    ),
    (
        "another price",
        lambda r: setattr(r.total_cost, "without_tax_micros", 6_020_000),
        ("COST", "total_cost"),
    ),
    (
        "another price of energy",
        lambda r: setattr(r.total_energy_cost, "without_tax_micros", 5_020_000),
        ("COST", "total_energy_cost"),
    ),
    (
        "taxes that do not fit",
        lambda r: setattr(r.total_cost.taxes[0], "amount_micros", 1),
        ("TAX_SPLIT", "total_cost"),
    ),
    (
        "less with tax",
        lambda r: setattr(r.total_energy_cost, "with_tax_micros", 1),
        ("TAX_SPLIT", "total_energy_cost"),
    ),
    (
        "parts above the total",
        lambda r: set_cost(r.total_fixed_cost, 1_000_000, 1_200_000),
        ("TAX_SPLIT", "total_cost"),
    ),
    (
        "an amount beyond all",
        lambda r: setattr(r.total_cost, "without_tax_micros", 2**63 - 1),
        ("TAX_SPLIT", "total_cost"),
    ),
    (
        "another currency",
        lambda r: setattr(r, "currency_code", "CHF"),
        ("CURRENCY", "tariffs[0].currency_code"),
    ),
    ("no currency", lambda r: r.ClearField("currency_code"), ("CURRENCY", "currency_code")),
    (
        "an unknown tariff of a period",
        lambda r: setattr(r.charging_periods[0], "tariff_id", "T9"),
        ("COST", "charging_periods[0].tariff_id"),
    ),
]


@pytest.mark.parametrize(
    ("change", "expected"), [d[1:] for d in DEFECTS], ids=[d[0] for d in DEFECTS]
)
def test_a_defect_is_found_with_its_field(change: Change, expected: tuple[str, str]) -> None:
    made = plausible()
    change(made)
    assert expected in reasons(made)


#: Defects that have nothing to do with each other.
APART = (
    *("no id", "no reference", "a zone that is none", "a negative dimension", "another meter"),
    *("charging long before the session", "a period that measures nothing", "another place"),
    *("another operator", "another session", "another tariff", "taxes that do not fit"),
)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(APART)))
def test_every_reason_is_given_not_only_the_first(names: set[str]) -> None:
    made = plausible()
    chosen = [defect for defect in DEFECTS if defect[0] in names]
    for _, change, _ in chosen:
        change(made)
    assert {expected for _, _, expected in chosen} <= reasons(made)


def test_each_reason_has_an_example() -> None:
    # Those that need another context, and credits, have theirs beside this file.
    elsewhere = {"AUTHORIZATION_UNKNOWN", "CONTRACT_NOT_ACTIVE", "SESSION_OVERLAP", "CREDIT"}
    elsewhere |= {"NOT_DELIVERABLE"}
    known_reasons = {
        name.removeprefix("PLAUSIBILITY_REASON_") for name in list(PlausibilityReason.keys())
    }
    assert {d[2][0] for d in DEFECTS} | elsewhere | {"UNSPECIFIED"} == known_reasons
