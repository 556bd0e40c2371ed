"""Conformance reports, certifications and their history as messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gem.marketplace.v1 import certification_pb2 as wire
from marketplace.actor import party_of
from marketplace.certification import CertificationEvent
from marketplace.conformance import Check, Run
from marketplace.rendering import enum_number, timestamp

_STATE, _KIND = "CONFORMANCE_STATE", "CONFORMANCE_CHECK_KIND"
_OUTCOME, _EVENT = "CONFORMANCE_OUTCOME", "CERTIFICATION_EVENT_KIND"


def render_run(run: Run, checks: Iterable[Check]) -> wire.ConformanceReport:
    """Give a run with its checks."""
    rendered: Any = wire.ConformanceReport(
        run_id=run.run_id,
        service_id=run.service_id,
        endpoint=run.endpoint,
        interface_name=run.interface_name,
        interface_version=run.interface_version,
        include_side_effects=run.include_side_effects,
        requested_by=party_of(run.requested_by),
        start_time=timestamp(run.started_at),
        checks=map(_render_check, checks),
    )
    rendered.state = enum_number(wire.ConformanceState, _STATE, run.state)
    if run.ended_at is not None:
        rendered.end_time.CopyFrom(timestamp(run.ended_at))
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_certification(row: Any, *, whole: bool) -> wire.Certification:
    """Give a certification; the run is not for everybody."""
    return wire.Certification(
        service_id=row.service_id,
        interface_name=row.interface_name,
        interface_version=row.interface_version,
        certify_time=timestamp(row.certified_at),
        run_id=row.run_id if whole else "",
    )


def render_event(row: Any) -> wire.CertificationEvent:
    """Give one row of the history."""
    rendered: Any = wire.CertificationEvent(
        run_id=row.run_id,
        reason=row.reason,
        actor=party_of(row.actor),
        event_time=timestamp(row.occurred_at),
    )
    kind = CertificationEvent(row.kind)
    rendered.kind = enum_number(wire.CertificationEventKind, _EVENT, kind)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def _render_check(check: Check) -> wire.ConformanceCheck:
    rendered: Any = wire.ConformanceCheck(
        method=check.method, detail=check.detail, duration_us=check.duration_us
    )
    rendered.kind = enum_number(wire.ConformanceCheckKind, _KIND, check.kind)
    rendered.outcome = enum_number(wire.ConformanceOutcome, _OUTCOME, check.outcome)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers
