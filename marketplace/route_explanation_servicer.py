"""ExplainRoute of ContractService: why a call is routed or refused, now or then (1491, 1241)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from foundation.errors import FieldViolation, MarketError
from foundation.identifiers import ContractId, EvseId, owner_key
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import route_explanation_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import Route, RouteKey
from interceptors.call import Call
from marketplace.actor import Actor, not_found
from marketplace.rendering import timestamp
from marketplace.route_explanation import (
    ROUTED_PARTNER,
    Candidate,
    Explained,
    Question,
    RouteEvent,
    RouteReason,
    Verdict,
    certificate_verdict,
    explain,
    for_provider,
)
from marketplace.router.findings import Findings
from marketplace.router.route_keys import compile_route_key
from marketplace.storage_command import Commands, Work
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_price import methods_of
from marketplace.storage_route_history import RouteHistory

#: Says whether this worker leaves a provider's endpoint out for the moment.
LeftOut = Callable[[str, str], bool]
_IN_FORCE = Verdict(RouteReason.IN_FORCE)


class RouteExplanationServicer:
    """Serves the part of `gem.marketplace.v1.ContractService` that explains routes."""

    def __init__(self, commands: Commands, left_out: LeftOut | None = None) -> None:
        self._commands = commands
        self._left_out = left_out

    async def ExplainRoute(  # noqa: N802  # the rpc's name
        self, request: wire.ExplainRouteRequest, call: Call
    ) -> wire.ExplainRouteResponse:
        """Explain one call, whether or not anybody made it."""
        async with self._commands.read(call) as w:
            at = _instant(request, w.now)
            history = RouteHistory(w.connection, at, w.now)
            requester_id, provider_id = await _sides(history, w.actor, request.requester_id)
            explained = _Explanation(w, history, requester_id, provider_id, at or w.now)
            made = await explained.of(request.method, request.key)
            if at is None and self._left_out is not None:
                explained.mark_left_out(made, self._left_out)
        return wire.ExplainRouteResponse(explanation=made)


def _instant(request: wire.ExplainRouteRequest, now: datetime) -> datetime | None:
    """Give the past instant that is asked about; None for now."""
    if not request.HasField("time"):
        return None
    at: datetime = request.time.ToDatetime(tzinfo=UTC)
    if at > now:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "What has not happened yet cannot be explained.",
            violations=(FieldViolation("time", "must not be in the future", "past"),),
        )
    return at


async def _sides(history: RouteHistory, actor: Actor, requester_id: str) -> tuple[str, str]:
    """Give whose calls are meant, and the provider to whom all others are hidden, else empty.

    Raises:
        MarketError: NOT_FOUND for a partner that is none of the asker's business.
    """
    if not actor.is_partner or requester_id in ("", actor.subject_id):
        return actor.own_or(requester_id), ""
    if not await history.are_parties(requester_id, actor.subject_id):
        raise not_found("partner")
    return requester_id, actor.subject_id


class _Explanation:
    """Puts one explanation together."""

    def __init__(
        self,
        w: Work,
        history: RouteHistory,
        requester_id: str,
        provider_id: str,
        at: datetime,
    ) -> None:
        self._w = w
        self._history = history
        self._requester_id = requester_id
        self._provider_id = provider_id
        self._at = at
        self._endpoints: dict[str, str] = {}

    async def of(self, path: str, key: str) -> wire.RouteExplanation:
        """Explain a call of a method; raises MarketError NOT_FOUND for an unknown interface."""
        interface_name = path[1:].partition("/")[0]
        interfaces = InterfaceStorage(self._w.connection)
        await interfaces.get(interface_name, 0)
        version, removed = await self._history.version(interface_name)
        row = await interfaces.get(interface_name, version) if version else None
        route, verdict = await self._call(row, path, removed)
        requester = await self._history.requester(self._requester_id)
        roles = set(requester.roles) if requester is not None else set()
        called_by = set(row.called_by) if row is not None else set()
        question = Question(
            for_provider(verdict) if self._provider_id else verdict,
            route,
            role_allowed=not called_by or bool(roles & called_by),
            key_owner_id=await self._owner(row, path, route, key),
        )
        which = (self._requester_id, interface_name, self._provider_id)
        contracted = await self._history.contracted(*which)
        others, more = await self._history.uncontracted(*which)
        found = explain(question, [*contracted, *others])
        self._endpoints = {each.service_id: each.endpoint for each in contracted}
        return self._rendered(path, version, question, found, more)

    def mark_left_out(self, made: wire.RouteExplanation, left_out: LeftOut) -> None:
        """Say which of those that are asked this worker leaves out for the moment."""
        for each in made.candidates:
            if each.routed:
                endpoint = self._endpoints[each.service_id]
                each.left_out_here = left_out(each.provider_id, endpoint)

    async def _call(self, row: Any, path: str, removed: RouteEvent | None) -> tuple[int, Verdict]:
        """Give the route of the method, and what stands in the way of the whole call."""
        routes = {each["path"]: int(each["route"]) for each in row.methods} if row else {}
        route = routes.get(path, 0)
        certificates = await self._history.certificates(self._requester_id)
        verdict = certificate_verdict(certificates, self._at)
        if verdict.reason is not RouteReason.IN_FORCE:
            return route, verdict
        requester = await self._history.requester(self._requester_id)
        if requester is None:
            return route, Verdict(RouteReason.REQUESTER_NOT_ACTIVE)
        if requester.standing.state != ROUTED_PARTNER:
            return route, Verdict(RouteReason.REQUESTER_NOT_ACTIVE, requester.standing.event)
        if row is None:
            return route, Verdict(RouteReason.INTERFACE_NOT_PUBLISHED, removed)
        if not route:
            return route, Verdict(RouteReason.METHOD_UNKNOWN)
        return route, _IN_FORCE

    async def _owner(self, row: Any, path: str, route: int, key: str) -> str | None:
        """Give who owned the identifier in the request; None unless the method goes by it."""
        if not key or route != Route.ROUTE_BY_KEY:
            return None
        storage = InterfaceStorage(self._w.connection)
        descriptor_set = await storage.descriptor_set(row.publication_id)
        kind = await asyncio.to_thread(_key_kind, descriptor_set, row.interface_name, path)
        if kind == RouteKey.ROUTE_KEY_PARTNER_ID:
            return key
        try:
            if kind == RouteKey.ROUTE_KEY_EVSE_ID:
                value = owner_key(EvseId.parse(key).operator_id)
                return await self._history.owner(IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, value)
            value = owner_key(ContractId.parse(key).provider_id)
        except ValueError:
            return None
        return await self._history.owner(IdentifierKind.IDENTIFIER_KIND_PROVIDER_ID, value)

    def _rendered(
        self,
        path: str,
        version: int,
        question: Question,
        found: Sequence[Explained],
        more: bool,
    ) -> wire.RouteExplanation:
        made: Any = wire.RouteExplanation(
            requester_id=self._requester_id,
            method=path,
            time=timestamp(self._at),
            interface_version=version,
            event=_event(question.verdict.event),
            candidates=map(_candidate, found),
            more_without_contract=more,
        )
        made.route, made.reason = question.route, int(question.verdict.reason)
        return made  # type: ignore[no-any-return]  # enum fields take plain numbers


def _key_kind(descriptor_set: bytes, interface_name: str, path: str) -> int:
    """Give the kind of identifier that a BY_KEY method goes by."""
    method = methods_of(descriptor_set, interface_name)[path.rpartition("/")[2]]
    found = compile_route_key(method, Route.ROUTE_BY_KEY, Findings())
    assert found is not None, "what was published has a key"
    return found.kind


def _candidate(explained: Explained) -> wire.RouteCandidate:
    candidate: Candidate = explained.candidate
    made: Any = wire.RouteCandidate(
        provider_id=candidate.provider_id,
        service_id=candidate.service_id,
        contract_id=candidate.contract_id,
        routed=explained.routed,
        event=_event(explained.verdict.event),
        section_id=explained.section_id,
        place_number=explained.place,
    )
    made.reason = int(explained.verdict.reason)
    return made  # type: ignore[no-any-return]  # enum fields take plain numbers


def _event(event: RouteEvent | None) -> wire.RouteEvent | None:
    if event is None:
        return None
    return wire.RouteEvent(
        history=event.history, kind=event.kind, actor=event.actor, event_time=timestamp(event.at)
    )
