"""Asks an endpoint as the router would, and says what came of it (feature 1501).

A valid request may be answered, or refused for what it is about: a generated EVSE id belongs to no
EVSE, so NOT_FOUND, ALREADY_EXISTS and FAILED_PRECONDITION are what an honest service says. An
invalid request has to be refused with INVALID_ARGUMENT. Where a method has no rule that can be
broken, bytes that are no message would be left; those are NOT_APPLICABLE, because the generated
server code of grpc refuses them itself, with INTERNAL or UNKNOWN, before the service sees them, and
the marketplace never passes them on.

Every call carries `gem-conformance: true`, so that the provider bills and keeps nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2

from foundation.errors import Code, MarketError
from foundation.validation import violations
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.conformance import Check, CheckKind, Outcome
from marketplace.conformance_message import invalid_message, valid_message
from marketplace.router.method_rules import InterfaceRules, MethodRules
from marketplace.router.target import Target
from marketplace.router.transport import ProviderFailure, ProviderTransport
from marketplace.router.verify import InvalidAnswer, parsed, verified

#: No partner id has a dot.
REQUESTER, CONTRACT = "gem.conformance", "gem.conformance"
#: Messages of a stream that are looked at.
STREAM_MESSAGES_MAX = 10
#: So many silent or broken answers in a row, and the rest is not asked.
_GIVE_UP_AFTER = 3
#: As long as a report's field for it.
_DETAIL_CHARACTERS_MAX = 500
_HEALTH = "/grpc.health.v1.Health/Check"
_ABOUT_THE_THING = frozenset({Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION})
_WORDS: Mapping[int, str] = {
    ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE: "the endpoint is out of reach, or broke off",
    ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT: "there was no answer in time",
    ErrorReason.ERROR_REASON_PROVIDER_NOT_GENUINE: "the certificate is not the provider's",
    ErrorReason.ERROR_REASON_ANSWER_INVALID: "the answer breaks the rules of gRPC",
    ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE: "the answer is larger than the market takes",
}

#: How a check ended, and what was seen.
_Said = tuple[Outcome, str]


@dataclass(slots=True)
class _Ended(Exception):  # noqa: N818  # how a call ended is a finding
    """A call without a valid answer: the provider's code, or zero and our words."""

    code: int
    detail: str
    silent: bool = False


