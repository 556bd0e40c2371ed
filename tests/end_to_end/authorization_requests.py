"""The rows of the authorization matrix for requests for new services and saved searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from gem.marketplace.v1 import saved_search_service_pb2 as saved
from gem.marketplace.v1 import service_request_pb2
from gem.marketplace.v1 import service_request_service_pb2 as wire
from gemarket.administration import new_request_id
from tests.end_to_end.callers import FORBIDDEN, HIDDEN, INVALID, NOT_NOW, OK, Row, Things, row
from tests.service_requests import later, wish


def _no_time_ahead(_things: Things) -> Message:
    wished = service_request_pb2.ServiceWish(**wish())
    past: Any = {"seconds": 1}
    return wire.CreateServiceRequestRequest(
        request_id=new_request_id(), wish=wished, valid_until_time=past
    )


def _change(things: Things) -> Message:
    return wire.ChangeServiceRequestRequest(
        request_id=new_request_id(),
        service_request_id=things.service_request_id,
        wish=service_request_pb2.ServiceWish(**wish()),
        valid_until_time=later(),
    )


def _of_buyers(request: Any) -> Row:
    """Make a row of a command on the deleted request that only its author's buyers give."""
    return row(
        request,
        HIDDEN,
        contracted=NOT_NOW,
        buyer=NOT_NOW,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    )


_REQUEST_ROWS = {
    "CreateServiceRequest": row(
        _no_time_ahead, INVALID, buyer=INVALID, business=FORBIDDEN, technical=FORBIDDEN
    ),
    "ChangeServiceRequest": _of_buyers(_change),
    **{
        name: _of_buyers(
            lambda t, kind=kind: kind(
                request_id=new_request_id(), service_request_id=t.service_request_id
            )
        )
        for name, kind in {
            "CloseServiceRequest": wire.CloseServiceRequestRequest,
            "DeleteServiceRequest": wire.DeleteServiceRequestRequest,
        }.items()
    },
    "RespondToServiceRequest": row(
        lambda t: wire.RespondToServiceRequestRequest(
            request_id=new_request_id(), service_request_id=t.service_request_id, text="Text"
        ),
        HIDDEN,
        contracted=FORBIDDEN,
        seller=FORBIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    **{
        name: row(
            lambda t, kind=kind: kind(service_request_id=t.service_request_id),  # type: ignore[misc]  # a default binds
            HIDDEN,
            contracted=OK,
            business=OK,
            technical=OK,
            users=OK,
        )
        for name, kind in {
            "GetServiceRequest": wire.GetServiceRequestRequest,
            "ListServiceRequestResponses": wire.ListServiceRequestResponsesRequest,
            "ListServiceRequestEvents": wire.ListServiceRequestEventsRequest,
        }.items()
    },
    "SearchServiceRequests": row(
        lambda _: wire.SearchServiceRequestsRequest(), OK, business=OK, technical=OK, users=OK
    ),
}


def _own(kind: Any, cell: str = HIDDEN, **fields: Any) -> Row:
    """Make a row of a call on one's own searches, of which nobody has any."""

    def request(_things: Things) -> Message:
        named = dict(fields)
        if "request_id" in kind.DESCRIPTOR.fields_by_name:
            named["request_id"] = new_request_id()
        made: Message = kind(**named)
        return made

    return row(request, cell, business=cell, technical=cell, users=cell)


_SEARCH_ROWS = {
    "SaveSearch": _own(saved.SaveSearchRequest, INVALID, name="name", method="none"),
    "GetSavedSearch": _own(saved.GetSavedSearchRequest, name="none"),
    "ListSavedSearches": _own(saved.ListSavedSearchesRequest, OK),
    "RenameSavedSearch": _own(saved.RenameSavedSearchRequest, saved_search_id="none", name="n"),
    "ReplaceSavedSearch": _own(saved.ReplaceSavedSearchRequest, saved_search_id="none"),
    "DeleteSavedSearch": _own(saved.DeleteSavedSearchRequest, saved_search_id="none"),
}

#: Every rpc of the two services by its path.
REQUEST_MATRIX: Mapping[str, Row] = {
    f"/gem.marketplace.v1.{service}/{name}": each
    for service, rows in {
        "ServiceRequestService": _REQUEST_ROWS,
        "SavedSearchService": _SEARCH_ROWS,
    }.items()
    for name, each in rows.items()
}
