"""Use case 1527, Search for EVSE, through the market to two operators' own databases."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from grpc import StatusCode, aio

from gem.charging.v1 import evse_pb2, evse_search_service_pb2
from gem.common.v1 import geo_pb2, money_pb2
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket.ports import free_port
from gemarket.supervisor import ChildSpec
from mobility.import_evses import store
from mobility.import_ocpi import read_ocpi_locations, read_ocpi_tariffs
from mobility.import_report import ImportReport
from mobility.storage import EvseStorage, open_pool
from tests.end_to_end.charging import SearchRequest, evse_ids, search, stub
from tests.end_to_end.whole_market import OPERATOR, Party, WholeMarket
from tests.mobility.test_import_ocpi import an_evse, connector, location, tariff

pytestmark = pytest.mark.usecase(1527)
EvseFilter = evse_search_service_pb2.EvseFilter
#: North of the middle of Berlin, about 1.1 km for each hundredth of a degree.
_LATITUDE, _LONGITUDE = 52.52, 13.405
_DC = connector(standard="IEC_62196_T2_COMBO", power_type="DC", max_voltage=400, max_amperage=500)
_ONE_PHASE = connector(power_type="AC_1_PHASE", max_amperage=16)
#: Per operator: EVSE id, hundredths of a degree to the north, members of the EVSE, of the place.
_PLACES: dict[str, list[tuple[str, int, dict[str, Any], dict[str, Any]]]] = {
    "North Current": [
        ("DE*NOC*E1", 1, {}, {"energy_mix": {"is_green_energy": True}}),
        ("DE*NOC*E2", 3, {"connectors": [_DC | {"tariff_ids": ["dear"]}]}, {}),
        ("DE*NOC*E3", 5, {"status": "CHARGING", "connectors": [_ONE_PHASE]}, {}),
    ],
    "South Current": [
        ("DE*SOC*E1", 2, {"connectors": [connector(tariff_ids=["cheap"])]}, {}),
        ("DE*SOC*E2", 4, {"status": "OUTOFORDER"}, {}),
        ("DE*SOC*E3", 40, {}, {}),
    ],
}
NEAREST_FIRST = ["DE*NOC*E1", "DE*SOC*E1", "DE*NOC*E2", "DE*SOC*E2", "DE*NOC*E3"]


def _ocpi(name: str) -> tuple[str, str]:
    """Give an operator's locations and tariffs as OCPI files have them."""
    party = {"country_code": "DE", "party_id": _PLACES[name][0][0][3:6]}
    places = [
        location(
            **party,
            id=evse_id[7:],
            country="DEU",
            operator={"name": name},
            coordinates={
                "latitude": f"{_LATITUDE + north / 100:.6f}",
                "longitude": f"{_LONGITUDE:.6f}",
            },
            evses=[an_evse(uid=evse_id[7:], evse_id=evse_id, **members)],
            **more,
        )
        for evse_id, north, members, more in _PLACES[name]
    ]
    prices = (("cheap", 0.3), ("dear", 0.8))
    tariffs = [
        tariff(
            **party,
            id=tariff_id,
            elements=[{"price_components": [{"type": "ENERGY", "price": price, "step_size": 1}]}],
        )
        for tariff_id, price in prices
    ]
    return json.dumps(places), json.dumps(tariffs)


async def _import(whole: WholeMarket) -> None:
    async with open_pool(whole.market.database_url) as pool:
        report = ImportReport()
        for name in _PLACES:
            locations, tariffs = _ocpi(name)
            known = read_ocpi_tariffs(tariffs, "tariffs.json", report)
            read_ocpi_locations(locations, "locations.json", report, known)
        assert report.defects == []
        assert (await store(EvseStorage(pool), report)).added == 6


