"""OpenStreetMap stations: what is wrong is said and left out, what is good is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from foundation.import_report import Action
from gem.charging.v1 import evse_pb2, tariff_pb2
from mobility.import_evses import SAMPLE_FILE
from mobility.import_osm import read_osm
from mobility.import_report import ImportReport
from mobility.operator_name import OperatorIds, operator_id_of
from mobility.osm_opening import opening_of
from tests.json_values import json_values

pytestmark = pytest.mark.usecase(1527)
EXTERNAL = Path(__file__).parents[3] / "shared" / "data" / "osm-charging-germany"


def read(data: Any, **options: str) -> ImportReport:
    """Read a file with these contents, JSON unless it is text."""
    report = ImportReport()
    text = data if isinstance(data, str | bytes) else json.dumps(data)
    read_osm(text, "stations.js", report, OperatorIds(), **options)
    return report


def station(tags: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Make a feature; tags stand beside the ones that every station needs."""
    return {
        "type": "Feature",
        "id": "node/7",
        "properties": {"amenity": "charging_station", "operator": "EnBW", **(tags or {})},
        "geometry": {"type": "Point", "coordinates": [11.1, 48.9]},
        **members,
    }


def only(report: ImportReport) -> evse_pb2.Evse:
    """Give the one EVSE of a report."""
    (imported,) = report.evses
    return imported.evse


