"""Charge detail records come in from operators (use case 1511, feature 984)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from clearinghouse.answering import Answering, Context
from clearinghouse.cdr_commands import revise_record
from clearinghouse.cdr_parts import CdrParts
from clearinghouse.cdr_rendering import render_receipt
from clearinghouse.storage import transaction
from foundation.validation import require_valid
from gem.roaming.v1 import clearing_service_pb2 as messages
from gem.roaming.v1 import clearing_service_pb2_grpc as services
from interceptors.provider_side import market_call

#: Longest wait for one batch of a stream to be durable.
_BATCH_S = 15.0


class CdrIntakeServicer(services.ClearingServiceServicer):
    """Serves the part of ClearingService that takes records."""

    def __init__(self, parts: CdrParts) -> None:
        self._cdrs = parts

    async def SubmitChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.SubmitChargeDetailRecordRequest, context: Context
    ) -> messages.SubmitChargeDetailRecordResponse:
        """Store one record, then acknowledge it."""
        async with Answering(context):
            require_valid(request)
            partner_id = market_call().requester_id
            (receipt,) = await self._cdrs.intake.submit(partner_id, [request.record])
        return messages.SubmitChargeDetailRecordResponse(receipt=render_receipt(receipt))

    async def SubmitChargeDetailRecords(  # noqa: N802  # the rpc's name
        self,
        request_iterator: AsyncIterator[messages.SubmitChargeDetailRecordsRequest],
        context: Context,
    ) -> AsyncIterator[messages.SubmitChargeDetailRecordsResponse]:
        """Store records message by message; each message is one transaction, then acknowledged."""
        partner_id = market_call().requester_id
        async for request in request_iterator:
            async with Answering(context, _BATCH_S):
                require_valid(request)
                receipts = await self._cdrs.intake.submit(partner_id, request.records)
            yield messages.SubmitChargeDetailRecordsResponse(
                request_id=request.request_id, receipts=map(render_receipt, receipts)
            )

    async def ReviseChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.ReviseChargeDetailRecordRequest, context: Context
    ) -> messages.ReviseChargeDetailRecordResponse:
        """Take a returned or declined record again, corrected."""
        async with Answering(context):
            require_valid(request)
            async with transaction(self._cdrs.pool) as connection:
                receipt = await revise_record(
                    connection,
                    self._cdrs.hashing,
                    market_call().requester_id,
                    request.record,
                    request.revision_number,
                )
            self._cdrs.checking.wake()
        return messages.ReviseChargeDetailRecordResponse(receipt=render_receipt(receipt))
