"""Calls of ServiceRequestService as a party makes them, over its own connection or in a session."""

from __future__ import annotations

from typing import Any

from grpc import aio

from gem.marketplace.v1 import service_request_service_pb2 as wire
from gem.marketplace.v1.service_request_service_pb2_grpc import ServiceRequestServiceStub
from gemarket.administration import new_request_id
from tests.end_to_end.whole_market import Party
from tests.service_requests import later, wish

_TIMEOUT_S = 20.0


class RequestCalls:
    """The stub of one caller; `metadata` is what its session sends."""

    def __init__(
        self,
        party: Party | None = None,
        channel: aio.Channel | None = None,
        metadata: aio.Metadata | None = None,
    ) -> None:
        assert party is not None or channel is not None, "one of them says who calls"
        own = channel or (party and party.core.channel)
        self._stub: Any = ServiceRequestServiceStub(own)  # type: ignore[arg-type]  # one is there
        self._metadata = metadata

    async def ask(self, method: str, request: Any = None, **fields: Any) -> Any:
        """Call a method, on a request for a service where one is given."""
        kind = getattr(wire, f"{method}Request")
        if "request_id" in kind.DESCRIPTOR.fields_by_name:
            fields.setdefault("request_id", new_request_id())
        if request is not None:
            fields["service_request_id"] = request.service_request_id
        call = getattr(self._stub, method)
        return await call(kind(**fields), timeout=_TIMEOUT_S, metadata=self._metadata)


async def asked(party: Party, **fields: Any) -> Any:
    """Create a request for a new service."""
    values = {"wish": wish(**fields), "valid_until_time": later()}
    return (await RequestCalls(party).ask("CreateServiceRequest", **values)).service_request
