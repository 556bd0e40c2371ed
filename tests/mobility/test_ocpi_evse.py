"""What OCPI's words for EVSEs and connectors mean in the interface."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from foundation.import_report import Action, Place
from foundation.json_reader import Node
from gem.charging.v1 import evse_pb2
from mobility.import_report import ImportReport
from mobility.ocpi_evse import STATUSES, add_evse
from mobility.ocpi_hours import add_energy_mix, add_opening, time_of
from tests.mobility.test_import_ocpi import an_evse, connector

pytestmark = pytest.mark.usecase(1527)


def node(value: dict[str, Any]) -> Node:
    return Node(value, Place("locations.json"), ImportReport())


def read(**members: Any) -> tuple[evse_pb2.Evse, set[str]]:
    """Read an EVSE; give it with the rules of the defects."""
    source = node(an_evse(**members))
    evse = evse_pb2.Evse()
    add_evse(evse, source, node({}), {})
    assert all(defect.action is Action.KEPT for defect in source.report.defects)
    return evse, {defect.rule for defect in source.report.defects}


def read_connector(**members: Any) -> tuple[evse_pb2.Connector, set[str]]:
    evse, rules = read(connectors=[connector(**members)])
    return evse.connectors[0], rules


def test_every_status_of_the_standard_has_a_meaning_and_others_have_none() -> None:
    for word, status in STATUSES.items():
        evse, rules = read(status=word)
        assert (evse.status, rules) == (status, set())
    wrong: tuple[Any, ...] = ("FREE", "available", None, 3, [])
    for value in wrong:
        evse, rules = read(status=value)
        assert evse.status == evse_pb2.EVSE_STATUS_UNSPECIFIED
        assert "status.unknown" in rules


@pytest.mark.parametrize(
    ("standard", "plug"),
    [
        ("IEC_62196_T1", evse_pb2.PLUG_TYPE_TYPE_1),
        ("IEC_62196_T2", evse_pb2.PLUG_TYPE_TYPE_2),
        ("IEC_62196_T3A", evse_pb2.PLUG_TYPE_TYPE_3A),
        ("IEC_62196_T3C", evse_pb2.PLUG_TYPE_TYPE_3C),
        ("IEC_62196_T1_COMBO", evse_pb2.PLUG_TYPE_CCS_1),
        ("IEC_62196_T2_COMBO", evse_pb2.PLUG_TYPE_CCS_2),
        ("CHADEMO", evse_pb2.PLUG_TYPE_CHADEMO),
        ("DOMESTIC_F", evse_pb2.PLUG_TYPE_HOUSEHOLD),
        ("NEMA_14_50", evse_pb2.PLUG_TYPE_HOUSEHOLD),
        ("IEC_60309_2_three_32", evse_pb2.PLUG_TYPE_INDUSTRIAL_3_PHASE),
        ("SAE_J3400", evse_pb2.PLUG_TYPE_NACS),
        ("MCS", evse_pb2.PLUG_TYPE_MCS),
        ("PANTOGRAPH_TOP_DOWN", evse_pb2.PLUG_TYPE_PANTOGRAPH),
        ("TESLA_S", evse_pb2.PLUG_TYPE_TESLA_EUROPE),
    ],
)
def test_a_standard_is_a_plug(standard: str, plug: int) -> None:
    read_one, rules = read_connector(standard=standard)
    assert (read_one.plug, rules) == (plug, set())


@pytest.mark.parametrize(
    ("power_type", "kind", "phases", "power_w"),
    [
        ("AC_1_PHASE", evse_pb2.CHARGING_KIND_AC, 1, 3_680),
        ("AC_2_PHASE", evse_pb2.CHARGING_KIND_AC, 2, 7_360),
        ("AC_2_PHASE_SPLIT", evse_pb2.CHARGING_KIND_AC, 2, 7_360),
        ("AC_3_PHASE", evse_pb2.CHARGING_KIND_AC, 3, 11_040),
        ("DC", evse_pb2.CHARGING_KIND_DC, 0, 3_680),
    ],
)
def test_power_follows_from_phases_voltage_and_current(
    power_type: str, kind: int, phases: int, power_w: int
) -> None:
    read_one, _ = read_connector(power_type=power_type)
    assert (read_one.kind, read_one.phases, read_one.power_w) == (kind, phases, power_w)


def test_a_stated_power_wins_over_a_computed_one() -> None:
    assert read_connector(max_electric_power=7_000)[0].power_w == 7_000


def test_without_a_known_power_type_there_is_no_power() -> None:
    read_one, rules = read_connector(power_type="STEAM")
    assert (read_one.kind, read_one.power_w) == (evse_pb2.CHARGING_KIND_UNSPECIFIED, 0)
    assert "power_type.unknown" in rules


def test_names_of_an_older_version_are_taken_and_noted() -> None:
    members = {"max_voltage": None, "max_amperage": None, "voltage": 230, "amperage": 32}
    read_one, rules = read_connector(**members)
    assert (read_one.voltage_v, read_one.current_a) == (230, 32)
    assert rules == {"voltage.name", "amperage.name"}


@pytest.mark.parametrize(
    ("members", "access"),
    [
        ({}, evse_pb2.ACCESS_KIND_UNSPECIFIED),
        ({"capabilities": ["RFID_READER"]}, evse_pb2.ACCESS_KIND_MEMBERSHIP),
        ({"capabilities": ["RFID_READER", "PED_TERMINAL"]}, evse_pb2.ACCESS_KIND_OPEN),
        ({"parking_restrictions": ["CUSTOMERS"]}, evse_pb2.ACCESS_KIND_CUSTOMERS),
        (
            {"parking_restrictions": ["EMPLOYEES"], "capabilities": ["PED_TERMINAL"]},
            evse_pb2.ACCESS_KIND_RESTRICTED,
        ),
        ({"capabilities": "RFID_READER"}, evse_pb2.ACCESS_KIND_UNSPECIFIED),
    ],
)
def test_access_follows_from_restrictions_and_capabilities(
    members: dict[str, Any], access: int
) -> None:
    assert read(**members)[0].access == access


@pytest.mark.parametrize(
    "text",
    ["", "2025", "2025-13-01T00:00:00Z", "2025-10-09 12:00:00Z", "2025-10-09T12:00:00+02:00"],
)
def test_what_is_no_time_in_utc_is_left_out(text: str) -> None:
    assert time_of(node({"last_updated": text}), "last_updated") is None


def test_a_time_may_have_a_fraction_and_no_zone() -> None:
    for text in ("2025-10-09T12:00:00Z", "2025-10-09T12:00:00.123Z", "2025-10-09T12:00:00"):
        time = time_of(node({"last_updated": text}), "last_updated")
        assert time is not None
        assert time.isoformat() == "2025-10-09T12:00:00+00:00"


@pytest.mark.parametrize(
    "hours",
    [
        {"weekday": 0, "period_begin": "08:00", "period_end": "20:00"},
        {"weekday": 1, "period_begin": "8 am", "period_end": "20:00"},
        {"weekday": 1, "period_begin": "08:00"},
        {"weekday": 1, "period_begin": "24:00", "period_end": "24:00"},
    ],
)
def test_hours_that_make_no_sense_are_left_out(hours: dict[str, Any]) -> None:
    good = {"weekday": 7, "period_begin": "22:00", "period_end": "00:00"}
    source, opening = node({"regular_hours": [hours, good]}), evse_pb2.Opening()
    add_opening(opening, source)
    (kept,) = opening.regular_hours
    assert (kept.weekday, kept.start_minute, kept.end_minute) == (7, 1320, 1440)
    assert source.report.defects


def test_a_closing_that_ends_before_it_begins_is_left_out() -> None:
    begin, end = "2025-12-25T05:00:00Z", "2025-12-25T03:00:00Z"
    source = node({"exceptional_closings": [{"period_begin": begin, "period_end": end}]})
    opening = evse_pb2.Opening()
    add_opening(opening, source)
    assert not opening.exceptional_closings
    assert [defect.rule for defect in source.report.defects] == ["period"]


def test_shares_are_millionths_and_a_source_counts_once() -> None:
    sources = [
        {"source": "COAL", "percentage": Decimal("33.2")},
        {"source": "NUCLEAR", "percentage": Decimal("66.8")},
        {"source": "COAL", "percentage": 1},
        {"source": "MAGIC", "percentage": 1},
    ]
    source, mix = node({"is_green_energy": False, "energy_sources": sources}), evse_pb2.EnergyMix()
    add_energy_mix(mix, source)
    assert [(each.source, each.share_ppm) for each in mix.shares] == [
        (evse_pb2.ENERGY_SOURCE_COAL, 332_000),
        (evse_pb2.ENERGY_SOURCE_NUCLEAR, 668_000),
    ]
    assert [defect.rule for defect in source.report.defects] == ["source.unknown"] * 2