class MethodChecks:
    """Makes the checks of one run, one after the other."""

    def __init__(
        self,
        transport: ProviderTransport,
        target: Target,
        *,
        include_side_effects: bool,
        seed: int,
        call_timeout_s: float,
    ) -> None:
        self._transport = transport
        self._target = target
        self._include_side_effects = include_side_effects
        self._seed = seed
        self._timeout_s = call_timeout_s
        self._silent_in_a_row = 0

    async def all(self, rules: InterfaceRules) -> AsyncIterator[Check]:
        """Check health, and then every method of the interface, valid requests first."""
        yield await self._timed(CheckKind.HEALTH, "", lambda: self._health(rules.name))
        for path in sorted(rules.methods):
            method = rules.methods[path]
            for kind, check in (
                (CheckKind.VALID_REQUEST, self._valid),
                (CheckKind.INVALID_REQUEST, self._invalid),
            ):
                if self._silent_in_a_row >= _GIVE_UP_AFTER:
                    detail = "not asked: the endpoint was silent before"
                    yield Check(kind, path, Outcome.SKIPPED, detail)
                else:
                    yield await self._timed(kind, path, lambda c=check, m=method: c(m))  # type: ignore[misc]  # defaults bind

    async def _timed(
        self, kind: CheckKind, path: str, check: Callable[[], Awaitable[_Said]]
    ) -> Check:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            outcome, detail = await check()
            if outcome is Outcome.PASSED:
                self._silent_in_a_row = 0
        except _Ended as ended:
            outcome, detail = Outcome.FAILED, ended.detail
            self._silent_in_a_row = self._silent_in_a_row + 1 if ended.silent else 0
        return Check(kind, path, outcome, detail, int((loop.time() - begun_s) * 1e6))

    async def _health(self, interface: str) -> _Said:
        for name in (interface, ""):
            request = health_pb2.HealthCheckRequest(service=name).SerializeToString()
            try:
                raw = await self._unary(_HEALTH, request)
                status = health_pb2.HealthCheckResponse.FromString(raw).status
            except DecodeError:
                raise _Ended(0, "the answer of the health service does not parse") from None
            except _Ended as ended:
                if ended.code == Code.NOT_FOUND and name:
                    continue  # The service does not tell interfaces apart.
                if ended.code == Code.UNIMPLEMENTED:
                    raise _Ended(0, "the endpoint has no service grpc.health.v1.Health") from None
                raise
            if status != health_pb2.HealthCheckResponse.SERVING:
                raise _Ended(0, "the health service does not say SERVING")
            return Outcome.PASSED, f"SERVING for {'the interface' if name else 'the server'}"
        raise _Ended(0, "the health service knows neither the interface nor the server")

    async def _valid(self, method: MethodRules) -> _Said:
        if method.side_effects and not self._include_side_effects:
            return Outcome.SKIPPED, "the method has side effects, and nobody agreed to them"
        request = await asyncio.to_thread(valid_message, method.request_class, self._seed)
        if request is None:
            return Outcome.NOT_APPLICABLE, "no valid request was found by the interface's rules"
        try:
            return await self._answered(method, request)
        except _Ended as ended:
            if ended.code in _ABOUT_THE_THING:
                name = Code(ended.code).name
                return Outcome.PASSED, f"refused with {name}, as a made-up request may be"
            raise

    async def _invalid(self, method: MethodRules) -> _Said:
        request = await asyncio.to_thread(invalid_message, method.request_class, self._seed)
        if request is None:
            detail = "the request has no rule to break; what is no message the market keeps back"
            return Outcome.NOT_APPLICABLE, detail
        try:
            await self._answered(method, request, until_first=True)
        except _Ended as ended:
            if ended.code == Code.INVALID_ARGUMENT:
                return Outcome.PASSED, "refused with INVALID_ARGUMENT"
            raise
        raise _Ended(0, "an invalid request was answered")

    async def _answered(
        self, method: MethodRules, request: Message, *, until_first: bool = False
    ) -> _Said:
        """Ask, and verify what comes."""
        raw = request.SerializeToString()
        if not (method.client_streaming or method.server_streaming):
            self._verify(method, await self._unary(method.path, raw))
            return Outcome.PASSED, "the answer obeys the interface"
        seen: list[int] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._streamed(method, raw, 1 if until_first else STREAM_MESSAGES_MAX, seen)
        except TimeoutError:
            if until_first or not method.server_streaming:
                raise _Ended(0, "there was no answer in time", silent=True) from None
            if not seen:
                self._silent_in_a_row += 1
                return Outcome.NOT_APPLICABLE, "the stream stayed open without a message to verify"
            return Outcome.PASSED, f"the stream stayed open; messages that obey: {len(seen)}"
        if not seen and not method.server_streaming:
            raise _Ended(0, "the call ended without an answer")
        return Outcome.PASSED, f"messages that obey the interface: {len(seen)}"

    async def _streamed(self, method: MethodRules, raw: bytes, most: int, seen: list[int]) -> None:
        """Ask with one message and verify what comes; `seen` grows by the size of each."""
        # The transport's own limit lies behind ours: a stream may stay open.
        stream = self._transport.stream(
            self._target, method.path, self._metadata(), self._timeout_s * 2
        )
        try:
            await stream.write(raw)
            await stream.done_writing()
            while len(seen) < most and (answer := await stream.read()) is not None:
                self._verify(method, answer)
                seen.append(len(answer))
        except ProviderFailure as failure:
            raise _ended(failure) from None
        finally:
            stream.cancel()

    async def _unary(self, path: str, raw: bytes) -> bytes:
        try:
            return await self._transport.unary(
                self._target, path, raw, self._metadata(), self._timeout_s
            )
        except ProviderFailure as failure:
            raise _ended(failure) from None

    def _verify(self, method: MethodRules, raw: bytes) -> None:
        try:
            verified(method, self._target, raw)
        except InvalidAnswer as wrong:
            if wrong.reason == ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE:
                raise _Ended(0, _WORDS[wrong.reason]) from None
            raise _Ended(0, self._broken_rule(method, raw)) from None

    def _broken_rule(self, method: MethodRules, raw: bytes) -> str:
        """Say what an answer breaks first, in words of the interface and none of the answer."""
        text = "the answer breaks a rule of the interface"
        try:
            message = parsed(method, raw)
            method.stamp(message, self._target.provider_id, self._target.contract_id)
            message.DiscardUnknownFields()
            broken = violations(message)
        except (InvalidAnswer, MarketError):
            return text
        if not broken:
            return text
        where = f"{broken[0].field}: " if broken[0].field else ""
        return f"{text}: {where}{broken[0].description}"[:_DETAIL_CHARACTERS_MAX]

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (
            ("gem-requester", REQUESTER),
            ("gem-contract", CONTRACT),
            ("gem-call", str(uuid4())),
            ("gem-conformance", "true"),
        )


def _ended(failure: ProviderFailure) -> _Ended:
    if failure.reason != ErrorReason.ERROR_REASON_PROVIDER_REFUSED:
        silent = failure.reason in (
            ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
            ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT,
        )
        return _Ended(0, _WORDS.get(failure.reason, "the call failed"), silent=silent)
    return _Ended(failure.code, f"refused with {Code(failure.code).name}")
