"""The question to the EVSP whether its customer may charge, through the router, within a budget."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import structlog

from clearinghouse.authorization import answered
from clearinghouse.market_client import MarketClient, to_provider
from gem.roaming.v1.authorization_pb2 import AuthorizationDecision, AuthorizationStatus
from gem.roaming.v1.contract_holder_service_pb2 import AuthorizeCustomerRequest
from gem.roaming.v1.contract_holder_service_pb2_grpc import ContractHolderServiceStub
from gem.roaming.v1.identification_pb2 import Identification

_UNKNOWN = AuthorizationStatus.AUTHORIZATION_STATUS_UNKNOWN
_ALLOWED = AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
_log = structlog.get_logger("clearinghouse")


@dataclass(frozen=True, slots=True)
class Question:
    """What an EVSP is asked."""

    operator_id: str
    #: The operator's request; its repetition is a repetition of the question too.
    request_id: str
    evse_id: str
    #: Empty where only the token is known.
    contract_id: str
    identification: Identification


@dataclass(frozen=True, slots=True)
class EvspAnswer:
    """What an EVSP said."""

    evsp_id: str
    decision: AuthorizationDecision
    evsp_session_id: str

    @property
    def rank(self) -> int:
        """Order of answers of several: who lets charge, who refuses, who knows nobody."""
        status = answered(self.decision.status).status
        return 0 if status == _ALLOWED else 2 if status == _UNKNOWN else 1


class EvspQuestions:
    """Asks one EVSP, or those that agreed to be asked about anybody."""

    def __init__(self, market: MarketClient, broadcast_max: int) -> None:
        self._market = market
        self._broadcast_max = broadcast_max

    async def ask(self, evsp_id: str, question: Question, timeout_s: float) -> EvspAnswer | None:
        """Give the EVSP's answer; None where it gave none in time."""
        request = AuthorizeCustomerRequest(
            request_id=_request_id(question, evsp_id),
            evse_id=question.evse_id,
            contract_id=question.contract_id,
            identification=question.identification,
            operator_partner_id=question.operator_id,
        )
        if timeout_s <= 0:
            return None
        try:
            stub = ContractHolderServiceStub(self._market.channel())
            metadata = to_provider(evsp_id)
            answer = await stub.AuthorizeCustomer(request, timeout=timeout_s, metadata=metadata)
        except (OSError, grpc.aio.AioRpcError) as error:
            _log.warning("EVSP did not answer", evsp=evsp_id, error=type(error).__name__)
            return None
        return EvspAnswer(evsp_id, answer.decision, answer.evsp_session_id)

    async def ask_all(
        self, evsp_ids: Sequence[str], question: Question, timeout_s: float
    ) -> EvspAnswer | None:
        """Ask several at once; the first that lets charge ends the question for all.

        Else the most telling refusal is given, of equal ones that of the first EVSP by id.
        """
        asked = [
            asyncio.create_task(self.ask(evsp_id, question, timeout_s))
            for evsp_id in sorted(evsp_ids)[: self._broadcast_max]
        ]
        try:
            for done in asyncio.as_completed(asked):
                answer = await done
                if answer is not None and answer.rank == 0:
                    return answer
            answers = [answer for task in asked if (answer := task.result()) is not None]
            return min(answers, key=lambda each: each.rank, default=None)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


def _request_id(question: Question, evsp_id: str) -> str:
    """Give an id that is the same for a repetition and another for anything else."""
    parts = (question.operator_id, question.request_id, evsp_id)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
