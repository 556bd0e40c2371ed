"""How long providers may take, what travels to them, and how often asking is repeated."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.router.target import Target
from marketplace.router.transport import Metadata

#: Milliseconds from the start of the call by which its answer, however partial, has to leave.
BUDGET_KEY = "gem-budget-ms"
_BUDGET_DIGITS = 7
#: Longest trace context that travels on; W3C Trace Context 3.3.1.5 asks for 512 of `tracestate`.
_TRACE_CHARACTERS = 512
#: Sums of seconds differ by rounding.
_CLOCK_SLACK_S = 0.001
#: No more than this share of a short budget is kept back for merging.
_RESERVE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RouterLimits:
    """What one call may take. Times are in seconds, sizes in bytes."""

    #: Budget of a unary call whose caller set no deadline of its own.
    default_budget_s: float = 10.0
    #: Our cap on every call, as the transport towards callers applies it: a call that has all of it
    #: counts as one without a deadline.
    max_call_s: float = 60.0
    #: Kept back from the budget to merge, record and send the answer.
    merge_reserve_s: float = 0.03
    #: A provider that missed a shorter time than this is not to blame, and not ejected for it.
    fair_timeout_s: float = 0.5
    #: All answers of one call together.
    max_answers_bytes: int = 64 << 20
    #: Messages of a merged stream that wait for the caller; providers wait beyond that.
    stream_buffer_messages: int = 16


def answer_by_s(call: Call, limits: RouterLimits, now_s: float, *, streaming: bool) -> float:
    """Give the `loop.time()` by which every provider has to have answered.

    Raises:
        MarketError: METADATA_INVALID, BUDGET_EXCEEDED.
    """
    end_s = call.deadline_s
    text = call.metadata.get(BUDGET_KEY)
    if text is not None:
        end_s = min(end_s, call.started_s + _budget_s(text))
    elif not streaming and end_s - call.started_s > limits.max_call_s - _CLOCK_SLACK_S:
        end_s = call.started_s + limits.default_budget_s
    remaining_s = end_s - now_s
    if remaining_s <= 0.0:
        raise MarketError(
            ErrorReason.ERROR_REASON_BUDGET_EXCEEDED,
            "the time for this call was used up before a provider could be asked",
        )
    return end_s - min(limits.merge_reserve_s, remaining_s * _RESERVE_SHARE)


def _budget_s(text: str | bytes) -> float:
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _BUDGET_DIGITS:
        return int(text) / 1000.0
    raise MarketError(
        ErrorReason.ERROR_REASON_METADATA_INVALID,
        f"the metadata {BUDGET_KEY} must be a whole number of milliseconds",
    )


def call_metadata(call: Call) -> Metadata:
    """Give what every provider asked in this call is told; `target_metadata` adds the rest.

    These two are the whole allow-list: nothing else that the caller sent travels on.
    """
    assert call.caller is not None
    requester = ("gem-requester", call.caller.subject_id)
    call_id = ("gem-call", str(call.call_id))
    state = call.metadata.get("tracestate")
    if isinstance(state, str) and call.traceparent and len(state) <= _TRACE_CHARACTERS:
        return (requester, call_id, ("tracestate", state))
    return (requester, call_id)


def target_metadata(common: Metadata, target: Target, traceparent: str | None) -> Metadata:
    """Give the metadata of one ask; `traceparent` is that of its own span, else the call's."""
    contract = ("gem-contract", target.contract_id)
    if traceparent is None or len(traceparent) > _TRACE_CHARACTERS:
        return (*common, contract)
    return (*common, contract, ("traceparent", traceparent))


class RetryBudget:
    """Keeps retries a small share of the asks, so that an outage is not multiplied by them."""

    #: What each ask earns; a retry costs 1.
    EARNED = 0.1
    MOST = 20.0

    def __init__(self) -> None:
        self._tokens = self.MOST

    def earn(self) -> None:
        """Count one ask that went well."""
        if self._tokens < self.MOST:
            self._tokens += self.EARNED

    def spend(self) -> bool:
        """Say whether a retry is allowed now, and pay for it."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
