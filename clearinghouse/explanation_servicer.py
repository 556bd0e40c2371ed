"""What the answer to an authorization would have been at an instant of the past."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from clearinghouse.answering import Answering, Context
from clearinghouse.authorization import Decision, Reach, decide
from clearinghouse.authorization_record import Shown, read_shown, render_decision, situation_of
from clearinghouse.contract_rpcs import ContractRpcs
from clearinghouse.instants import instant_of
from clearinghouse.refusals import invalid, not_found
from clearinghouse.storage_authorization import AuthorizationStorage, Sought
from foundation.identifiers import EvseId
from foundation.validation import require_valid
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from gem.roaming.v1.authorization_pb2 import DecidingLayer
from interceptors.provider_side import market_call

#: Stands where an answer that was given has its reference.
_NO_REFERENCE = "explanation"
_NOT_DECIDED = DecidingLayer.DECIDING_LAYER_UNSPECIFIED


class ExplanationServicer(ContractRpcs):
    """Serves the part of ClearingContractService that explains authorizations."""

    async def ExplainAuthorization(  # noqa: N802  # the rpc's name
        self, request: messages.ExplainAuthorizationRequest, context: Context
    ) -> messages.ExplainAuthorizationResponse:
        """Say what the lists of an instant made of a customer at an EVSE."""
        async with Answering(context):
            require_valid(request)
            shown = read_shown(request.identification, self._parts.reader, self._parts.hashing)
            row = await self._row(request, shown)
            return _explained(request, shown, row)

    async def _row(
        self, request: messages.ExplainAuthorizationRequest, shown: Shown
    ) -> Mapping[str, Any]:
        """Give the situation of the instant to an EVSP whose customer it is, or to the operator."""
        at = instant_of(request.at_time, "at_time")
        if at > datetime.now(UTC):
            raise invalid("at_time", "must not be in the future", "past")
        try:
            evse = EvseId.parse(request.evse_id)
        except ValueError:
            raise invalid("evse_id", "an EVSE id of ISO 15118", "evse_id") from None
        storage = AuthorizationStorage(self._parts.pool)
        caller_id = market_call().requester_id
        keys = [key for key in (shown.contract_key, _hex(shown.token_hash)) if key]
        operator_id: str | None = caller_id
        was_there = await storage.was_there(evse.key, keys, caller_id)
        if not was_there:
            operator_id = await storage.operator_of(caller_id, evse.operator_id, evse.key, at)
        if operator_id is None:
            raise not_found("customer")
        sought = Sought(
            operator_id=operator_id,
            operator_key=evse.operator_id,
            contract_key=shown.contract_key,
            token_hash=shown.token_hash,
            at=at,
            payment_hash=shown.payment_hash,
            only_evsp_id=None if was_there else caller_id,
        )
        row = await storage.situation(sought)
        if not was_there and row["evsp_id"] != caller_id:
            raise not_found("customer")
        return row


def _explained(
    request: messages.ExplainAuthorizationRequest, shown: Shown, row: Mapping[str, Any]
) -> messages.ExplainAuthorizationResponse:
    reach = Reach.REACHABLE if request.evsp_reachable else Reach.UNREACHABLE
    outcome = decide(situation_of(row, shown, _NOT_DECIDED, reach))
    response = messages.ExplainAuthorizationResponse(
        version_number=row["version_number"] or 0,
        evsp_asked=not isinstance(outcome, Decision),
    )
    if isinstance(outcome, Decision):
        decision = render_decision(
            outcome,
            row,
            shown,
            None,
            reference=_NO_REFERENCE,
            session_id="",
            until=row["now"],
        )
        response.decision.CopyFrom(decision)
    return response


def _hex(token_hash: bytes | None) -> str:
    return token_hash.hex() if token_hash is not None else ""
