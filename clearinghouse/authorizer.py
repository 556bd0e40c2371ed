"""From an operator's request to a decision that is stored before it is answered (1502, 1512)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import structlog

from clearinghouse.authorization import AskEvsp, Decision, Reach, Situation, answered, decide
from clearinghouse.authorization_record import (
    Shown,
    method_of,
    read_shown,
    render_decision,
    situation_of,
    valid_until,
)
from clearinghouse.evsp_question import EvspAnswer, EvspQuestions, Question
from clearinghouse.parts import Parts
from clearinghouse.refusals import invalid
from clearinghouse.storage_authorization import AuthorizationStorage, KeptAuthorization, Sought
from clearinghouse.storage_command import command_digest, reused
from foundation.identifiers import EvseId
from gem.roaming.v1.authorization_pb2 import AuthorizationDecision
from gem.roaming.v1.clearing_contract_pb2 import CustomerContract
from gem.roaming.v1.clearing_service_pb2 import AuthorizeRequest

#: Of a call's time kept for storing the decision and for its way back.
_RESERVE_S = 0.3
_log = structlog.get_logger("clearinghouse")


@dataclass(frozen=True, slots=True)
class _Case:
    """One request on its way to a decision."""

    request: AuthorizeRequest
    operator_id: str
    evse: EvseId
    shown: Shown
    digest: bytes
    #: `time.monotonic()` when an EVSP's answer comes too late.
    ask_until_s: float


class Authorizer:
    """Decides; every method may raise MarketError and what the database raises."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._questions = EvspQuestions(parts.market, parts.settings.broadcast_max)
        self._storage = AuthorizationStorage(parts.pool)

    async def authorize(
        self, request: AuthorizeRequest, operator_id: str, deadline_s: float | None
    ) -> AuthorizationDecision:
        """Give the decision, durable; a repetition gets the first one.

        `deadline_s` is `time.monotonic()` when the operator no longer waits.
        """
        case = self._case(request, operator_id, deadline_s)
        row = await self._row(case)
        if row["before_digest"] is not None:
            return _first(case, row["before_digest"], row["before_decision"])
        situation = situation_of(row, case.shown, request.decided_by)
        decision, answer = await self._decide(case, row, situation)
        kept = self._kept(case, row, decision, answer)
        if await self._storage.keep(kept):
            return AuthorizationDecision.FromString(kept.decision)
        return await self._lost(case, row, situation)

    def _case(self, request: AuthorizeRequest, operator_id: str, deadline_s: float | None) -> _Case:
        try:
            evse = EvseId.parse(request.evse_id)
        except ValueError:
            text = "an EVSE id of ISO 15118 or DIN SPEC 91286"
            raise invalid("evse_id", text, "evse_id") from None
        ask_until_s = time.monotonic() + self._parts.settings.question_s
        if deadline_s is not None:
            ask_until_s = min(ask_until_s, deadline_s - _RESERVE_S)
        shown = read_shown(request.identification, self._parts.reader, self._parts.hashing)
        digest = command_digest(self._parts.hashing, request)
        return _Case(request, operator_id, evse, shown, digest, ask_until_s)

    async def _row(self, case: _Case) -> Mapping[str, Any]:
        """Read the situation; whose an id is of which nothing is held, the marketplace says."""
        sought = Sought(
            operator_id=case.operator_id,
            operator_key=case.evse.operator_id,
            contract_key=case.shown.contract_key,
            token_hash=case.shown.token_hash,
            request_id=case.request.request_id,
            payment_hash=case.shown.payment_hash,
        )
        row = await self._storage.situation(sought)
        if row["evsp_id"] is not None or case.shown.contract_key is None:
            return row
        if row["before_digest"] is not None:
            return row
        try:
            owner = await self._parts.owners.owner(case.request.identification.contract_id)
        except (OSError, grpc.aio.AioRpcError) as error:
            _log.warning("marketplace did not answer", error=type(error).__name__)
            return row
        if owner is None:
            return row
        return await self._storage.situation(replace(sought, evsp_id=owner))

    async def _decide(
        self, case: _Case, row: Mapping[str, Any], situation: Situation
    ) -> tuple[Decision, EvspAnswer | None]:
        outcome = decide(situation)
        if isinstance(outcome, Decision):
            return outcome, None
        answer = await self._ask(case, row, outcome)
        if answer is not None:
            return answered(answer.decision.status), answer
        decision = decide(replace(situation, reach=Reach.UNREACHABLE))
        assert isinstance(decision, Decision), "nobody who cannot be reached is to be asked"
        return decision, None

    async def _ask(self, case: _Case, row: Mapping[str, Any], wanted: AskEvsp) -> EvspAnswer | None:
        held = CustomerContract.FromString(row["content"] or b"")
        question = Question(
            operator_id=case.operator_id,
            request_id=case.request.request_id,
            evse_id=str(case.evse),
            contract_id=held.contract_id or case.request.identification.contract_id,
            identification=case.request.identification,
        )
        left_s = case.ask_until_s - time.monotonic()
        if wanted.broadcast:
            return await self._questions.ask_all(row["broadcast_to"], question, left_s)
        return await self._questions.ask(row["evsp_id"], question, left_s)

    def _kept(
        self,
        case: _Case,
        row: Mapping[str, Any],
        decision: Decision,
        answer: EvspAnswer | None,
    ) -> KeptAuthorization:
        """Give what is stored: the answer, and what it rests on."""
        lasting = timedelta(seconds=self._parts.settings.authorization_s)
        until = valid_until(row, answer, lasting) if decision.allowed else row["now"]
        reference, session_id = uuid4().hex, uuid4().hex
        rendered = render_decision(
            decision,
            row,
            case.shown,
            answer,
            reference=reference,
            session_id=session_id,
            until=until,
        )
        return KeptAuthorization(
            authorization_reference=reference,
            operator_id=case.operator_id,
            request_id=case.request.request_id,
            digest=case.digest,
            session_id=session_id if decision.allowed else None,
            operator_session_id=case.request.operator_session_id,
            evse_id=str(case.evse),
            evse_key=case.evse.key,
            operator_key=case.evse.operator_id,
            identity_key=case.shown.identity_key,
            kind=case.shown.kind,
            method=method_of(case.shown.kind, decision.layer),
            status=decision.status,
            layer=decision.layer,
            contract_key=row["contract_key"],
            contract_version=row["version_number"],
            evsp_id=answer.evsp_id if answer is not None else row["evsp_id"],
            evsp_session_id=answer.evsp_session_id if answer is not None else "",
            payment_hash=case.shown.payment_hash if decision.allowed else None,
            decision=rendered.SerializeToString(),
            decided_at=row["now"],
            valid_until=until,
        )

    async def _lost(
        self, case: _Case, row: Mapping[str, Any], situation: Situation
    ) -> AuthorizationDecision:
        """Answer where another call was first: with the same request, or with the payment."""
        before = await self._storage.before(case.operator_id, case.request.request_id)
        if before is None:
            decision = decide(replace(situation, payment_valid=False))
            assert isinstance(decision, Decision), "a payment is decided about at once"
            kept = self._kept(case, row, decision, None)
            await self._storage.keep(kept)
            return AuthorizationDecision.FromString(kept.decision)
        return _first(case, before["digest"], before["decision"])


def _first(case: _Case, digest: bytes, decision: bytes) -> AuthorizationDecision:
    """Give the first answer to a repetition; REQUEST_ID_REUSED where it is none."""
    if digest != case.digest:
        raise reused()
    return AuthorizationDecision.FromString(decision)
