"""Authorizations and session notices of `ClearingService` (use cases 1502, 1512)."""

from __future__ import annotations

from clearinghouse.answering import Answering, Context
from clearinghouse.authorizer import Authorizer
from clearinghouse.parts import Parts
from clearinghouse.refusals import invalid, not_found
from clearinghouse.storage import Connection
from clearinghouse.storage_session import SessionStorage
from foundation.identifiers import EvseId
from foundation.validation import require_valid
from gem.roaming.v1 import clearing_service_pb2 as messages
from gem.roaming.v1 import clearing_service_pb2_grpc as services
from gem.roaming.v1.session_notice_pb2 import SessionNotice, SessionNoticeKind
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
        operator_id = market_call().requester_id

        async def work(connection: Connection) -> messages.NotifySessionResponse:
            storage = SessionStorage(connection)
            session_id = await _noticed(storage, request.notice, operator_id)
            return messages.NotifySessionResponse(session_id=session_id)

        async with Answering(context):
            require_valid(request)
            kind = messages.NotifySessionResponse
            return await self._parts.once(request, kind, work)


async def _noticed(storage: SessionStorage, notice: SessionNotice, operator_id: str) -> str:
    """Keep a notice, unless a later one is there, and give the session's id.

    Raises:
        MarketError: NOT_FOUND without an authorization of the caller by which there may be a
            session; REQUEST_INVALID for another EVSE or session than that of the authorization.
    """
    allowed = await storage.allowed(notice.authorization_reference, operator_id)
    if allowed is None or notice.session_id not in ("", allowed["session_id"]):
        raise not_found("authorization")
    _check_evse(notice.evse_id, allowed["evse_key"])
    session_id: str = allowed["session_id"]
    key = allowed["authorization_ref"]
    ended = notice.kind == SessionNoticeKind.SESSION_NOTICE_KIND_END
    if not await storage.advance(
        key, notice.operator_session_id, notice.sequence_number, ended=ended
    ):
        if await storage.operator_session(key) != notice.operator_session_id:
            raise invalid("notice.operator_session_id", "one session per authorization", "session")
        return session_id
    kept = SessionNotice()
    kept.CopyFrom(notice)
    kept.session_id = session_id
    kept.evsp_session_id = allowed["evsp_session_id"]
    await storage.keep(key, notice.sequence_number, allowed["evsp_id"], kept.SerializeToString())
    return session_id


def _check_evse(evse_id: str, evse_key: str) -> None:
    try:
        same = EvseId.parse(evse_id).key == evse_key
    except ValueError:
        same = False
    if not same:
        raise invalid("notice.evse_id", "the EVSE of the authorization", "evse_id")
