"""What every servicer of the clearing house does around an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import grpc
import structlog
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from clearinghouse.refusals import away, invalid
from clearinghouse.storage import DATABASE_ERRORS
from foundation.errors import MarketError, status_of
from gem.mesh.v1.error_reason_pb2 import ErrorReason

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
#: Longest answer of a call that is no stream.
ANSWER_S = 10.0
_log = structlog.get_logger("clearinghouse")


@asynccontextmanager
async def answering(context: Context, longest_s: float = ANSWER_S) -> AsyncIterator[None]:
    """Bound the time of an answer; turn what is raised into a status.

    Texts of the database and of defects go to the log, never to the caller.
    """
    remaining_s = context.time_remaining()
    timeout_s = longest_s if remaining_s is None else min(longest_s, remaining_s)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except MarketError as error:
        await _abort(context, error)
    except asyncpg.DataError:
        # What the schema lets pass and PostgreSQL does not: a NUL in a text.
        await _abort(context, invalid("", "a text that cannot be stored", "text"))
    except DATABASE_ERRORS as error:
        _log.warning("database away", error=type(error).__name__)
        await _abort(context, away())
    except grpc.aio.AbortError:
        raise
    except Exception:  # noqa: BLE001  # the outermost place: no text of a defect leaves it
        _log.exception("defect")
        broken = ErrorReason.ERROR_REASON_INTERNAL
        await _abort(context, MarketError(broken, "a defect of the clearing house"))


async def _abort(context: Context, error: MarketError) -> None:
    status: Any = rpc_status.to_status(status_of(error))
    await context.abort_with_status(status)
