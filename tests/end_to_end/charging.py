"""EVSEs and searches for them, small and readable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.rpc import error_details_pb2
from grpc import aio

from gem.charging.v1 import evse_pb2, evse_search_service_pb2
from gem.charging.v1 import evse_search_service_pb2_grpc as charging
from gem.common.v1 import geo_pb2, money_pb2
from gemarket.console import details, rich_status
from tests.end_to_end.whole_market import Party

SEARCH = "/gem.charging.v1.EvseSearchService/SearchEvses"
GET = "/gem.charging.v1.EvseSearchService/GetEvse"
SearchRequest = evse_search_service_pb2.SearchEvsesRequest
SearchResponse = evse_search_service_pb2.SearchEvsesResponse
BERLIN = geo_pb2.GeoPoint(latitude_e7=525_200_000, longitude_e7=134_050_000)


def search(radius_m: int = 10_000, **fields: Any) -> SearchRequest:
    """Ask around the middle of Berlin."""
    return SearchRequest(circle=geo_pb2.GeoCircle(center=BERLIN, radius_m=radius_m), **fields)


def evse(
    evse_id: str, distance_m: int = 100, power_w: int = 11_000, price_micros: int = 0
) -> evse_pb2.Evse:
    """Give one EVSE as its operator describes it; without a price it is not known."""
    made = evse_pb2.Evse(
        evse_id=evse_id,
        location=BERLIN,
        distance_m=distance_m,
        max_power_w=power_w,
        status=evse_pb2.EVSE_STATUS_AVAILABLE,
    )
    if price_micros:
        made.reference_price.CopyFrom(
            money_pb2.Money(amount_micros=price_micros, currency_code="EUR")
        )
    return made


def found(*evses: evse_pb2.Evse) -> bytes:
    """Give an operator's answer to a search."""
    return SearchResponse(evses=evses).SerializeToString()


def found_one(made: evse_pb2.Evse) -> bytes:
    """Give an operator's answer to GetEvse."""
    return evse_search_service_pb2.GetEvseResponse(evse=made).SerializeToString()


def stub(party: Party) -> charging.EvseSearchServiceAsyncStub:
    """Give the generated stub over a party's connection."""
    return charging.EvseSearchServiceStub(party.core.channel)


def detail_of(error: aio.AioRpcError, kind: type[Any]) -> Any:
    """Give the one detail of a kind that a failed call carries."""
    (detail,) = [each for each in details(rich_status(error)) if isinstance(each, kind)]
    return detail


def reason_of(error: aio.AioRpcError) -> str:
    """Give the reason of a failed call as ErrorInfo has it."""
    reason: str = detail_of(error, error_details_pb2.ErrorInfo).reason
    return reason


def evse_ids(response: SearchResponse) -> Sequence[str]:
    """Give the ids in the answer's order."""
    return [each.evse_id for each in response.evses]
