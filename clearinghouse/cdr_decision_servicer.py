"""EVSPs approve, decline and dispute records; operators give them up or credit them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from clearinghouse.answering import Answering, Context
from clearinghouse.cdr_commands import (
    answer_dispute,
    credit_record,
    dispute_record,
    key_of,
    of_operator,
    reject_record,
    review_record,
)
from clearinghouse.cdr_parts import CdrParts
from clearinghouse.cdr_rendering import render, state_of
from clearinghouse.instants import timestamp
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import CdrRow
from clearinghouse.storage_cdr_write import DisputeRow
from clearinghouse.storage_command import once
from foundation.validation import require_valid
from gem.roaming.v1 import clearing_service_pb2 as messages
from gem.roaming.v1 import clearing_service_pb2_grpc as services
from gem.roaming.v1.cdr_clearing_pb2 import CdrKey
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.dispute_pb2 import Dispute, DisputeState
from interceptors.provider_side import market_call

R = TypeVar("R", bound=Message)


class CdrDecisionServicer(services.ClearingServiceServicer):
    """Serves the part of ClearingService that decides about records."""

    def __init__(self, parts: CdrParts) -> None:
        self._cdrs = parts

    async def ReviewChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.ReviewChargeDetailRecordRequest, context: Context
    ) -> messages.ReviewChargeDetailRecordResponse:
        """Take an EVSP's verdict."""
        partner_id = market_call().requester_id

        async def work(connection: Connection) -> messages.ReviewChargeDetailRecordResponse:
            now = self._cdrs.clock()
            state = await review_record(connection, partner_id, request.review, now)
            return messages.ReviewChargeDetailRecordResponse(state=state_of(state.value))

        return await self._once(request, context, messages.ReviewChargeDetailRecordResponse, work)

    async def RejectChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.RejectChargeDetailRecordRequest, context: Context
    ) -> messages.RejectChargeDetailRecordResponse:
        """Let an operator give a declined record up."""
        partner_id, named = market_call().requester_id, request.key

        async def work(connection: Connection) -> messages.RejectChargeDetailRecordResponse:
            key = key_of(named.operator_id, named.cdr_id)
            revision = named.revision_number
            state = await reject_record(connection, partner_id, key, revision, request.text)
            return messages.RejectChargeDetailRecordResponse(state=state_of(state.value))

        return await self._once(request, context, messages.RejectChargeDetailRecordResponse, work)

    async def CreditChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.CreditChargeDetailRecordRequest, context: Context
    ) -> messages.CreditChargeDetailRecordResponse:
        """Let an operator give an approved record back in full."""
        partner_id, named = market_call().requester_id, request.key

        async def work(connection: Connection) -> messages.CreditChargeDetailRecordResponse:
            key = key_of(named.operator_id, named.cdr_id)
            row = await of_operator(connection, partner_id, key)
            made = await credit_record(
                connection,
                self._cdrs.hashing,
                partner_id,
                row,
                request.credit_cdr_id,
                request.text,
            )
            return messages.CreditChargeDetailRecordResponse(credit=render(made, partner_id))

        kind = messages.CreditChargeDetailRecordResponse
        response = await self._once(request, context, kind, work)
        self._cdrs.delivering.wake()
        return response

    async def DisputeChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.DisputeChargeDetailRecordRequest, context: Context
    ) -> messages.DisputeChargeDetailRecordResponse:
        """Let an EVSP dispute an approved record."""
        partner_id, named = market_call().requester_id, request.key

        async def work(connection: Connection) -> messages.DisputeChargeDetailRecordResponse:
            key = key_of(named.operator_id, named.cdr_id)
            opened, row = await dispute_record(connection, partner_id, key, request.claim_text)
            dispute = render_dispute(opened, row)
            return messages.DisputeChargeDetailRecordResponse(dispute=dispute)

        return await self._once(request, context, messages.DisputeChargeDetailRecordResponse, work)

    async def AnswerDispute(  # noqa: N802  # the rpc's name
        self, request: messages.AnswerDisputeRequest, context: Context
    ) -> messages.AnswerDisputeResponse:
        """Let the operator credit or refuse, or the EVSP withdraw."""
        partner_id = market_call().requester_id

        async def work(connection: Connection) -> messages.AnswerDisputeResponse:
            closed, row = await answer_dispute(
                connection,
                self._cdrs.hashing,
                partner_id,
                request.dispute_id,
                request.answer,
                request.credit_cdr_id,
                request.answer_text,
            )
            return messages.AnswerDisputeResponse(dispute=render_dispute(closed, row))

        response = await self._once(request, context, messages.AnswerDisputeResponse, work)
        self._cdrs.delivering.wake()
        return response

    async def _once(
        self,
        request: Any,
        context: Context,
        kind: type[R],
        work: Callable[[Connection], Awaitable[R]],
    ) -> R:
        """Do the caller's command once; a repetition has its first result."""
        async with Answering(context):
            require_valid(request)
            requester_id = market_call().requester_id
            pool, hashing = self._cdrs.pool, self._cdrs.hashing
            return await once(pool, hashing, requester_id, request, kind, work)


def render_dispute(dispute: DisputeRow, row: CdrRow) -> Dispute:
    """Give a dispute as its parties see it."""
    record = ChargeDetailRecord.FromString(row.content)
    message = Dispute(
        dispute_id=str(dispute.dispute_id),
        key=CdrKey(
            operator_id=record.operator_id,
            cdr_id=record.cdr_id,
            revision_number=dispute.revision_number,
        ),
        state=DisputeState.Value(f"DISPUTE_STATE_{dispute.state}"),
        claim_text=dispute.claim_text,
        answer_text=dispute.answer_text,
        opened_time=timestamp(dispute.opened_at),
    )
    if dispute.closed_at is not None:
        message.closed_time.CopyFrom(timestamp(dispute.closed_at))
    return message
