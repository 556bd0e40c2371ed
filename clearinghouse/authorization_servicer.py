"""Authorizations and session notices of `ClearingService` (use cases 1502, 1512)."""

from __future__ import annotations

import asyncpg

from clearinghouse.answering import Answering, Context
from clearinghouse.authorizer import Authorizer
from clearinghouse.parts import Parts
from clearinghouse.refusals import invalid, not_found
from clearinghouse.storage import transaction
from clearinghouse.storage_command import Command, command_digest, first_result
from clearinghouse.storage_session import SessionStorage
from foundation.identifiers import EvseId
from foundation.validation import require_valid
from gem.roaming.v1 import clearing_service_pb2 as messages
from gem.roaming.v1 import clearing_service_pb2_grpc as services
from gem.roaming.v1.session_notice_pb2 import SessionNotice
from interceptors.provider_side import market_call


class AuthorizationServicer(services.ClearingServiceServicer):
    """Serves the part of ClearingService that comes before charge detail records."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._authorizer = Authorizer(parts)

    async def Authorize(  # noqa: N802  # the rpc's name
        self, request: messages.AuthorizeRequest, context: Context
    ) -> messages.AuthorizeResponse:
        """Decide whether a customer may charge at the caller's EVSE."""
        async with Answering(context, self._parts.settings.question_s * 2 + 5):
            require_valid(request)
            call = market_call()
            decision = await self._authorizer.authorize(request, call.requester_id, call.deadline)
            return messages.AuthorizeResponse(decision=decision)

    async def NotifySession(  # noqa: N802  # the rpc's name
        self, request: messages.NotifySessionRequest, context: Context
    ) -> messages.NotifySessionResponse:
        """Store what the operator tells about a session; its EVSP hears of it."""
        async with Answering(context):
            require_valid(request)
            return await self._told(request, market_call().requester_id)

    async def _told(
        self, request: messages.NotifySessionRequest, operator_id: str
    ) -> messages.NotifySessionResponse:
        """Keep a notice, unless a later one is there, and give the session's id.

        Raises:
            MarketError: NOT_FOUND without an authorization of the caller by which there may be a
                session; REQUEST_INVALID for another EVSE or session than that of the
                authorization; REQUEST_ID_REUSED.
        """
        notice, pool = request.notice, self._parts.pool
        allowed = await SessionStorage(pool).allowed(notice.authorization_reference, operator_id)
        if allowed is None or notice.session_id not in ("", allowed["session_id"]):
            raise not_found("authorization")
        _check_evse(notice.evse_id, allowed["evse_key"])
        response = messages.NotifySessionResponse(session_id=allowed["session_id"])
        digest = command_digest(self._parts.hashing, request)
        command = Command(operator_id, request.request_id, digest, response.SerializeToString())
        async with transaction(pool) as connection:
            storage = SessionStorage(connection)
            is_new, goes_on = await storage.tell(command, allowed, _kept(notice, allowed))
            if not is_new:
                first = await first_result(connection, operator_id, request.request_id, digest)
                return messages.NotifySessionResponse.FromString(first)
            named = notice.operator_session_id
            if not goes_on and await storage.operator_session(allowed) != named:
                text = "one session per authorization"
                raise invalid("notice.operator_session_id", text, "session")
        return response


def _kept(notice: SessionNotice, allowed: asyncpg.Record) -> SessionNotice:
    """Give a notice as its EVSP hears it."""
    kept = SessionNotice()
    kept.CopyFrom(notice)
    kept.session_id = allowed["session_id"]
    kept.evsp_session_id = allowed["evsp_session_id"]
    return kept


def _check_evse(evse_id: str, evse_key: str) -> None:
    try:
        same = EvseId.parse(evse_id).key == evse_key
    except ValueError:
        same = False
    if not same:
        raise invalid("notice.evse_id", "the EVSE of the authorization", "evse_id")
