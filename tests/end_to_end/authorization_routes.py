"""The row of the authorization matrix for the explanation of routes."""

from __future__ import annotations

from collections.abc import Mapping

from gem.marketplace.v1 import route_explanation_pb2
from tests.end_to_end.callers import HIDDEN, OK, Row, row
from tests.end_to_end.charging import SEARCH

#: The rpc by its path.
ROUTE_MATRIX: Mapping[str, Row] = {
    "/gem.marketplace.v1.ContractService/ExplainRoute": row(
        lambda t: route_explanation_pb2.ExplainRouteRequest(
            requester_id=t.contracted_id, method=SEARCH
        ),
        HIDDEN,
        contracted=OK,
        provider=OK,
        business=OK,
        technical=OK,
        users=OK,
    )
}