async def _serve(whole: WholeMarket, name: str) -> tuple[Party, str]:
    """Start an operator's provider as a process of its own; gives its party and service."""
    market = whole.market
    party = await whole.registered("operator", OPERATOR, operator_ids=[_PLACES[name][0][0][:6]])
    port = free_port()
    config = {
        "operator_name": name,
        "database_url": market.database_url,
        "port": port,
        "key_file": str(party.identity.key_file),
        "certificate_file": str(party.identity.certificate_file),
        "ca_file": str(party.identity.ca_file),
        "trust_domain": market.settings.trust_domain,
    }
    file = market.layout.run / f"{party.partner_id}.json"
    file.write_text(json.dumps(config))
    arguments = ("--config", str(file))
    await market.supervisor.start(ChildSpec(party.partner_id, "mobility.provider", arguments))
    return party, await whole.offer(party, f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
async def driver(whole: WholeMarket) -> Party:
    """Give an EVSP with contracts with both operators, in the order of the names."""
    await _import(whole)
    requester = await whole.requester()
    for name in _PLACES:
        _, service_id = await _serve(whole, name)
        await requester.core.ensure_contract(service_id)
    return requester


async def ids_found(party: Party, request: SearchRequest) -> Sequence[str]:
    """Search; every operator answers."""
    response = await stub(party).SearchEvses(request, timeout=10)
    assert [entry.status for entry in response.provider_answers] == [mesh.ANSWER_STATUS_OK] * 2
    return evse_ids(response)


async def test_a_search_without_a_place_is_refused(driver: Party) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(driver).SearchEvses(SearchRequest(), timeout=10)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT


async def test_no_charging_point_available_is_an_empty_answer(driver: Party) -> None:
    at_sea = geo_pb2.GeoPoint(latitude_e7=0, longitude_e7=0)
    request = SearchRequest(circle=geo_pb2.GeoCircle(center=at_sea, radius_m=1000))
    assert await ids_found(driver, request) == []
    impossible = EvseFilter(kinds=[evse_pb2.CHARGING_KIND_BATTERY_SWITCH])
    assert await ids_found(driver, search(filter=impossible)) == []


async def test_an_operator_out_of_reach_is_an_entry_beside_the_others_results(
    whole: WholeMarket, driver: Party
) -> None:
    party = await whole.registered("operator", OPERATOR)
    service_id = await whole.offer(party, f"127.0.0.1:{free_port()}")
    contract_id = await driver.core.ensure_contract(service_id)
    try:
        response = await stub(driver).SearchEvses(search(), timeout=10)
        statuses = [entry.status for entry in response.provider_answers]
        assert statuses == [1, 1, mesh.ANSWER_STATUS_UNREACHABLE]
        assert evse_ids(response) == NEAREST_FIRST
    finally:
        await driver.core.suspend(contract_id)


async def test_the_nearest_of_all_operators_come_first(driver: Party) -> None:
    assert await ids_found(driver, search()) == NEAREST_FIRST
    assert await ids_found(driver, search(limit=2)) == NEAREST_FIRST[:2]
    assert await ids_found(driver, search(radius_m=2_500)) == NEAREST_FIRST[:2]


async def test_price_and_power_order_across_operators(driver: Party) -> None:
    by_price = await ids_found(driver, search(ordering=evse_search_service_pb2.EVSE_ORDERING_PRICE))
    assert by_price[:2] == ["DE*SOC*E1", "DE*NOC*E2"], "what has no known price comes last"
    by_power = await ids_found(driver, search(ordering=evse_search_service_pb2.EVSE_ORDERING_POWER))
    assert (by_power[0], by_power[-1]) == ("DE*NOC*E2", "DE*NOC*E3")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (EvseFilter(statuses=[evse_pb2.EVSE_STATUS_OCCUPIED]), ["DE*NOC*E3"]),
        (EvseFilter(statuses=[evse_pb2.EVSE_STATUS_OUT_OF_ORDER]), ["DE*SOC*E2"]),
        (EvseFilter(kinds=[evse_pb2.CHARGING_KIND_DC]), ["DE*NOC*E2"]),
        (EvseFilter(plugs=[evse_pb2.PLUG_TYPE_CCS_2]), ["DE*NOC*E2"]),
        (EvseFilter(min_power_w=50_000), ["DE*NOC*E2"]),
        (EvseFilter(phases=[1]), ["DE*NOC*E3"]),
        (EvseFilter(green_energy_only=True), ["DE*NOC*E1"]),
        (
            EvseFilter(
                max_price_per_kwh=money_pb2.Money(amount_micros=500_000, currency_code="EUR")
            ),
            ["DE*SOC*E1"],
        ),
    ],
    ids=["occupied", "out of order", "DC", "plug", "power", "phases", "green", "price"],
)
async def test_a_filter_holds_at_every_operator(
    driver: Party, condition: evse_search_service_pb2.EvseFilter, expected: list[str]
) -> None:
    assert await ids_found(driver, search(filter=condition)) == expected


async def test_one_evse_is_asked_of_the_operator_that_owns_its_id(driver: Party) -> None:
    request = evse_search_service_pb2.GetEvseRequest(evse_id="deSOCe1")
    response = await stub(driver).GetEvse(request, timeout=10)
    assert response.evse.evse_id == "DE*SOC*E1"
    assert response.evse.address.city == "Gent"
    assert response.evse.tariffs[0].components[0].price_micros == 300_000
    unknown = evse_search_service_pb2.GetEvseRequest(evse_id="DE*SOC*E99")
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(driver).GetEvse(unknown, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND


async def test_the_answer_comes_within_three_seconds(driver: Party) -> None:
    begun_s = time.monotonic()
    await ids_found(driver, search())
    assert time.monotonic() - begun_s < 3.0, "the use case's own figure"
