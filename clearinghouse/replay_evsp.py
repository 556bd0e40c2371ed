"""An EVSP of a replay as a provider: it knows its customers, and approves their records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc import StatusCode, aio

from clearinghouse.replay_cast import Cast, ReplayParty
from gem.roaming.v1 import contract_holder_service_pb2 as wire
from gem.roaming.v1 import contract_holder_service_pb2_grpc as services
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.cdr_clearing_pb2 import CdrReview, CdrVerdict, ClearedCdr

Context = aio.ServicerContext[Any, Any]


class ReplayEvsp(services.ContractHolderServiceServicer):
    """Answers for one EVSP of the cast while its replay runs."""

    def __init__(self, cast: Cast, evsp: ReplayParty) -> None:
        self._customers = {each.contract_id for each in cast.contracts(evsp)}
        #: Names of the records that were approved: operator, id, revision.
        self.approved: set[tuple[str, str, int]] = set()

    async def AuthorizeCustomer(  # noqa: N802  # the rpc's name
        self, request: wire.AuthorizeCustomerRequest, context: Context
    ) -> wire.AuthorizeCustomerResponse:
        """Let its own customers charge."""
        known = request.contract_id in self._customers
        decision = AuthorizationDecision(
            status=AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
            if known
            else AuthorizationStatus.AUTHORIZATION_STATUS_UNKNOWN,
            deciding_layer=DecidingLayer.DECIDING_LAYER_EVSP,
            authorization_reference=request.request_id,
            contract_id=request.contract_id if known else "",
        )
        decision.decided_time.GetCurrentTime()
        return wire.AuthorizeCustomerResponse(decision=decision)

    async def ReceiveSessionNotice(  # noqa: N802  # the rpc's name
        self, request: wire.ReceiveSessionNoticeRequest, context: Context
    ) -> wire.ReceiveSessionNoticeResponse:
        """Take a notice; nothing follows from it."""
        return wire.ReceiveSessionNoticeResponse()

    async def ReceiveChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: wire.ReceiveChargeDetailRecordRequest, context: Context
    ) -> wire.ReceiveChargeDetailRecordResponse:
        """Approve one record."""
        (review,) = self._reviews([request.record])
        return wire.ReceiveChargeDetailRecordResponse(review=review)

    async def ReceiveChargeDetailRecords(  # noqa: N802  # the rpc's name
        self, request_iterator: AsyncIterator[wire.ReceiveChargeDetailRecordsRequest], context: Any
    ) -> AsyncIterator[wire.ReceiveChargeDetailRecordsResponse]:
        """Approve message by message."""
        async for request in request_iterator:
            yield wire.ReceiveChargeDetailRecordsResponse(
                request_id=request.request_id, reviews=self._reviews(request.records)
            )

    async def GetChargeDetailRecordReview(  # noqa: N802  # the rpc's name
        self, request: wire.GetChargeDetailRecordReviewRequest, context: Context
    ) -> wire.GetChargeDetailRecordReviewResponse:
        """Say again what was said about a record."""
        key = request.key
        if (key.operator_id, key.cdr_id, key.revision_number) not in self.approved:
            await context.abort(StatusCode.NOT_FOUND, "there is no such record")
        review = _approval(key.operator_id, key.cdr_id, key.revision_number)
        return wire.GetChargeDetailRecordReviewResponse(review=review)

    def _reviews(self, records: Iterable[ClearedCdr]) -> list[CdrReview]:
        names = [
            (each.record.operator_id, each.record.cdr_id, each.revision_number) for each in records
        ]
        self.approved.update(names)
        return [_approval(*name) for name in names]


def _approval(operator_id: str, cdr_id: str, revision_number: int) -> CdrReview:
    return CdrReview(
        operator_id=operator_id,
        cdr_id=cdr_id,
        revision_number=revision_number,
        verdict=CdrVerdict.CDR_VERDICT_APPROVED,
    )
