"""Around every call of the clearing house: its time, its caller, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeAlias

import asyncpg
import grpc
import structlog
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from clearinghouse.storage_pool import COMMAND_TIMEOUT_S, DATABASE_ERRORS
from foundation.errors import FieldViolation, MarketError, status_of
from gem.mesh.v1.error_reason_pb2 import ErrorReason

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_RETRY_AFTER_S = 1.0
#: Data exceptions of SQL: what the schema lets pass and PostgreSQL does not, a NUL in a text.
_DATA_CLASS = "22"
_log = structlog.get_logger("clearinghouse")


@asynccontextmanager
async def answering(context: Context, limit_s: float = COMMAND_TIMEOUT_S) -> AsyncIterator[None]:
    """Bound the time of an answer; turn what is raised into a status.

    Texts of the database and of defects go to the log, never to the caller.
    """
    remaining_s = context.time_remaining()
    timeout_s = limit_s if remaining_s is None else min(limit_s, remaining_s)
    async with refusing(context), asyncio.timeout(timeout_s):
        yield


@asynccontextmanager
async def refusing(context: Context) -> AsyncIterator[None]:
    """Turn what is raised into a status; for streams, which the caller's patience bounds."""
    try:
        yield
    except MarketError as error:
        await _abort(context, error)
    except DATABASE_ERRORS as error:
        if isinstance(error, asyncpg.PostgresError) and _is_data(error):
            await _abort(context, invalid("", "a text that cannot be stored, such as a NUL"))
        _log.warning("database away", error=type(error).__name__)
        away = ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
        text = "the clearing house's database cannot be reached: repeat the call"
        await _abort(context, MarketError(away, text, retry_after_s=_RETRY_AFTER_S))
    except Exception:  # noqa: BLE001  # the outermost place: no text of a defect leaves it
        _log.exception("defect")
        broken = ErrorReason.ERROR_REASON_INTERNAL
        await _abort(context, MarketError(broken, "a defect of the clearing house"))


def invalid(field: str, text: str) -> MarketError:
    """Give the error for a request that breaks a rule which no schema can state."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "the request breaks rules of the interface",
        violations=(FieldViolation(field, text, "clearinghouse"),),
    )


def not_found(text: str) -> MarketError:
    """Give the error for what does not exist, or is not the caller's to see."""
    return MarketError(ErrorReason.ERROR_REASON_NOT_FOUND, text)


def _is_data(error: asyncpg.PostgresError) -> bool:
    return (getattr(error, "sqlstate", None) or "")[:2] == _DATA_CLASS


async def _abort(context: Context, error: MarketError) -> NoReturn:
    status: Any = rpc_status.to_status(status_of(error))
    await context.abort_with_status(status)
    raise AssertionError("an abort raises")
