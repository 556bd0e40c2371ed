"""Certification: when a service may be certified, and what is told of it (feature 1501)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.conformance import ConformanceState, Run
from marketplace.notice import Notice, NoticeKind
from marketplace.service import Service

#: A run that is older says too little about the service of today.
RUN_AGE_MAX = timedelta(days=30)


class CertificationEvent(StrEnum):
    """What happened; the names are those of `CertificationEventKind`."""

    RUN_STARTED = "RUN_STARTED"
    RUN_PASSED = "RUN_PASSED"
    RUN_FAILED = "RUN_FAILED"
    RUN_ABANDONED = "RUN_ABANDONED"
    CERTIFIED = "CERTIFIED"
    REVOKED = "REVOKED"
    FELL = "FELL"


EVENT_OF_END: Mapping[ConformanceState, CertificationEvent] = {
    ConformanceState.PASSED: CertificationEvent.RUN_PASSED,
    ConformanceState.FAILED: CertificationEvent.RUN_FAILED,
    ConformanceState.ABANDONED: CertificationEvent.RUN_ABANDONED,
}
_ENDINGS = {
    ConformanceState.PASSED: "passed",
    ConformanceState.FAILED: "failed",
    ConformanceState.ABANDONED: "was not brought to its end",
}


def check_may_certify(
    service: Service, run: Run, now: datetime, age_max: timedelta, *, is_certified: bool
) -> None:
    """Refuse a certification that the run does not bear.

    Raises:
        MarketError: STATE_NOT_ALLOWED.
    """
    if is_certified:
        raise _refused("The service is certified already.")
    if run.state is not ConformanceState.PASSED:
        raise _refused("Only a run that passed certifies a service.")
    checked = (run.endpoint, run.interface_name, run.interface_version)
    if checked != (service.endpoint, service.interface_name, service.interface_version):
        raise _refused("The run was made with another endpoint or interface version.")
    if run.ended_at is None or now - run.ended_at > age_max:
        raise _refused(f"The run is older than {age_max.days} days: run the checks again.")


def not_certified() -> MarketError:
    """Give the error for a revocation without a certification in force."""
    return _refused("The service is not certified.")


def needs_certification() -> MarketError:
    """Give the error for the publication of a service that is not certified."""
    return _refused("The service has to be certified before it is published.")


def run_notice(run: Run, provider_id: str, now: datetime) -> Notice:
    """Tell the provider how a run ended."""
    text = f"Conformance run {run.run_id} of service {run.service_id} {_ENDINGS[run.state]}."
    return Notice(
        recipient_id=provider_id,
        kind=NoticeKind.CONFORMANCE_FINISHED,
        title=f"Conformance run {_ENDINGS[run.state]}",
        text=text,
        occurred_at=now,
        service_id=run.service_id,
        interface_name=run.interface_name,
    )


def certification_notice(service: Service, kind: NoticeKind, reason: str, now: datetime) -> Notice:
    """Tell the provider that its service was certified, or that this was revoked and why."""
    title = "Service certified"
    text = f"Service {service.service_id} was certified by an operator of the marketplace."
    if kind is NoticeKind.CERTIFICATION_REVOKED:
        title = "Certification revoked"
        text = f"The certification of service {service.service_id} was revoked: {reason}"
    return Notice(
        recipient_id=service.provider_id,
        kind=kind,
        title=title,
        text=text,
        occurred_at=now,
        service_id=service.service_id,
        interface_name=service.interface_name,
    )


def _refused(text: str) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, text)
