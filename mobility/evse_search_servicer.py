"""`gem.charging.v1.EvseSearchService` over the EVSEs of one operator (use case 1527)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from foundation.errors import FieldViolation, MarketError, status_of
from foundation.identifiers import EvseId
from foundation.validation import require_valid
from gem.charging.v1 import evse_search_service_pb2 as messages
from gem.charging.v1 import evse_search_service_pb2_grpc as services
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from mobility.area import AreaTooLargeError, distance_of
from mobility.evse_row import fill
from mobility.operator_name import name_key
from mobility.search_query import MOST_EVSES, search_query
from mobility.storage import COMMAND_TIMEOUT_S, DATABASE_ERRORS, EvseStorage

_Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger("mobility")


class EvseSearchServicer(services.EvseSearchServiceServicer):
    """Answers for the one operator that has this name or this partner id.

    The operator is looked up when it is first needed: a provider starts also while its database is
    away, and then answers UNAVAILABLE.
    """

    def __init__(
        self, storage: EvseStorage, operator_name: str | None, partner_id: str | None
    ) -> None:
        self._storage = storage
        self._name_key = None if operator_name is None else name_key(operator_name)
        self._partner_id = partner_id
        self._operator_ref: int | None = None

    async def SearchEvses(  # noqa: N802  # the rpc's name
        self, request: messages.SearchEvsesRequest, context: _Context
    ) -> messages.SearchEvsesResponse:
        """Find EVSEs; none is an answer too."""
        async with _answering(context):
            require_valid(request)
            operator_ref = await self._operator()
            response = messages.SearchEvsesResponse()
            if operator_ref is not None:
                text, arguments = _query(operator_ref, request)
                rows = await self._storage.search(text, arguments)
                _render(response, rows, request.limit or MOST_EVSES)
        return response

    async def GetEvse(  # noqa: N802  # the rpc's name
        self, request: messages.GetEvseRequest, context: _Context
    ) -> messages.GetEvseResponse:
        """Give one EVSE by its id in any spelling."""
        async with _answering(context):
            require_valid(request)
            key = _key(request.evse_id)
            operator_ref = await self._operator()
            row = None
            if operator_ref is not None:
                row = await self._storage.get(operator_ref, key)
            if row is None:
                raise MarketError(
                    ErrorReason.ERROR_REASON_NOT_FOUND, "this operator has no such EVSE"
                )
            response = messages.GetEvseResponse()
            fill(response.evse, row[0], row[1], row[2], 0)
        return response

    async def _operator(self) -> int | None:
        """Give the operator's number; None, asked again each time, while nothing is imported."""
        if self._operator_ref is None:
            operator = await self._storage.operator(self._name_key, self._partner_id)
            self._operator_ref = None if operator is None else operator.operator_ref
        return self._operator_ref


def _query(operator_ref: int, request: messages.SearchEvsesRequest) -> tuple[str, list[Any]]:
    """Give the request's query, or refuse what no rule of the schema could."""
    try:
        return search_query(operator_ref, request)
    except AreaTooLargeError:
        rule = FieldViolation("corridor.points", "the line is longer than 10,000 km", "length")
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "the request breaks rules of the interface",
            violations=(rule,),
        ) from None


def _key(evse_id: str) -> str:
    """Give an EVSE id in any spelling as the database compares it."""
    try:
        return EvseId.parse(evse_id).key
    except ValueError:
        rule = FieldViolation("evse_id", "an EVSE id of ISO 15118 or DIN SPEC 91286", "evse_id")
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "the request breaks rules of the interface",
            violations=(rule,),
        ) from None


def _render(response: messages.SearchEvsesResponse, rows: list[Any], limit: int) -> None:
    """Put the rows, in their order, into the response; one row too many says it is truncated."""
    response.truncated = len(rows) > limit
    evses = response.evses
    for message, status, status_time, chord in rows[:limit]:
        fill(evses.add(), message, status, status_time, distance_of(chord))


@asynccontextmanager
async def _answering(context: _Context) -> AsyncIterator[None]:
    """Bound the time of an answer; turn what is raised into a status.

    Texts of the database and of defects go to the log, never to the caller.
    """
    remaining_s = context.time_remaining()
    timeout_s = COMMAND_TIMEOUT_S if remaining_s is None else min(COMMAND_TIMEOUT_S, remaining_s)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except MarketError as error:
        await _abort(context, error)
    except DATABASE_ERRORS as error:
        _log.warning("database away", error=type(error).__name__)
        away = ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
        await _abort(context, MarketError(away, "the operator's database cannot be reached"))
    except Exception:  # noqa: BLE001  # the outermost place: no text of a defect leaves it
        _log.exception("defect")
        broken = ErrorReason.ERROR_REASON_INTERNAL
        await _abort(context, MarketError(broken, "a defect of the provider"))


async def _abort(context: _Context, error: MarketError) -> None:
    status: Any = rpc_status.to_status(status_of(error))
    await context.abort_with_status(status)
