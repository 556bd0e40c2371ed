"""Whatever happens in a handler becomes one status, and nothing of it leaks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from interceptors.status import report_status
from tests.interceptors.support import MemoryWire, make_call, raises

INTERNAL = ErrorReason.ERROR_REASON_INTERNAL
REVOKED = ErrorReason.ERROR_REASON_CERTIFICATE_REVOKED


async def test_a_defect_becomes_internal_with_an_incident_that_the_log_explains() -> None:
    async def broken(_call: Call) -> None:
        raise ValueError("secret payload")

    call = make_call()
    with capture_logs() as lines, pytest.raises(MarketError, check=raises(INTERNAL)):
        await report_status(call, broken)
    assert call.error is not None
    assert lines[0]["incident_id"] == call.error.metadata["incident_id"]
    assert lines[0]["exception"] == "ValueError"
    assert any("broken" in place for place in lines[0]["places"])
    assert "secret" not in repr(lines) + repr(call.error) + repr(call.wire.status)  # type: ignore[attr-defined]  # a MemoryWire


async def test_a_cancellation_of_something_awaited_is_a_defect_and_not_silence() -> None:
    """Otherwise grpc takes it for the caller's and sends no status: the caller hangs."""

    async def leaky(_call: Call) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(10))
        inner.cancel()
        await inner

    call = make_call()
    with pytest.raises(MarketError, check=raises(INTERNAL)):
        await report_status(call, leaky)


async def test_a_call_that_we_cut_ends_with_the_reason_of_the_cut() -> None:
    call = make_call()
    wire = call.wire
    assert isinstance(wire, MemoryWire)

    async def cut_itself(call: Call) -> None:
        wire.task = asyncio.current_task()
        call.cut_by = MarketError(REVOKED, "revoked")
        call.wire.cut()
        await asyncio.sleep(10)

    async def run() -> Any:
        with pytest.raises(MarketError, check=raises(REVOKED)):
            await report_status(call, cut_itself)
        await asyncio.sleep(0)  # the cancellation is spent: the task goes on
        return asyncio.current_task()

    task = await asyncio.create_task(run())
    assert task.cancelling() == 0
    assert wire.status is not None
    assert wire.status.code == 16


@pytest.mark.parametrize(
    ("left_s", "reason"),
    [
        (10.0, ErrorReason.ERROR_REASON_CALL_CANCELLED),
        (-0.001, ErrorReason.ERROR_REASON_BUDGET_EXCEEDED),
    ],
)
async def test_a_callers_cancellation_goes_on_and_is_told_from_its_deadline(
    left_s: float, reason: int
) -> None:
    call = make_call(deadline_s=asyncio.get_running_loop().time() + left_s)
    running = asyncio.Event()

    async def hang(_call: Call) -> None:
        running.set()
        await asyncio.sleep(10)

    task = asyncio.create_task(report_status(call, hang))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.error is not None
    assert call.error.reason == reason


async def test_a_call_that_succeeds_has_no_error() -> None:
    async def fine(_call: Call) -> None:
        return

    call = make_call()
    await report_status(call, fine)
    assert call.error is None
