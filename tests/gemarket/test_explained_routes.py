"""`gemarket explain-route`: why a call is routed or refused, in words."""

from __future__ import annotations

from gem.marketplace.v1 import route_explanation_pb2 as routes
from gem.options.v1.options_pb2 import Route
from tests.gemarket.fake_market import FakeMarket


def explained(reason: routes.RouteReason.ValueType) -> routes.RouteExplanation:
    """Explain a call with one service that is asked and one that is not."""
    made = routes.RouteExplanation(
        requester_id="volt", method="/a.B/Call", route=Route.ROUTE_ALL, reason=reason
    )
    made.candidates.add(
        provider_id="ampere", routed=True, place_number=1, reason=routes.ROUTE_REASON_IN_FORCE
    )
    left = made.candidates.add(
        provider_id="ohm", reason=routes.ROUTE_REASON_CONTRACT_SUSPENDED, left_out_here=True
    )
    left.event.history, left.event.kind, left.event.actor = "contract", "SUSPENDED", "volt [x]"
    left.event.event_time.FromJsonString("2026-02-01T08:00:00Z")
    return made


def test_a_route_is_explained_by_service_and_event(market: FakeMarket) -> None:
    answer = routes.ExplainRouteResponse(explanation=explained(routes.ROUTE_REASON_IN_FORCE))
    market.on("ExplainRoute", answer)
    said = market.good("explain-route", "a.B/Call", "--at", "2026-02-01T09:00+01:00")
    assert said.startswith("volt calls Call (route all) at 1970-01-01T00:00:00Z: 1 asked\n")
    assert "The whole call is refused" not in said
    (line,) = [row for row in said.splitlines() if "ohm" in row]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    why = "contract suspended: contract suspended by volt [x] since 2026-02-01T08:00:00Z"
    assert cells[:3] == ["no", "ohm", f"{why}; left out by this worker for the moment"]
    (asked,) = market.asked("ExplainRoute", routes.ExplainRouteRequest)
    assert (asked.method, asked.time.ToJsonString()) == ("/a.B/Call", "2026-02-01T08:00:00Z")


def test_a_call_that_is_refused_whole_says_why(market: FakeMarket) -> None:
    made = routes.RouteExplanation(
        reason=routes.ROUTE_REASON_NO_CONTRACT, more_without_contract=True
    )
    market.on("ExplainRoute", routes.ExplainRouteResponse(explanation=made))
    said = market.good("explain-route", "/a.B/Call")
    assert "The whole call is refused: no contract\n" in said
    assert "No service of the interface can be reached." in said
    assert "more published services without a contract" in said
    assert market.asked("ExplainRoute", routes.ExplainRouteRequest)[0].method == "/a.B/Call"
