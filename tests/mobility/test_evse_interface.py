"""The rules of `gem.charging.v1`: what a caller and a provider may say, and how large it is."""

from __future__ import annotations

import protovalidate
import pytest

from foundation.validation import violations
from gem.charging.v1 import evse_pb2, tariff_pb2
from gem.charging.v1 import evse_search_service_pb2 as messages
from gem.common.v1 import geo_pb2
from gem.options.v1 import options_pb2
from tests.mobility.test_search import around

pytestmark = pytest.mark.usecase(1527)
ONE_POINT = geo_pb2.GeoCorridor(points=[geo_pb2.GeoPoint()], distance_m=1)


def an_evse() -> evse_pb2.Evse:
    """Make an EVSE like those of the benchmark: two connectors, one tariff."""
    evse = evse_pb2.Evse(
        evse_id="DE*ABC*E0001234",
        distance_m=1234,
        status=evse_pb2.EVSE_STATUS_AVAILABLE,
        access=evse_pb2.ACCESS_KIND_OPEN,
        operator_name="EnBW",
        max_power_w=50_000,
    )
    evse.location.latitude_e7, evse.location.longitude_e7 = 515_000_000, 71_234_567
    evse.status_time.seconds = 1_760_000_000
    evse.connectors.add(kind=1, plug=2, power_w=22_080, phases=3, voltage_v=230, current_a=32)
    evse.connectors.add(kind=2, plug=6, power_w=50_000, voltage_v=400, current_a=125)
    component = evse.tariffs.add(currency_code="EUR").components.add(price_micros=490_000)
    component.dimension = tariff_pb2.PRICE_DIMENSION_ENERGY
    return evse


def broken_fields(message: object) -> set[str]:
    return {violation.field for violation in violations(message)}  # type: ignore[arg-type]


def request(**fields: object) -> messages.SearchEvsesRequest:
    made = around(50, 10, 100)
    made.MergeFrom(messages.SearchEvsesRequest(**fields))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("filter_fields", "broken"),
    [
        ({"kinds": [0]}, "filter.kinds[0]"),
        ({"kinds": [99]}, "filter.kinds[0]"),
        ({"plugs": [2, 0]}, "filter.plugs[1]"),
        ({"plugs": [2] * 33}, "filter.plugs"),
        ({"statuses": [77]}, "filter.statuses[0]"),
        ({"accesses": [77]}, "filter.accesses[0]"),
        ({"phases": [4]}, "filter.phases[0]"),
        ({"min_power_w": -1}, "filter.min_power_w"),
        ({"membership": "x" * 65}, "filter.membership"),
        ({"energy_sources": [0]}, "filter.energy_sources[0]"),
        ({"excluded_energy_sources": [0]}, "filter.excluded_energy_sources[0]"),
        ({"max_reference_price": {"amount_micros": 1}}, "filter.max_reference_price.currency_code"),
    ],
)
def test_a_filter_that_says_nothing_sensible_is_refused(
    filter_fields: dict[str, object], broken: str
) -> None:
    assert broken_fields(request(filter=filter_fields)) == {broken}


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        (messages.SearchEvsesRequest(), "area"),
        (messages.SearchEvsesRequest(circle=geo_pb2.GeoCircle(radius_m=1)), "circle.center"),
        (request(ordering=9), "ordering"),
        (request(limit=-1), "limit"),
        (request(limit=1001), "limit"),
        (around(50, 10, 500_001), "circle.radius_m"),
        (around(50, 181, 5), "circle.center.longitude_e7"),
        (messages.SearchEvsesRequest(corridor=ONE_POINT), "corridor.points"),
        (messages.SearchEvsesRequest(box=geo_pb2.GeoBox()), "box.north_east"),
    ],
)
def test_a_request_without_a_sensible_area_or_limit_is_refused(
    message: messages.SearchEvsesRequest, broken: str
) -> None:
    assert broken in broken_fields(message)


def test_a_box_upside_down_is_refused() -> None:
    box = geo_pb2.GeoBox(south_west=geo_pb2.GeoPoint(latitude_e7=1), north_east=geo_pb2.GeoPoint())
    assert violations(messages.SearchEvsesRequest(box=box))


