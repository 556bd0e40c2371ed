"""What a search must find, said a second time: in plain Python over the messages themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gem.charging.v1 import evse_pb2
from gem.charging.v1 import evse_search_service_pb2 as messages
from gem.common.v1 import geo_pb2

EARTH_RADIUS_M = 6_371_008.8


def distance_m(first: geo_pb2.GeoPoint, second: geo_pb2.GeoPoint) -> float:
    """Give the distance over the ground by the haversine formula."""
    lat1, lat2 = (math.radians(point.latitude_e7 / 1e7) for point in (first, second))
    lon1, lon2 = (math.radians(point.longitude_e7 / 1e7) for point in (first, second))
    a = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(a)))


def found(
    evses: Iterable[evse_pb2.Evse], request: messages.SearchEvsesRequest
) -> list[tuple[int, str]]:
    """Give (metres, id) of all that a circle with a filter must find, the nearest first."""
    circle = request.circle
    near = []
    for evse in evses:
        away_m = distance_m(evse.location, circle.center)
        if away_m <= circle.radius_m and passes(evse, request.filter):
            near.append((int(away_m + 0.5), evse.evse_id))
    return sorted(near)


def passes(evse: evse_pb2.Evse, wanted: messages.EvseFilter) -> bool:
    """Say whether an EVSE passes a filter."""
    sources = {share.source for share in evse.energy_mix.shares}
    if evse.energy_mix.green and not sources:
        sources = {evse_pb2.ENERGY_SOURCE_GENERAL_GREEN}
    return all(
        (
            not wanted.statuses or evse.status in wanted.statuses,
            not wanted.accesses or evse.access in wanted.accesses,
            not wanted.membership or _opens(evse, wanted.membership),
            evse.energy_mix.green or not wanted.green_energy_only,
            evse.opening.always_open or not wanted.always_open_only,
            evse.reservable or not wanted.reservable_only,
            not wanted.energy_sources or sources & set(wanted.energy_sources),
            not wanted.excluded_energy_sources
            or (sources and not sources & set(wanted.excluded_energy_sources)),
            not wanted.HasField("max_reference_price")
            or _costs(evse, wanted.max_reference_price.amount_micros, 20),
            not wanted.HasField("max_price_per_kwh")
            or _costs(evse, wanted.max_price_per_kwh.amount_micros, 1, fees=False),
            _has_connector(evse, wanted),
        )
    )


def _opens(evse: evse_pb2.Evse, membership: str) -> bool:
    names = [name.lower() for name in evse.memberships]
    return evse.access == evse_pb2.ACCESS_KIND_OPEN or membership.lower() in names


def _has_connector(evse: evse_pb2.Evse, wanted: messages.EvseFilter) -> bool:
    if not (wanted.kinds or wanted.plugs or wanted.phases or wanted.min_power_w):
        return True
    return any(
        (not wanted.kinds or connector.kind in wanted.kinds)
        and (not wanted.plugs or connector.plug in wanted.plugs)
        and (not wanted.phases or connector.phases in wanted.phases)
        and connector.power_w >= wanted.min_power_w
        for connector in evse.connectors
    )


def _costs(evse: evse_pb2.Evse, most_micros: int, energy_kwh: int, fees: bool = True) -> bool:
    """Price energy and, of tariffs like those of the generator, the fixed fee."""
    for tariff in evse.tariffs:
        energy, fee = (
            sum(part.price_micros for part in tariff.components if part.dimension == dimension)
            for dimension in (1, 4)
        )
        return energy * energy_kwh + (fee if fees else 0) <= most_micros
    return False
