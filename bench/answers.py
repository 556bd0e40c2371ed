"""Answers of the size that operators really give: about 90 bytes an EVSE."""

from __future__ import annotations

from random import Random

from gem.charging.v1 import evse_pb2, evse_search_service_pb2, tariff_pb2
from gem.common.v1 import geo_pb2, money_pb2

METHOD = "/gem.charging.v1.EvseSearchService/SearchEvses"
INTERFACE = "gem.charging.v1.EvseSearchService"


def search_request(limit: int = 0) -> evse_search_service_pb2.SearchEvsesRequest:
    """Ask for all EVSEs within 10 km of the middle of Berlin, nearest first."""
    center = geo_pb2.GeoPoint(latitude_e7=525200000, longitude_e7=134050000)
    return evse_search_service_pb2.SearchEvsesRequest(
        circle=geo_pb2.GeoCircle(center=center, radius_m=10_000),
        ordering=evse_search_service_pb2.EVSE_ORDERING_DISTANCE,
        limit=limit,
    )


def search_answer(operator: str, count: int) -> bytes:
    """Give one operator's answer with `count` EVSEs; the same for the same arguments."""
    random = Random(operator)  # made-up EVSEs, nothing secret
    answer = evse_search_service_pb2.SearchEvsesResponse()
    distances = sorted(random.randrange(10_000) for _ in range(count))
    for number, distance_m in enumerate(distances):
        answer.evses.append(_evse(f"DE*{operator}*E{number:06d}", distance_m, random))
    return answer.SerializeToString()


def _evse(evse_id: str, distance_m: int, random: Random) -> evse_pb2.Evse:
    location = geo_pb2.GeoPoint(
        latitude_e7=525200000 + random.randrange(-800000, 800000),
        longitude_e7=134050000 + random.randrange(-800000, 800000),
    )
    connector = evse_pb2.Connector(
        kind=evse_pb2.CHARGING_KIND_AC, plug=evse_pb2.PLUG_TYPE_TYPE_2, power_w=22_000, phases=3
    )
    price = tariff_pb2.PriceComponent(
        dimension=tariff_pb2.PRICE_DIMENSION_ENERGY, price_micros=random.randrange(300_000, 700_000)
    )
    return evse_pb2.Evse(
        evse_id=evse_id,
        location=location,
        distance_m=distance_m,
        status=evse_pb2.EVSE_STATUS_AVAILABLE,
        connectors=[connector],
        max_power_w=22_000,
        tariffs=[tariff_pb2.Tariff(currency_code="EUR", components=[price])],
        reference_price=money_pb2.Money(amount_micros=20 * price.price_micros, currency_code="EUR"),
        access=evse_pb2.ACCESS_KIND_OPEN,
    )
