"""OCPI 2.3.0 locations and tariffs: what is wrong is said, what is good is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.import_report import Action
from gem.charging.v1 import evse_pb2, tariff_pb2
from mobility.import_ocpi import read_ocpi_locations, read_ocpi_tariffs
from mobility.import_report import ImportReport
from mobility.ocpi_evse import Tariffs
from tests.json_values import json_values

pytestmark = pytest.mark.usecase(1527)
EXTERNAL = Path(__file__).parents[3] / "shared" / "data"
UPDATED = "2025-10-09T12:00:00Z"


def connector(**members: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "standard": "IEC_62196_T2",
        "format": "SOCKET",
        "power_type": "AC_3_PHASE",
        "max_voltage": 230,
        "max_amperage": 16,
        "last_updated": UPDATED,
        **members,
    }


def an_evse(**members: Any) -> dict[str, Any]:
    return {
        "uid": "3256",
        "evse_id": "BE*XYZ*E1",
        "status": "AVAILABLE",
        "connectors": [connector()],
        "last_updated": UPDATED,
        **members,
    }


def location(**members: Any) -> dict[str, Any]:
    return {
        "country_code": "BE",
        "party_id": "XYZ",
        "id": "L1",
        "publish": True,
        "address": "Some street 3",
        "city": "Gent",
        "country": "BEL",
        "coordinates": {"latitude": "51.0475991", "longitude": "3.7299441"},
        "evses": [an_evse()],
        "time_zone": "Europe/Brussels",
        "last_updated": UPDATED,
        **members,
    }


def tariff(**members: Any) -> dict[str, Any]:
    return {
        "country_code": "BE",
        "party_id": "XYZ",
        "id": "11",
        "currency": "EUR",
        "elements": [{"price_components": [{"type": "ENERGY", "price": 0.25, "step_size": 1}]}],
        "tax_included": "NO",
        "last_updated": UPDATED,
        **members,
    }


def read(data: Any, tariffs: Tariffs | None = None) -> ImportReport:
    report = ImportReport()
    read_ocpi_locations(json.dumps(data), "locations.json", report, tariffs)
    return report


def read_one_tariff(data: Any) -> tuple[tariff_pb2.Tariff | None, ImportReport]:
    report = ImportReport()
    tariffs = read_ocpi_tariffs(json.dumps(data), "tariffs.json", report)
    return next(iter(tariffs.values()), None), report


def only(report: ImportReport) -> evse_pb2.Evse:
    (imported,) = report.evses
    return imported.evse


@pytest.mark.parametrize(
    ("broken", "path", "rule"),
    [
        ({"status": "RESERVED"}, "$[0]", "location.form"),
        (location(publish=False), "$[0]", "location.publish"),
        (location(publish=None), "$[0]", "location.publish"),
        (location(coordinates={"latitude": "91", "longitude": "3"}), "$[0]", "coordinates"),
        (location(coordinates={"latitude": [], "longitude": "3"}), "$[0]", "coordinates"),
        (location(evses=[an_evse(status="REMOVED")]), "$[0].evses[0]", "evse.removed"),
        (17, "$[0]", "object.type"),
    ],
)
def test_what_cannot_be_served_is_skipped_with_the_reason(
    broken: Any, path: str, rule: str
) -> None:
    good = location(evses=[an_evse(evse_id="BE*XYZ*E2")])
    report = read([broken, good])
    assert only(report).evse_id == "BE*XYZ*E2", "the good one is kept"
    assert [(d.file, d.path, d.rule, d.action) for d in report.defects] == [
        ("locations.json", path, rule, Action.SKIPPED)
    ]


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (location(city=None), "city.missing"),
        (location(country="Belgium"), "country.length"),
        (location(country="BEX"), "country.unknown"),
        (location(name=5), "name.type"),
        (location(coordinates={"latitude": 51.0, "longitude": "3"}), "latitude.type"),
        (location(party_id="XYZAB", operator={"name": "O"}), "party_id.value"),
        (location(party_id="AAA"), "evse_id.party"),
        (location(evses=[an_evse(evse_id=None)]), "evse_id.missing"),
        (location(evses=[an_evse(evse_id="nonsense")]), "evse_id.value"),
        (location(evses=[an_evse(status="SLEEPING")]), "status.unknown"),
        (location(evses=[an_evse(connectors=[])]), "connectors.missing"),
        (location(evses=[an_evse(last_updated="yesterday")]), "last_updated.value"),
        (location(evses=[an_evse(connectors=[connector(standard="X")])]), "standard.unknown"),
        (location(evses=[an_evse(connectors=[connector(power_type="X")])]), "power_type.unknown"),
        (
            location(evses=[an_evse(connectors=[connector(max_voltage=None)])]),
            "max_voltage.missing",
        ),
        (location(opening_times={"twentyfourseven": "yes"}), "twentyfourseven.type"),
        (location(opening_times={"regular_hours": [{"weekday": 9}]}), "weekday.range"),
        (location(energy_mix={"energy_sources": [{"source": "GAS", "percentage": 3}]}),
         "energy_sources.sum"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_noted_and_the_evse_kept(broken: dict[str, Any], rule: str) -> None:
    report = read(broken)
    assert len(report.evses) == 1
    assert rule in {defect.rule for defect in report.defects}
    assert {defect.action for defect in report.defects} == {Action.KEPT}


def test_a_five_character_party_cannot_own_an_evse_without_an_id() -> None:
    report = read(location(party_id="XYZAB", operator={"name": "O"}, evses=[an_evse(evse_id=None)]))
    assert report.evses == []
    assert {(defect.rule, defect.action) for defect in report.defects} == {
        ("party_id.value", Action.KEPT),
        ("evse_id", Action.SKIPPED),
    }


@pytest.mark.parametrize(
    "broken",
    [
        tariff(id=None),
        tariff(currency="euro"),
        tariff(elements=[{"price_components": [{"type": "ENERGY"}]}]),
        tariff(elements=[{"price_components": [{"type": "LOVE", "price": 1}]}]),
        tariff(elements=[{"price_components": [{"type": "FLAT", "price": -1}]}]),
        tariff(elements=[{"price_components": ["free"]}]),
        tariff(elements=[{"restrictions": {"start_time": "late"}, "price_components": []}]),
        tariff(elements=[{"restrictions": {"day_of_week": ["FUNDAY"]}, "price_components": []}]),
        tariff(elements=[{"restrictions": 5, "price_components": []}]),
    ],
)
def test_a_tariff_of_which_a_part_is_wrong_gives_no_price_at_all(broken: dict[str, Any]) -> None:
    read_tariff, report = read_one_tariff(broken)
    assert read_tariff is None
    assert Action.SKIPPED in {defect.action for defect in report.defects}


def test_a_response_of_a_failure_is_noted() -> None:
    report = read({"status_code": 3000, "data": [location()]})
    assert len(report.evses) == 1
    assert [defect.rule for defect in report.defects] == ["response.status"]


@settings(max_examples=60)
@given(json_values())
def test_no_json_makes_the_importer_fail(value: Any) -> None:
    for form in (value, [value], {"data": value}, {"data": [value], "status_code": value}):
        read(form)
        read_one_tariff(form)


@settings(max_examples=60)
@given(st.data())
def test_no_member_makes_the_importer_fail(data: st.DataObject) -> None:
    value = data.draw(json_values())
    whole = location(
        opening_times={"regular_hours": [{"weekday": 1}], "exceptional_openings": [{}]},
        energy_mix={"energy_sources": [{"source": "GAS", "percentage": 100}]},
        operator={"name": "O"},
    )
    priced = tariff(min_price={"before_taxes": 1}, max_price={"before_taxes": 1})
    priced["elements"][0]["restrictions"] = {"min_kwh": 1, "start_time": "08:00"}
    for root in (whole, priced):
        path: Any = root
        while isinstance(path, dict | list) and path:
            keys = sorted(path) if isinstance(path, dict) else list(range(len(path)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(path[key], dict | list) or data.draw(st.booleans()):
                path[key] = value
                break
            path = path[key]
    read_tariff, _ = read_one_tariff(priced)
    tariffs = {} if read_tariff is None else {("BE", "XYZ", "11"): read_tariff}
    read(whole, tariffs)


@pytest.mark.parametrize("form", [lambda x: x, lambda x: [x], lambda x: {"data": x}])
def test_an_object_a_list_and_a_response_give_the_same(form: Any) -> None:
    evse = only(read(form(location())))
    assert (evse.evse_id, evse.status) == ("BE*XYZ*E1", evse_pb2.EVSE_STATUS_AVAILABLE)
    assert (evse.location.latitude_e7, evse.location.longitude_e7) == (510_475_991, 37_299_441)
    (read_connector,) = evse.connectors
    assert (read_connector.power_w, read_connector.phases) == (11_040, 3)
    assert evse.status_time.ToJsonString() == UPDATED
    assert evse.address.country_code == "BE"
    assert evse.operator_name == "BE*XYZ", "without a name the party's id stands for the operator"


def test_an_id_that_is_missing_follows_from_party_and_uid() -> None:
    made = [only(read(location(evses=[an_evse(evse_id=None, uid=uid)]))) for uid in ("a1", "a-1")]
    assert made[0].evse_id == "BE*XYZ*EA1"
    assert made[1].evse_id.startswith("BE*XYZ*E")
    assert len(made[1].evse_id) == 28, "a uid that cannot be part of an id is digested"


def test_hours_energy_access_and_capabilities_are_kept() -> None:
    evse = only(
        read(
            location(
                operator={"name": "BeCharged"},
                opening_times={
                    "twentyfourseven": False,
                    "regular_hours": [
                        {"weekday": 1, "period_begin": "08:00", "period_end": "20:00"}
                    ],
                    "exceptional_closings": [
                        {
                            "period_begin": "2025-12-25T03:00:00Z",
                            "period_end": "2025-12-25T05:00:00Z",
                        }
                    ],
                },
                energy_mix={
                    "is_green_energy": True,
                    "energy_sources": [{"source": "WIND", "percentage": 100}],
                },
                evses=[an_evse(capabilities=["RESERVABLE"], parking_restrictions=["CUSTOMERS"])],
            )
        )
    )
    assert evse.operator_name == "BeCharged"
    assert evse.reservable
    assert evse.access == evse_pb2.ACCESS_KIND_CUSTOMERS
    assert evse.energy_mix.green
    assert evse.energy_mix.shares[0].share_ppm == 1_000_000
    assert evse.opening.regular_hours[0].end_minute == 1200
    assert evse.opening.time_zone == "Europe/Brussels"
    assert len(evse.opening.exceptional_closings) == 1


def test_a_tariff_is_read_as_integers_with_its_restrictions() -> None:
    element = {
        "price_components": [
            {"type": "ENERGY", "price": 0.3333, "vat": 8.875, "step_size": 100},
            {"type": "TIME", "price": 2, "step_size": 300},
        ],
        "restrictions": {"start_time": "22:00", "end_time": "06:00", "day_of_week": ["SUNDAY"],
                         "max_kwh": 20.5, "reservation": "RESERVATION"},
    }  # fmt: skip
    read_tariff, report = read_one_tariff(tariff(elements=[element], max_price={"before_taxes": 9}))
    assert report.defects == []
    assert read_tariff is not None
    energy, time = read_tariff.components
    assert (energy.price_micros, energy.vat_ppm, energy.step_wh) == (333_300, 88_750, 100)
    assert (time.price_micros, time.step_s) == (2_000_000, 300)
    assert energy.restriction == time.restriction
    assert (energy.restriction.start_minute, energy.restriction.end_minute) == (1320, 360)
    assert (energy.restriction.max_energy_wh, list(energy.restriction.weekdays)) == (20_500, [7])
    assert read_tariff.max_price.amount_micros == 9_000_000


def test_connectors_name_the_tariffs_of_their_evse() -> None:
    report = ImportReport()
    given_tariffs = [tariff(), tariff(id="12", elements=[])]
    tariffs = read_ocpi_tariffs(json.dumps(given_tariffs), "tariffs.json", report)
    connectors = [connector(tariff_ids=["11"]), connector(tariff_ids=["11", "12", "13"])]
    report = read(location(evses=[an_evse(connectors=connectors)]), tariffs)
    evse = only(report)
    assert [each.tariff_id for each in evse.tariffs] == ["11", "12"]
    assert [list(each.tariff_positions) for each in evse.connectors] == [[0], [0, 1]]
    assert [defect.rule for defect in report.defects] == ["tariff_ids.unknown"]


@pytest.mark.external_data
@pytest.mark.skipif(not EXTERNAL.exists(), reason="the shared data is not here")
def test_the_published_examples_are_read_with_every_defect_named() -> None:
    report = ImportReport()
    paths = sorted(EXTERNAL.glob("ocpi-*/*.json"))
    tariffs = {}
    for path in paths:
        if path.name.startswith("tariff"):
            tariffs.update(read_ocpi_tariffs(path.read_bytes(), path.name, report))
    assert len(tariffs) >= 5
    assert "last_updated.missing" in {defect.rule for defect in report.defects}
    for path in paths:
        read_ocpi_locations(path.read_bytes(), path.name, report, tariffs)
    ids = {each.evse.evse_id for each in report.evses}
    assert {"BE*BEC*E041503001", "SE*EVC*E000000123", "NL*ALF*E000000001"} <= ids
    assert "DE*ALL*EGO0000001" not in ids, "a home charger is not published"