@pytest.mark.parametrize(
    "evse_id", ["", "DE", "DE*AB*E1", "DE*ABC*1", "DE*ABC*E", "DE*ABC*E1 ", "x" * 49, "+49*1"]
)
def test_an_id_that_is_no_evse_id_is_refused(evse_id: str) -> None:
    assert broken_fields(messages.GetEvseRequest(evse_id=evse_id)) == {"evse_id"}


@pytest.mark.parametrize(
    "evse_id", ["DE*ABC*E1", "deabce1", "DE*ABC*E*1", "+49*823*1234*5678", f"DEABCE{'1' * 31}"]
)
def test_every_spelling_of_an_id_may_be_asked_for(evse_id: str) -> None:
    assert not violations(messages.GetEvseRequest(evse_id=evse_id))


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"evse_id": "de*abc*E1"}, "evse_id"),
        ({"evse_id": "DE*ABC*1"}, "evse_id"),
        ({"distance_m": -1}, "distance_m"),
        ({"status": 99}, "status"),
        ({"access": 99}, "access"),
        ({"max_power_w": -5}, "max_power_w"),
        ({"operator_name": "x" * 129}, "operator_name"),
        ({"memberships": [""]}, "memberships[0]"),
        ({"address": {"country_code": "deu"}}, "address.country_code"),
        ({"energy_mix": {"shares": [{"share_ppm": 1}]}}, "energy_mix.shares[0].source"),
        ({"opening": {"regular_hours": [{"end_minute": 5}]}}, "opening.regular_hours[0].weekday"),
        ({"tariffs": [{"currency_code": "euro"}]}, "tariffs[1].currency_code"),
        (
            {"tariffs": [{"currency_code": "EUR", "components": [{"price_micros": 1}]}]},
            "tariffs[1].components[0].dimension",
        ),
        ({"connectors": [{"phases": 4}]}, "connectors[2].phases"),
        ({"connectors": [{"power_w": -1}]}, "connectors[2].power_w"),
        ({"provider_id": "x" * 64}, "provider_id"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_found_out(change: dict[str, object], broken: str) -> None:
    evse = an_evse()
    evse.MergeFrom(evse_pb2.Evse(**change))  # type: ignore[arg-type]
    answer = messages.SearchEvsesResponse(evses=[evse])
    assert broken_fields(answer) == {f"evses[0].{broken}"}


def test_an_evse_without_a_place_is_found_out() -> None:
    evse = an_evse()
    evse.ClearField("location")
    assert broken_fields(messages.GetEvseResponse(evse=evse)) == {"evse.location"}
    assert broken_fields(messages.GetEvseResponse()) == {"evse"}


def test_an_evse_with_two_connectors_and_a_tariff_is_small() -> None:
    evse = an_evse()
    protovalidate.validate(evse)
    assert 90 <= evse.ByteSize() <= 150
    assert messages.SearchEvsesResponse(evses=[evse] * 100).ByteSize() <= 15_000


def test_every_ordering_but_the_unset_one_says_how_it_sorts() -> None:
    for value in messages.EvseOrdering.DESCRIPTOR.values:
        order_by = value.GetOptions().Extensions[options_pb2.order_by_value].order_by
        assert bool(order_by) == (value.number != 0)
        # Elements that are equal in all else have one order.
        assert not order_by or list(order_by[-2:]) == ["distance_m", "evse_id"]


def test_the_methods_go_where_the_use_case_needs_them() -> None:
    service = messages.DESCRIPTOR.services_by_name["EvseSearchService"]
    routes = {
        method.name: method.GetOptions().Extensions[options_pb2.route] for method in service.methods
    }
    assert routes == {
        "SearchEvses": options_pb2.ROUTE_ALL,
        "GetEvse": options_pb2.ROUTE_BY_KEY,
    }
    for name, stamp in (
        ("provider_id", options_pb2.STAMP_PROVIDER_ID),
        ("contract_id", options_pb2.STAMP_CONTRACT_ID),
    ):
        field = evse_pb2.Evse.DESCRIPTOR.fields_by_name[name]
        assert field.GetOptions().Extensions[options_pb2.stamp] == stamp
