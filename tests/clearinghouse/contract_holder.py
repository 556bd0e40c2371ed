"""An EVSP that takes charge detail records, and says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any

import grpc
from grpc import aio

from gem.roaming.v1 import contract_holder_service_pb2 as wire
from gem.roaming.v1 import contract_holder_service_pb2_grpc as services
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.cdr_clearing_pb2 import CdrReview, CdrVerdict, ClearedCdr
from tests.identities import Identity

Context = aio.ServicerContext[Any, Any]
#: Operator id, id, revision.
Name = tuple[str, str, int]


class Mode(Enum):
    """What an EVSP does with records."""

    APPROVE = "stores and approves"
    DECLINE = "stores and declines"
    LATER = "stores and says nothing"
    DOWN = "is away"
    SLOW = "stores, and answers when nobody waits any more"
    ACKNOWLEDGE_THEN_DIE = "stores, and its answer is lost"
    REFUSE = "refuses what it does not like"
    NONSENSE = "answers about another record"


class ContractHolder(services.ContractHolderServiceServicer):
    """Takes records any number of times and keeps each once."""

    def __init__(self, mode: Mode = Mode.APPROVE) -> None:
        self.mode = mode
        self.kept: dict[Name, ClearedCdr] = {}
        #: Ids in the order in which they were first kept.
        self.order: list[str] = []
        self.taken = 0
        self.calls = 0
        #: What REFUSE refuses.
        self.dislikes: Callable[[ClearedCdr], bool] = lambda _: True

    async def ReceiveChargeDetailRecord(
        self, request: wire.ReceiveChargeDetailRecordRequest, context: Context
    ) -> wire.ReceiveChargeDetailRecordResponse:
        (review,) = await self._take([request.record], context)
        return wire.ReceiveChargeDetailRecordResponse(review=review)

    async def ReceiveChargeDetailRecords(
        self,
        request_iterator: AsyncIterator[wire.ReceiveChargeDetailRecordsRequest],
        context: Context,
    ) -> AsyncIterator[wire.ReceiveChargeDetailRecordsResponse]:
        async for request in request_iterator:
            reviews = await self._take(request.records, context)
            yield wire.ReceiveChargeDetailRecordsResponse(
                request_id=request.request_id, reviews=reviews
            )

    async def AuthorizeCustomer(
        self, request: wire.AuthorizeCustomerRequest, context: Context
    ) -> wire.AuthorizeCustomerResponse:
        decision = AuthorizationDecision(
            status=AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED,
            deciding_layer=DecidingLayer.DECIDING_LAYER_EVSP,
            authorization_reference=request.request_id,
            contract_id=request.identification.contract_id,
        )
        decision.decided_time.GetCurrentTime()
        return wire.AuthorizeCustomerResponse(decision=decision)

    async def ReceiveSessionNotice(
        self, request: wire.ReceiveSessionNoticeRequest, context: Context
    ) -> wire.ReceiveSessionNoticeResponse:
        return wire.ReceiveSessionNoticeResponse()

    async def GetChargeDetailRecordReview(
        self, request: wire.GetChargeDetailRecordReviewRequest, context: Context
    ) -> wire.GetChargeDetailRecordReviewResponse:
        key = request.key
        kept = self.kept.get((key.operator_id, key.cdr_id, key.revision_number))
        if kept is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown")
        return wire.GetChargeDetailRecordReviewResponse(review=self._review(kept))

    async def _take(self, records: Iterable[ClearedCdr], context: Context) -> list[CdrReview]:
        self.calls += 1
        records = list(records)
        if self.mode is Mode.DOWN:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if self.mode is Mode.REFUSE and any(map(self.dislikes, records)):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
        for record in records:
            self._keep(record)
        if self.mode is Mode.ACKNOWLEDGE_THEN_DIE:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "died")
        if self.mode is Mode.SLOW:
            await asyncio.sleep(60)
        return [self._review(record) for record in records]

    def _keep(self, cleared: ClearedCdr) -> None:
        record = cleared.record
        name = (record.operator_id, record.cdr_id, cleared.revision_number)
        before = self.kept.setdefault(name, cleared)
        assert before.record == record, "one revision has one content"
        self.taken += 1
        if before is cleared:
            self.order.append(record.cdr_id)

    def _review(self, cleared: ClearedCdr) -> CdrReview:
        verdict = CdrVerdict.CDR_VERDICT_APPROVED
        if self.mode is Mode.DECLINE and not cleared.record.credited_cdr_id:
            verdict = CdrVerdict.CDR_VERDICT_DECLINED
        if self.mode is Mode.LATER:
            verdict = CdrVerdict.CDR_VERDICT_UNSPECIFIED
        return CdrReview(
            cdr_id="other" if self.mode is Mode.NONSENSE else cleared.record.cdr_id,
            operator_id=cleared.record.operator_id,
            revision_number=cleared.revision_number,
            verdict=verdict,
            text="not ours" if verdict == CdrVerdict.CDR_VERDICT_DECLINED else "",
        )


class HolderMarket(ContractHolder):
    """Stands where the router does: finds the EVSP that a call names."""

    def __init__(self, holders: dict[str, ContractHolder]) -> None:
        super().__init__()
        self.holders = holders
        self.port = 0

    async def ReceiveChargeDetailRecord(
        self, request: wire.ReceiveChargeDetailRecordRequest, context: Context
    ) -> wire.ReceiveChargeDetailRecordResponse:
        return await self._holder(context).ReceiveChargeDetailRecord(request, context)

    async def ReceiveChargeDetailRecords(
        self,
        request_iterator: AsyncIterator[wire.ReceiveChargeDetailRecordsRequest],
        context: Context,
    ) -> AsyncIterator[wire.ReceiveChargeDetailRecordsResponse]:
        holder = self._holder(context)
        async for answer in holder.ReceiveChargeDetailRecords(request_iterator, context):
            yield answer

    def _holder(self, context: Context) -> ContractHolder:
        named = dict(context.invocation_metadata() or ())["gem-provider"]
        return self.holders[str(named)]


@asynccontextmanager
async def holder_market(
    holders: dict[str, ContractHolder], identity: Identity
) -> AsyncIterator[HolderMarket]:
    """Serve EVSPs as the marketplace does, with its certificate."""
    market = HolderMarket(holders)
    server = aio.server(options=(("grpc.so_reuseport", 0),))
    services.add_ContractHolderServiceServicer_to_server(market, server)
    credentials = grpc.ssl_server_credentials(
        [(identity.key_pem, identity.chain_pem)], identity.root_pem, require_client_auth=True
    )
    market.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield market
    finally:
        await server.stop(0)