def rules(report: ImportReport) -> set[str]:
    return {defect.rule for defect in report.defects}


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff\xfe", "var x=", "{", "[" * 100_000, "NaN", '{"features": 1e999999999}', "nul"],
)
def test_a_file_that_is_no_json_is_one_defect(text: str | bytes) -> None:
    report = read(text)
    assert report.evses == []
    assert len(report.defects) == 1


@pytest.mark.parametrize(
    ("feature", "rule"),
    [
        (station({"amenity": "cafe"}), "amenity"),
        (station({"operator": None}), "operator.missing"),
        (station({"operator": "  "}), "operator.missing"),
        (station({"bicycle": "yes", "car": "no"}), "vehicles"),
        (station(geometry=None), "geometry"),
        (station(geometry={"type": "Point", "coordinates": [200, 48]}), "geometry"),
        (station(geometry={"type": "Point", "coordinates": ["x", "y"]}), "geometry"),
        (station(geometry={"type": "Polygon", "coordinates": [[]]}), "geometry"),
        (station(id="somewhere"), "id"),
        (station(properties=None), "amenity"),
    ],
)
def test_a_station_that_cannot_be_served_is_skipped_with_the_reason(
    feature: dict[str, Any], rule: str
) -> None:
    report = read({"features": [feature, station(id="node/8")]})
    assert report.objects == 2
    assert only(report).evse_id.endswith("*E8"), "the good one is kept"
    skipped = [defect for defect in report.defects if defect.action is Action.SKIPPED]
    assert [(d.file, d.path, d.rule) for d in skipped] == [("stations.js", "$.features[0]", rule)]


@pytest.mark.parametrize(
    ("tags", "rule"),
    [
        ({"socket:hovercraft": "1"}, "socket:hovercraft.unknown"),
        ({"socket:type2": "many"}, "socket:type2.count"),
        ({"socket:type2": "1", "socket:type2:output": "fast"}, "socket:type2:output.value"),
        ({"socket:type2": "1", "socket:type2:output": "99000 kW"}, "socket:type2:output.range"),
        ({"socket:type2": "1", "voltage": "400;230"}, "voltage.several"),
        ({"opening_hours": "open"}, "opening_hours.value"),
        ({"capacity": "some"}, "capacity.value"),
        ({"charge": "cheap"}, "charge.value"),
        ({"name": "x" * 500}, "name.length"),
        ({"name": 12}, "name.type"),
        ({"addr:country": "Germany"}, "addr:country.value"),
        ({"ref:EU:EVSE": "nonsense"}, "ref:EU:EVSE.value"),
    ],
)
def test_a_wrong_tag_is_noted_and_the_station_kept(tags: dict[str, Any], rule: str) -> None:
    report = read([station(tags)])
    assert only(report).operator_name == "EnBW"
    assert [(defect.rule, defect.action) for defect in report.defects] == [(rule, Action.KEPT)]


def test_texts_of_the_file_are_not_repeated_in_defects() -> None:
    report = read([station({"socket:type2": "hunter2", "opening_hours": "hunter2"}), "hunter2"])
    assert report.defects
    assert not any("hunter2" in str(defect) for defect in report.defects)


def test_a_second_station_with_the_same_id_is_skipped() -> None:
    report = read([station(), station()])
    assert len(report.evses) == 1
    assert rules(report) == {"evse_id.duplicate"}


def test_more_defects_than_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundation.import_report.MOST_DEFECTS", 3)
    report = read([station({"operator": None})] * 10)
    assert (len(report.defects), report.unlisted_defects) == (3, 7)


@settings(max_examples=60)
@given(json_values())
def test_no_json_makes_the_importer_fail(value: Any) -> None:
    for form in (value, {"features": [value, station()]}, {"elements": [value]}):
        read(form)
    keys = ("socket:type2", "socket:type2:output", "capacity", "charge", "opening_hours", "fee")
    read([station(dict.fromkeys(keys, value)), station(geometry=value), station(id=value)])
    read([station(geometry={"type": "Polygon", "coordinates": value})])


def test_sockets_say_plug_kind_phases_and_power() -> None:
    tags = {
        "socket:type2": "2",
        "socket:type2:current": "32A",
        "socket:type2:voltage": "400V",
        "socket:schuko": "1",
        "socket:combo2": "1",
        "socket:combo2:power": "50kW",
        "socket:type1": "no",
        "capacity": "4",
    }
    evse = only(read([station(tags)]))
    seen = {
        (
            item.kind,
            item.plug,
            item.power_w,
            item.phases,
            item.voltage_v,
            item.current_a,
            item.count,
        )
        for item in evse.connectors
    }
    assert seen == {
        (1, evse_pb2.PLUG_TYPE_TYPE_2, 22_080, 3, 230, 32, 2),
        (1, evse_pb2.PLUG_TYPE_HOUSEHOLD, 3_680, 1, 230, 16, 1),
        (2, evse_pb2.PLUG_TYPE_CCS_2, 50_000, 0, 0, 0, 1),
    }
    assert evse.vehicle_count == 4


@pytest.mark.parametrize(
    ("tags", "access"),
    [
        ({}, evse_pb2.ACCESS_KIND_UNSPECIFIED),
        ({"access": "yes"}, evse_pb2.ACCESS_KIND_OPEN),
        ({"authentication:none": "yes"}, evse_pb2.ACCESS_KIND_OPEN),
        ({"authentication:membership_card": "yes"}, evse_pb2.ACCESS_KIND_MEMBERSHIP),
        ({"access": "yes", "authentication:membership_card": "yes"}, 2),
        ({"access": "customers", "authentication:membership_card": "yes"}, 3),
        ({"access": "private"}, evse_pb2.ACCESS_KIND_PRIVATE),
    ],
)
def test_access_is_the_narrowest_that_the_tags_state(tags: dict[str, str], access: int) -> None:
    assert only(read([station(tags)])).access == access


def test_a_named_membership_is_kept() -> None:
    evse = only(read([station({"authentication:membership_card": "ChargeNow"})]))
    assert list(evse.memberships) == ["ChargeNow"]


def test_free_charging_is_a_tariff_without_components() -> None:
    (tariff,) = only(read([station({"fee": "no"})])).tariffs
    assert tariff == tariff_pb2.Tariff(currency_code="EUR")
    assert not only(read([station({"fee": "yes"})])).tariffs


def test_a_charge_is_read_as_integers() -> None:
    (tariff,) = only(read([station({"charge": "0.495 EUR/kWh; 0,05 €/min; 1 EUR"})])).tariffs
    assert [(part.dimension, part.price_micros) for part in tariff.components] == [
        (tariff_pb2.PRICE_DIMENSION_ENERGY, 495_000),
        (tariff_pb2.PRICE_DIMENSION_TIME, 3_000_000),
        (tariff_pb2.PRICE_DIMENSION_FLAT, 1_000_000),
    ]


def test_an_id_follows_from_country_operator_and_map_object() -> None:
    assert only(read([station()])).evse_id == f"{operator_id_of('EnBW', 'DE')}*E7"
    way = only(read([station(id="way/12")], country_code="AT"))
    assert way.evse_id == f"{operator_id_of('EnBW', 'AT')}*EW12"


def test_registered_ids_are_kept_one_evse_each() -> None:
    report = read([station({"ref:EU:EVSE": "deabce12; DE*ABC*E34"})])
    assert [each.evse.evse_id for each in report.evses] == ["DE*ABC*E12", "DE*ABC*E34"]


def test_an_area_is_at_its_centroid() -> None:
    ring = [[0, 0], [2, 0], [2, 1], [0, 1], [0, 0]]
    for kind, coordinates in (("Polygon", [ring]), ("MultiPolygon", [[ring]])):
        geometry = {"type": kind, "coordinates": coordinates}
        location = only(read([station(geometry=geometry)])).location
        assert (location.longitude_e7, location.latitude_e7) == (10_000_000, 5_000_000)


def test_the_json_of_the_overpass_api_gives_the_same_stations() -> None:
    tags = station()["properties"]
    elements = [
        {"type": "node", "id": 7, "lat": 48.9, "lon": 11.1, "tags": tags},
        {"type": "way", "id": 8, "center": {"lat": 48.9, "lon": 11.1}, "tags": tags},
    ]
    report = read({"elements": elements})
    first, second = report.evses
    assert first.evse == only(read([station()]))
    assert second.evse.evse_id.endswith("*EW8")


def test_a_javascript_assignment_is_read_like_its_json() -> None:
    text = json.dumps({"features": [station()]})
    assert read(f"var charging_stations={text};").evses == read(text).evses


@pytest.mark.parametrize(
    "text", ["open", "", "Mo-Fr", "Mo-Fr 25:00-26:00", "sunrise-sunset", "PH off"]
)
def test_hours_that_say_more_than_days_and_times_are_not_guessed(text: str) -> None:
    assert opening_of(text) is None


def test_hours_are_minutes_of_days() -> None:
    opening = opening_of("Mo-Fr 10:00-20:00; Sa 09:30-20:00")
    assert opening is not None
    hours = [(item.weekday, item.start_minute, item.end_minute) for item in opening.regular_hours]
    assert hours == [*((day, 600, 1200) for day in range(1, 6)), (6, 570, 1200)]
    always = opening_of("24/7")
    assert always is not None
    assert always.always_open


def test_the_sample_has_73_stations_and_names_its_licence() -> None:
    report = read(SAMPLE_FILE.read_bytes())
    assert (report.objects, len(report.evses)) == (73, 73)
    assert len({each.operator_name for each in report.evses}) >= 40
    assert "ODbL" in (SAMPLE_FILE.parent / "ATTRIBUTION.md").read_text()


@pytest.mark.external_data
@pytest.mark.skipif(not EXTERNAL.exists(), reason="the shared data is not here")
def test_the_stations_of_2015_are_read_with_every_defect_named() -> None:
    report = ImportReport()
    for path in sorted(EXTERNAL.glob("*.js")):
        read_osm(path.read_bytes(), path.name, report, OperatorIds())
    assert report.objects >= len(report.evses) > 0
    skipped = [defect for defect in report.defects if defect.action is Action.SKIPPED]
    assert report.objects == len(report.evses) + len(skipped)
