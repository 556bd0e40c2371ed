"""The rows of the authorization matrix for what services are from registration to deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from gem.marketplace.v1 import service_lifecycle_pb2 as lifecycle
from gem.marketplace.v1 import service_search_pb2 as search
from gem.marketplace.v1 import service_version_pb2 as versions
from gemarket.administration import new_request_id
from tests.end_to_end.callers import FORBIDDEN, HIDDEN, INVALID, NOT_NOW, OK, Row, Things, row


def _own(kind: Callable[..., Message], provider: str, technical: str, **fields: Any) -> Row:
    """Make a row of a command of a seller on a published service of `provider`."""

    def request(things: Things) -> Message:
        return kind(request_id=new_request_id(), service_id=things.service_id, **fields)

    return row(
        request,
        HIDDEN,
        provider=provider,
        seller=HIDDEN,
        business=FORBIDDEN,
        technical=technical,
    )


def _seen(kind: Callable[..., Message], **fields: Any) -> Row:
    """Make a row of a query for everybody."""
    return row(lambda _: kind(**fields), OK, business=OK, technical=OK, users=OK)


_ROWS = {
    "GetRegistrationContract": _seen(lifecycle.GetRegistrationContractRequest),
    "PublishRegistrationContract": row(
        lambda _: lifecycle.PublishRegistrationContractRequest(request_id=new_request_id()),
        FORBIDDEN,
        business=INVALID,
        technical=FORBIDDEN,
    ),
    "RegisterServiceImage": row(
        lambda _: lifecycle.RegisterServiceImageRequest(
            request_id=new_request_id(), reference="registry.example/a:latest"
        ),
        INVALID,
        seller=INVALID,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "ListServiceImages": row(
        lambda t: lifecycle.ListServiceImagesRequest(provider_id=t.provider_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
        users=HIDDEN,
    ),
    "ChangeServiceDescription": _own(
        lifecycle.ChangeServiceDescriptionRequest, OK, FORBIDDEN, title="A service"
    ),
    "RefusePublication": row(
        lambda t: lifecycle.RefusePublicationRequest(
            request_id=new_request_id(), service_id=t.service_id, reason="Not asked for"
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=NOT_NOW,
    ),
    "DisableService": _own(lifecycle.DisableServiceRequest, NOT_NOW, NOT_NOW),
    "EnableService": _own(lifecycle.EnableServiceRequest, NOT_NOW, NOT_NOW),
    "DeleteService": _own(lifecycle.DeleteServiceRequest, NOT_NOW, NOT_NOW),
    "PrepareServiceVersion": _own(
        # The version that is published already.
        versions.PrepareServiceVersionRequest,
        NOT_NOW,
        FORBIDDEN,
        service_version="1.0.0",
    ),
    "PublishServiceVersion": _own(versions.PublishServiceVersionRequest, NOT_NOW, NOT_NOW),
    "WithdrawServiceVersion": _own(versions.WithdrawServiceVersionRequest, NOT_NOW, FORBIDDEN),
    "ListServiceVersions": row(
        lambda t: versions.ListServiceVersionsRequest(service_id=t.hidden_service_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
        users=HIDDEN,
    ),
    "ListServiceEvents": row(
        lambda t: lifecycle.ListServiceEventsRequest(service_id=t.service_id),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
        users=HIDDEN,
    ),
    "SetRelatedServices": _own(search.SetRelatedServicesRequest, OK, FORBIDDEN),
    "SetCrossSaleOptOut": row(
        lambda _: search.SetCrossSaleOptOutRequest(request_id=new_request_id()),
        OK,
        buyer=OK,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    ),
    "GetCrossSaleOptOut": row(
        lambda _: search.GetCrossSaleOptOutRequest(),
        OK,
        business=FORBIDDEN,
        technical=FORBIDDEN,
        users=OK,
    ),
    "SearchServices": _seen(search.SearchServicesRequest, text="service"),
}

#: Every further rpc of ServiceRegistryService by its path.
SERVICE_MATRIX: Mapping[str, Row] = {
    f"/gem.marketplace.v1.ServiceRegistryService/{name}": each for name, each in _ROWS.items()
}
