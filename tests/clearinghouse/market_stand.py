"""Stands where the marketplace is: what a clearing house asks it, over mutual TLS, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from foundation.certificates import read_identity
from foundation.identifiers import ContractId
from gem.charging.v1.evse_pb2 import Evse
from gem.charging.v1.evse_search_service_pb2 import GetEvseRequest, GetEvseResponse
from gem.charging.v1.evse_search_service_pb2_grpc import (
    EvseSearchServiceServicer,
    add_EvseSearchServiceServicer_to_server,
)
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1 import contract_service_pb2_grpc as core
from gem.marketplace.v1.contract_watch_pb2 import (
    WatchContractEventsRequest,
    WatchContractEventsResponse,
)
from gem.marketplace.v1.route_explanation_pb2 import (
    ExplainRouteRequest,
    ExplainRouteResponse,
    RouteReason,
)
from gem.roaming.v1 import contract_holder_service_pb2 as holder
from gem.roaming.v1 import contract_holder_service_pb2_grpc as holder_grpc
from gem.roaming.v1.authorization_pb2 import AuthorizationDecision, DecidingLayer
from gem.roaming.v1.session_notice_pb2 import SessionNotice
from tests.identities import Identity

#: What an EVSP does with a question; it may hang or raise.
Answer = Callable[[holder.AuthorizeCustomerRequest], Any]
HOLDER = "gem.roaming.v1.ContractHolderService"
CLEARING = "gem.roaming.v1.ClearingService"


class MarketStand(
    core.ContractServiceServicer,
    holder_grpc.ContractHolderServiceServicer,
    EvseSearchServiceServicer,
):
    """Routes to EVSPs that are functions, explains routes by owners, and has a feed of events."""

    def __init__(self) -> None:
        self.port = 0
        #: EVSPs by their partner id.
        self.holders: dict[str, Answer] = {}
        #: Owner by provider key.
        self.owners: dict[str, str] = {}
        self.asked: list[tuple[str, holder.AuthorizeCustomerRequest]] = []
        self.notices: list[tuple[str, SessionNotice]] = []
        self.events: list[WatchContractEventsResponse] = []
        self.explained = 0
        #: What operators have published, by EVSE id, and the ids that were asked about.
        self.evses: dict[str, Evse] = {}
        self.sought: list[str] = []
        self.certificates: set[int] = set()
        self._news = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    async def start(self, identity: Identity) -> None:
        """Serve with the marketplace's certificate, to whom shows one of its authority."""
        pair = [(identity.key_pem, identity.chain_pem)]
        credentials = grpc.ssl_server_credentials(pair, identity.root_pem, require_client_auth=True)
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        core.add_ContractServiceServicer_to_server(self, self._server)
        holder_grpc.add_ContractHolderServiceServicer_to_server(self, self._server)
        add_EvseSearchServiceServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    def tell(self, contract_id: str, requester: str, provider: str, **fields: Any) -> None:
        """Add an event to the feed: by default a roaming contract that comes into force."""
        values = {
            "state": contract_pb2.CONTRACT_STATE_ACTIVE,
            "interface_names": [HOLDER],
            **fields,
        }
        self.events.append(
            WatchContractEventsResponse(
                sequence=len(self.events) + 1,
                contract_id=contract_id,
                requester_id=requester,
                provider_id=provider,
                **values,
            )
        )
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def WatchContractEvents(
        self, request: WatchContractEventsRequest, context: Any
    ) -> AsyncIterator[WatchContractEventsResponse]:
        after = request.after_sequence
        while True:
            news = self._news
            for event in self.events[after:]:
                yield event
                after = event.sequence
            await news.wait()

    async def ExplainRoute(
        self, request: ExplainRouteRequest, context: Any
    ) -> ExplainRouteResponse:
        self.explained += 1
        self._see(context)
        owner = self.owners.get(ContractId.parse(request.key).provider_id)
        response = ExplainRouteResponse()
        for evsp_id in self.holders:
            mine = owner in {None, evsp_id}
            reason = (
                RouteReason.ROUTE_REASON_IN_FORCE
                if mine
                else RouteReason.ROUTE_REASON_KEY_OF_ANOTHER
            )
            response.explanation.candidates.add(provider_id=evsp_id, routed=mine, reason=reason)
        return response

    async def AuthorizeCustomer(
        self, request: holder.AuthorizeCustomerRequest, context: Any
    ) -> holder.AuthorizeCustomerResponse:
        evsp_id = dict(context.invocation_metadata())["gem-provider"]
        self.asked.append((evsp_id, request))
        self._see(context)
        if evsp_id not in self.holders:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no contract")
        answer: holder.AuthorizeCustomerResponse = await self.holders[evsp_id](request)
        return answer

    async def ReceiveSessionNotice(
        self, request: holder.ReceiveSessionNoticeRequest, context: Any
    ) -> holder.ReceiveSessionNoticeResponse:
        evsp_id = dict(context.invocation_metadata())["gem-provider"]
        if evsp_id not in self.holders:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        self.notices.append((evsp_id, request.notice))
        return holder.ReceiveSessionNoticeResponse()

    async def GetEvse(self, request: GetEvseRequest, context: Any) -> GetEvseResponse:
        self.sought.append(request.evse_id)
        if request.evse_id not in self.evses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "none")
        return GetEvseResponse(evse=self.evses[request.evse_id])

    def _see(self, context: Any) -> None:
        pem = context.auth_context()["x509_pem_cert"][0]
        self.certificates.add(read_identity(pem).serial)


def says(status: str, **fields: Any) -> Answer:
    """Make an EVSP that gives everybody the same answer."""

    async def answer(_request: holder.AuthorizeCustomerRequest) -> Any:
        made = AuthorizationDecision(
            status=f"AUTHORIZATION_STATUS_{status}",  # type: ignore[arg-type]  # by its name
            deciding_layer=DecidingLayer.DECIDING_LAYER_EVSP,
            authorization_reference="evsp",
            **fields,
        )
        made.decided_time.GetCurrentTime()
        return holder.AuthorizeCustomerResponse(decision=made, evsp_session_id="theirs")

    return answer


async def hangs(_request: holder.AuthorizeCustomerRequest) -> Any:
    """Never answer."""
    await asyncio.Event().wait()
