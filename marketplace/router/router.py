"""The router: one call in, every contracted provider asked, one answer out, durably recorded.

Three moves: plan (pure), ask (each target on its own), merge (pure). Use cases 1241 and 1491. Calls
of one message are served here, streams in `streams.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from google.protobuf.message import Message

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.router.ask import OK, Asker, AskTelemetry, Question, pending
from marketplace.router.budget import RouterLimits, answer_by_s, call_metadata
from marketplace.router.check import check
from marketplace.router.ejection import Ejection, EjectionLimits
from marketplace.router.merge import failure_of
from marketplace.router.method_rules import MethodRules
from marketplace.router.plan import Mode, Plan, plan
from marketplace.router.record import TransactionLog, entry_of, intent_of
from marketplace.router.request import hints_of, read_one
from marketplace.router.settle import merged_answer, verify_waiting
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.router.streams import StreamRouter
from marketplace.router.target import Answer
from marketplace.router.transport import ProviderTransport


class Router:
    """Serves every routed method. `snapshots` gives the routing table of this moment.

    `snapshots` may raise MarketError ROUTES_STALE. One for each event loop.
    """

    def __init__(
        self,
        snapshots: Callable[[], RoutingSnapshot],
        transport: ProviderTransport,
        log: TransactionLog,
        limits: RouterLimits,
        telemetry: AskTelemetry | None = None,
        ejection: EjectionLimits | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._log = log
        self._limits = limits
        self._ejection = Ejection(ejection or EjectionLimits())
        self._asker = Asker(transport, self._ejection, limits, telemetry)
        self._streams = StreamRouter(self._plan, self._asker, log, limits)

    def leaves_out(self, provider_id: str, endpoint: str) -> bool:
        """Say whether calls leave a provider's endpoint out for the moment."""
        return self._ejection.leaves_out((provider_id, endpoint), time.monotonic())

    async def serve(self, call: Call) -> None:
        """Serve one call to its end.

        Raises:
            MarketError: the call gets no answer; its providers, if any were asked, are recorded.
        """
        method = self._snapshots().method(call.method)
        if method is None:
            raise MarketError(
                ErrorReason.ERROR_REASON_METHOD_UNKNOWN,
                "No interface in the catalogue has this method.",
            )
        if method.client_streaming or method.server_streaming:
            await self._streams.serve(call, method)
        else:
            await self._serve_unary(call, method)

    async def _serve_unary(self, call: Call, method: MethodRules) -> None:
        raw = await read_one(call)
        request = check(method, raw)
        chosen = self._plan(call, method, request)
        question = Question(
            call,
            method,
            raw,
            call_metadata(call),
            answer_by_s(call, self._limits, time.monotonic(), streaming=False),
            self._limits.max_answers_bytes,
        )
        digest = sha256(raw).digest()
        # What stands in here is owed to the log, however this ends.
        answers: list[Answer] = []
        try:
            if chosen.mode is Mode.FIRST:
                await self._ask_in_turn(question, chosen, answers, digest)
            else:
                question.verify_later = chosen.mode is Mode.ALL
                started_ns = time.time_ns()
                answers += [pending(target, started_ns) for target in chosen.targets]
                await self._intend(question, answers, 0, digest)
                await self._ask_all(question, answers)
            result = _result(method, request, chosen.mode, answers)
        finally:
            if answers:
                verify_waiting(method, answers)
                size = len(raw)
                await self._log.record(
                    [entry_of(call, n, answer, size, digest) for n, answer in enumerate(answers)]
                )
        await call.wire.write(result)

    def _plan(self, call: Call, method: MethodRules, request: Any) -> Plan:
        """Choose the targets by the routing table of this moment."""
        assert call.caller is not None
        key = method.route_key.read(request) if method.route_key is not None else None
        return plan(self._snapshots(), call.caller.subject_id, method, hints_of(call), key)

    async def _ask_all(self, question: Question, answers: list[Answer]) -> None:
        """Ask every target at the same time: the first in this task, each other in one of its own.

        Asks raise nothing, so awaiting one after the other does what `gather` would, for less.
        """
        by_s, asker = question.answer_by_s, self._asker
        if len(answers) == 1:
            await asker.ask(question, answers[0], by_s)
            return
        create_task = asyncio.get_running_loop().create_task
        tasks = [create_task(asker.ask(question, answer, by_s)) for answer in answers[1:]]
        try:
            await asker.ask(question, answers[0], by_s)
            for task in tasks:
                await task
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            # Each still notes how it stood when the cancel reached it.
            await asyncio.wait(tasks)
            raise

    async def _ask_in_turn(
        self, question: Question, chosen: Plan, answers: list[Answer], digest: bytes
    ) -> None:
        """Ask one target after the other until one succeeds.

        A command goes on to the next only when the one before certainly did nothing. A query
        leaves each of the targets that remain an equal share of the time.
        """
        side_effects = question.method.side_effects
        for ordinal, target in enumerate(chosen.targets):
            answer = pending(target, time.time_ns())
            answers.append(answer)
            await self._intend(question, answers, ordinal, digest)
            by_s = question.answer_by_s
            if not side_effects:
                now_s = time.monotonic()
                by_s = now_s + (by_s - now_s) / (len(chosen.targets) - ordinal)
            untouched = await self._asker.ask(question, answer, by_s)
            if answer.status == OK or (side_effects and not untouched):
                return

    async def _intend(
        self, question: Question, answers: list[Answer], first: int, digest: bytes
    ) -> None:
        """Make durable, before they are asked, that the targets from `first` on will be."""
        call = question.call
        if question.method.side_effects:
            size = len(question.request)
            intents = [
                intent_of(call, ordinal, answers[ordinal], size, digest)
                for ordinal in range(first, len(answers))
            ]
            try:
                await self._log.intend(intents)
            except MarketError:
                del answers[first:]
                raise
        call.providers_asked = len(answers)


def _result(method: MethodRules, request: Message, mode: Mode, answers: list[Answer]) -> bytes:
    """Give the bytes of the call's answer; raises where every provider failed."""
    if mode is Mode.ALL:
        return merged_answer(method, request, answers)
    last = answers[-1]
    if last.status != OK:
        raise failure_of(answers)
    return last.canonical
