"""Asking one provider within a streaming call: what `ask.py` does for a single message."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Protocol

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.router.ask import (
    CANCELLED,
    INVALID_ANSWER,
    OK,
    TIMED_OUT,
    Asker,
    mark_sent,
)
from marketplace.router.budget import target_metadata
from marketplace.router.method_rules import MethodRules
from marketplace.router.rating import counted
from marketplace.router.target import Answer, AskSpan
from marketplace.router.transport import Metadata, ProviderFailure, ProviderStream
from marketplace.router.verify import InvalidAnswer, verified


class Digest(Protocol):
    """A hash that grows with each message."""

    def update(self, data: bytes, /) -> None:
        """Take in one more message."""

    def digest(self) -> bytes:
        """Give the hash of all so far."""


@dataclass(slots=True)
class StreamCall:
    """One streaming call. `answers` are owed to the log, however the call ends."""

    call: Call
    method: MethodRules
    #: As `budget.call_metadata` gives it.
    metadata: Metadata
    #: `loop.time()` by which every provider has to have ended.
    answer_by_s: float
    request_bytes: int = 0
    request_digest: Digest = field(default_factory=sha256)
    answers: list[Answer] = field(default_factory=list)

    def note_request(self, message: bytes) -> None:
        """Count one message of the caller's."""
        self.request_bytes += len(message)
        self.request_digest.update(message)


class StreamAsk:
    """One provider's stream; an async context that ends it and fills in its answer.

    What the provider does wrong ends the block and goes no further. What goes wrong on the caller's
    side passes through, and the answer stays as an interrupted one.
    """

    def __init__(self, asker: Asker, work: StreamCall, answer: Answer) -> None:
        self._asker = asker
        self._work = work
        self._answer = answer
        self._span: AskSpan | None = None
        self._started_s = 0.0
        self._digest = sha256()
        #: None until `open`, and where the endpoint is left out.
        self.stream: ProviderStream | None = None
        #: The target certainly did nothing.
        self.untouched = False
        #: What was wrong with the caller's messages.
        self.spoilt: Exception | None = None

    async def __aenter__(self) -> StreamAsk:
        """Nothing is asked before `open`."""
        return self

    def open(self) -> bool:
        """Start asking; False where the endpoint is left out."""
        asker, work, answer = self._asker, self._work, self._answer
        started_s = asker.begin(answer)
        if started_s is None:
            self.untouched = True
            return False
        self._started_s = started_s
        self._span = asker.span(work.call, answer.target, work.method)
        span = self._span
        traceparent = work.call.traceparent if span is None else span.traceparent
        metadata = target_metadata(work.metadata, answer.target, traceparent)
        mark_sent(answer, work.method)
        self.stream = asker.transport.stream(
            answer.target, work.method.path, metadata, work.answer_by_s - started_s
        )
        return True

    async def send_only(self, request: bytes) -> None:
        """Send the one request of a server stream."""
        assert self.stream is not None
        await self.stream.write(request)
        await self.stream.done_writing()

    async def next(self, by_s: float | None = None) -> bytes | None:
        """Give the provider's next message, checked, stamped and counted; None at its good end.

        `by_s` limits the waiting, in `loop.time()`. Raises ProviderFailure or InvalidAnswer, which
        the block takes.
        """
        assert self.stream is not None
        if by_s is None:
            raw = await self.stream.read()
        else:
            raw = await self._read_by(self.stream, by_s)
        if raw is None:
            return None
        method, answer = self._work.method, self._answer
        self._digest.update(raw)
        answer.answer_bytes += len(raw)
        good = verified(method, answer.target, raw)
        rated = answer.target.price.rated
        if rated is not None:
            answer.units = counted(method, rated, good.message, answer.units)
        answer.item_count += method.count_items(good.message)
        return good.canonical

    def refuse_count(self) -> InvalidAnswer:
        """Give what to raise where the provider sent no message or too many."""
        reason = ErrorReason.ERROR_REASON_ANSWER_INVALID
        return InvalidAnswer(reason, "not exactly one message")

    def spoil(self, error: Exception) -> None:
        """End the stream because of what the caller sent."""
        self.spoilt = error
        if self.stream is not None:
            self.stream.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Fill in how it ended; True where the provider is to blame."""
        if self.stream is None:
            return False
        self.stream.cancel()
        answer = self._answer
        ours = self._settle(error)
        answer.answer_digest = self._digest.digest() if answer.answer_bytes else b""
        answer.latency_us = int((time.monotonic() - self._started_s) * 1e6)
        if self._span is not None:
            self._span.answered()
            self._span.end(answer.status)
        return ours

    def _settle(self, error: BaseException | None) -> bool:
        asker, answer = self._asker, self._answer
        if self.spoilt is not None and (error is None or isinstance(error, ProviderFailure)):
            asker.note_abandoned(answer)
            if isinstance(self.spoilt, MarketError) and not self._work.method.side_effects:
                code = self.spoilt.code or Code.INVALID_ARGUMENT
                answer.fail(CANCELLED, self.spoilt.reason, code)
        elif error is None:
            asker.note_answered(answer)
            answer.status, answer.reason, answer.code = OK, 0, 0
        elif isinstance(error, ProviderFailure):
            by_s = self._work.answer_by_s
            self.untouched = asker.note_failure(answer, error, self._started_s, by_s)
        elif isinstance(error, InvalidAnswer):
            asker.note_answered(answer)
            answer.fail(INVALID_ANSWER, error.reason, Code.INTERNAL)
        elif isinstance(error, Exception) and not isinstance(error, MarketError):
            asker.note_defect(answer, error)
        else:
            asker.note_abandoned(answer)
            return False
        return True

    async def _read_by(self, stream: ProviderStream, by_s: float) -> bytes | None:
        try:
            async with asyncio.timeout_at(by_s):
                return await stream.read()
        except TimeoutError:
            reason = ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT
            raise ProviderFailure(TIMED_OUT, reason, Code.DEADLINE_EXCEEDED) from None
