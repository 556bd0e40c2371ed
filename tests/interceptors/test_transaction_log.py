"""Which failed calls are recorded, and that the log's trouble is not the caller's."""

from __future__ import annotations

import asyncio

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from interceptors.transaction_log import FailedCallRecorder
from tests.interceptors.support import ECHO, MemoryLog, caller, make_call, raises

NO_CONTRACT = ErrorReason.ERROR_REASON_NO_CONTRACT


async def refuse(_call: Call) -> None:
    raise MarketError(NO_CONTRACT, "no contract")


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.mark.usecase(1241)
async def test_a_call_of_a_known_caller_that_fails_is_recorded(log: MemoryLog) -> None:
    call = make_call(caller=caller("acme"), request_bytes=7)
    with pytest.raises(MarketError, check=raises(NO_CONTRACT)):
        await FailedCallRecorder(log)(call, refuse)
    (failed,) = log.failed
    assert (failed.call_id, failed.requester_id, failed.method) == (call.call_id, "acme", ECHO)
    assert (failed.reason, failed.code, failed.request_bytes) == (NO_CONTRACT, 7, 7)
    assert 0 <= failed.duration_us < 10_000_000


async def test_a_stranger_is_not_recorded(log: MemoryLog) -> None:
    with pytest.raises(MarketError):
        await FailedCallRecorder(log)(make_call(caller=None), refuse)
    assert log.failed == []


async def test_a_call_that_reached_providers_is_left_to_the_transaction_log(
    log: MemoryLog,
) -> None:
    async def ask(call: Call) -> None:
        call.providers_asked = 2
        await refuse(call)

    with pytest.raises(MarketError):
        await FailedCallRecorder(log)(make_call(caller=caller()), ask)
    assert log.failed == []


async def test_a_defect_a_cancellation_and_a_cut_are_recorded_each_as_what_it_is(
    log: MemoryLog,
) -> None:
    async def broken(_call: Call) -> None:
        raise ZeroDivisionError

    async def gone(_call: Call) -> None:
        raise asyncio.CancelledError

    async def cut(call: Call) -> None:
        call.cut_by = MarketError(ErrorReason.ERROR_REASON_BUDGET_EXCEEDED, "late")
        raise asyncio.CancelledError

    for handler, kind in (
        (broken, ZeroDivisionError),
        (gone, asyncio.CancelledError),
        (cut, asyncio.CancelledError),
    ):
        with pytest.raises(kind):
            await FailedCallRecorder(log)(make_call(caller=caller()), handler)
    assert [failed.reason for failed in log.failed] == [
        ErrorReason.ERROR_REASON_INTERNAL,
        ErrorReason.ERROR_REASON_CALL_CANCELLED,
        ErrorReason.ERROR_REASON_BUDGET_EXCEEDED,
    ]


async def test_the_name_of_a_method_that_does_not_exist_is_not_kept(log: MemoryLog) -> None:
    async def unknown(_call: Call) -> None:
        raise MarketError(ErrorReason.ERROR_REASON_METHOD_UNKNOWN, "unknown")

    with pytest.raises(MarketError):
        await FailedCallRecorder(log)(
            make_call(caller=caller(), method="/x/" + "y" * 8000), unknown
        )
    assert log.failed[0].method == ""


@pytest.mark.parametrize("trouble", [ConnectionError("down"), None], ids=["fails", "hangs"])
async def test_a_log_in_trouble_changes_nothing_for_the_caller(
    log: MemoryLog, trouble: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interceptors.transaction_log._RECORD_TIMEOUT_S", 0.05)
    log.trouble, log.hangs = trouble, trouble is None
    recorder = FailedCallRecorder(log)
    with pytest.raises(MarketError, check=raises(NO_CONTRACT)):
        await recorder(make_call(caller=caller()), refuse)
    assert recorder.lost == 1


async def test_a_call_that_succeeds_is_not_recorded(log: MemoryLog) -> None:
    async def fine(_call: Call) -> None:
        return

    await FailedCallRecorder(log)(make_call(caller=caller()), fine)
    assert log.failed == []
