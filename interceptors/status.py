"""Interceptor: whatever happens inside, the call ends with one `MarketError` and one status.

Nothing of an unexpected exception reaches the caller or the log but its type and the places in our
code: its text may hold what a caller or provider sent.
"""

from __future__ import annotations

import asyncio
import traceback
from uuid import uuid4

import structlog

from foundation.errors import MarketError, status_of
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call, Handler

#: A caller's deadline and its cancellation look alike; this close to the deadline it was that.
_DEADLINE_SLACK_S = 0.005
_MAX_FRAMES = 30


def internal_error(call: Call, defect: BaseException) -> MarketError:
    """Log a defect under a new incident id and give the error that names only that id."""
    incident_id = uuid4().hex
    frames = traceback.extract_tb(defect.__traceback__)[-_MAX_FRAMES:]
    structlog.get_logger("interceptors.status").error(
        "defect",
        incident_id=incident_id,
        call_id=str(call.call_id),
        exception=type(defect).__qualname__,
        places=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )
    return MarketError(
        ErrorReason.ERROR_REASON_INTERNAL,
        "A defect of the marketplace; name the incident id when you report it.",
        metadata={"incident_id": incident_id},
    )


def settle_cancellation(call: Call, defect: asyncio.CancelledError) -> bool:
    """Set `call.error` after a cancellation; says whether the caller is still there to be told.

    It is there when we cut the call, and when nobody cancelled it: then a cancellation of something
    that the handler awaited came through, which grpc would leave without any status.
    """
    task = asyncio.current_task()
    assert task is not None
    if call.cut_by is not None:
        call.error = call.cut_by
        task.uncancel()
        return True
    if not task.cancelling():
        call.error = internal_error(call, defect)
        return True
    if asyncio.get_running_loop().time() >= call.deadline_s - _DEADLINE_SLACK_S:
        call.error = budget_exceeded()
    else:
        call.error = MarketError(
            ErrorReason.ERROR_REASON_CALL_CANCELLED, "The caller cancelled the call."
        )
    return False


def budget_exceeded() -> MarketError:
    """Give the error of a call whose deadline has passed."""
    return MarketError(
        ErrorReason.ERROR_REASON_BUDGET_EXCEEDED, "The call's time was used up before its end."
    )


async def report_status(call: Call, proceed: Handler) -> None:
    """Run the rest of the chain and tell the wire how it ended; raises what it told."""
    try:
        await proceed(call)
    except MarketError as error:
        call.error = error
    except asyncio.CancelledError as cancelled:
        if not settle_cancellation(call, cancelled):
            raise
    except Exception as defect:  # noqa: BLE001  # the one place that may: nothing leaks past it
        call.error = internal_error(call, defect)
    if call.error is not None:
        call.wire.finish(status_of(call.error))
        raise call.error
