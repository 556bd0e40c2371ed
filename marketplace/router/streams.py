"""Streaming calls: one provider relayed in both directions, or many server streams as one.

An intent stands in the log before any provider is asked, and the final entry before the call ends.
Nothing is buffered without a bound: a slow caller slows its providers down, and the other way
round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from foundation.errors import MarketError
from interceptors.call import Call
from marketplace.router.ask import OK, Asker, pending
from marketplace.router.budget import RouterLimits, answer_by_s, call_metadata
from marketplace.router.check import check
from marketplace.router.merge import entries_message, failure_of
from marketplace.router.method_rules import MethodRules
from marketplace.router.plan import Mode, Plan
from marketplace.router.record import TransactionLog, entry_of, intent_of
from marketplace.router.request import read_one
from marketplace.router.stream_ask import StreamAsk, StreamCall
from marketplace.router.target import Answer, Target
from marketplace.router.transport import ProviderFailure

#: Chooses the targets of a call by the routing table of this moment.
Planner = Callable[[Call, MethodRules, Any], Plan]


class StreamRouter:
    """Serves routed methods that stream requests, answers or both."""

    def __init__(
        self, choose: Planner, asker: Asker, log: TransactionLog, limits: RouterLimits
    ) -> None:
        self._choose = choose
        self._asker = asker
        self._log = log
        self._limits = limits

    async def serve(self, call: Call, method: MethodRules) -> None:
        """Serve one call to its end; raises MarketError as `Router.serve` does."""
        first = await (call.wire.read() if method.client_streaming else read_one(call))
        request = method.request_class() if first is None else check(method, first)
        chosen = self._choose(call, method, request)
        by_s = answer_by_s(call, self._limits, time.monotonic(), streaming=True)
        work = StreamCall(call, method, call_metadata(call), by_s)
        if first is not None:
            work.note_request(first)
        held: bytes | None = None
        try:
            if chosen.mode is Mode.ALL:
                held = await self._merge_streams(work, chosen.targets, first or b"")
            elif chosen.mode is Mode.FIRST:
                await self._relay_in_turn(work, chosen.targets, first or b"")
            else:
                held = await self._relay_one(work, chosen.targets[0], first)
            if not any(answer.status == OK for answer in work.answers):
                raise failure_of(work.answers)
        finally:
            await self._record(work)
        if held is not None:
            await call.wire.write(held)

    async def _relay_one(
        self, work: StreamCall, target: Target, first: bytes | None
    ) -> bytes | None:
        """Relay one provider's stream; gives the answer of a method that answers with one message.

        That one answer leaves only when its entry is durable.
        """
        (answer,) = await self._intend(work, (target,))
        held: list[bytes] = []
        ask = StreamAsk(self._asker, work, answer)
        async with ask:
            if not ask.open():
                return None
            uploading = asyncio.create_task(self._upload(work, ask, first))
            try:
                while (message := await ask.next()) is not None:
                    if work.method.server_streaming:
                        await work.call.wire.write(message)
                    else:
                        if held:
                            raise ask.refuse_count()
                        held.append(message)
                if not held and not work.method.server_streaming:
                    raise ask.refuse_count()
            finally:
                uploading.cancel()
                await asyncio.wait((uploading,))
        if ask.spoilt is not None:
            raise ask.spoilt
        return held[0] if held and answer.status == OK else None

    async def _relay_in_turn(
        self, work: StreamCall, targets: Sequence[Target], request: bytes
    ) -> None:
        """Relay the first provider that gives a message or ends well; then there is no way back.

        A query leaves each of the targets that remain an equal share of the time for a first
        message.
        """
        command = work.method.side_effects
        for ordinal, target in enumerate(targets):
            (answer,) = await self._intend(work, (target,))
            now_s = time.monotonic()
            share_s = (work.answer_by_s - now_s) / (len(targets) - ordinal)
            written = False
            ask = StreamAsk(self._asker, work, answer)
            async with ask:
                if ask.open():
                    await ask.send_only(request)
                    message = await ask.next(None if command else now_s + share_s)
                    while message is not None:
                        written = True
                        await work.call.wire.write(message)
                        message = await ask.next()
            if written and answer.status != OK:
                raise failure_of([answer])
            if answer.status == OK or (command and not ask.untouched):
                return

    async def _merge_streams(
        self, work: StreamCall, targets: Sequence[Target], request: bytes
    ) -> bytes:
        """Interleave the streams of all targets; gives the last message, with their answers."""
        answers = await self._intend(work, targets)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(self._limits.stream_buffer_messages)
        tasks = [
            asyncio.create_task(self._collect(work, answer, request, queue)) for answer in answers
        ]
        try:
            running = len(tasks)
            while running:
                message = await queue.get()
                if message is None:
                    running -= 1
                else:
                    await work.call.wire.write(message)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        last: Message = entries_message(work.method, answers)
        return last.SerializeToString()

    async def _collect(
        self, work: StreamCall, answer: Answer, request: bytes, queue: asyncio.Queue[bytes | None]
    ) -> None:
        """Put one target's messages into the queue, then None."""
        ask = StreamAsk(self._asker, work, answer)
        async with ask:
            if ask.open():
                await ask.send_only(request)
                while (message := await ask.next()) is not None:
                    await queue.put(message)
        await queue.put(None)

    async def _upload(self, work: StreamCall, ask: StreamAsk, first: bytes | None) -> None:
        """Pass the caller's messages on until it half-closes; a bad one ends the call."""
        assert ask.stream is not None
        try:
            message = first
            while message is not None:
                await ask.stream.write(message)
                if not work.method.client_streaming:
                    break
                message = await work.call.wire.read()
                if message is not None:
                    work.note_request(message)
                    check(work.method, message)
            await ask.stream.done_writing()
        except ProviderFailure:
            return  # The same failure shows where the answers are read.
        except Exception as error:  # noqa: BLE001 - handed to the task that serves the call
            ask.spoil(error)

    async def _intend(self, work: StreamCall, targets: Sequence[Target]) -> list[Answer]:
        """Make durable that these targets will be asked; gives their answers to come."""
        now_ns, first = time.time_ns(), len(work.answers)
        answers = [pending(target, now_ns) for target in targets]
        work.answers += answers
        size, digest = work.request_bytes, work.request_digest.digest()
        intents = [
            intent_of(work.call, first + n, answer, size, digest)
            for n, answer in enumerate(answers)
        ]
        try:
            await self._log.intend(intents)
        except MarketError:
            del work.answers[first:]
            raise
        work.call.providers_asked = len(work.answers)
        return answers

    async def _record(self, work: StreamCall) -> None:
        if work.answers:
            size, digest = work.request_bytes, work.request_digest.digest()
            await self._log.record(
                [
                    entry_of(work.call, n, answer, size, digest)
                    for n, answer in enumerate(work.answers)
                ]
            )
