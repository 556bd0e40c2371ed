"""One vocabulary of errors, and one table from it to gRPC status codes.

Domain code raises `MarketError`; a transport turns it into a `google.rpc.Status` with `status_of`
at one place. The texts here are the marketplace's own: what a caller or provider sent is never
echoed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from gem.mesh.v1.error_reason_pb2 import ErrorReason

DOMAIN = "gem"
_PREFIX = "ERROR_REASON_"


class Code(IntEnum):
    """Status codes of gRPC, as numbers: the router's core does not import grpc."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


#: The status code of every reason; `error_reason.proto` states the same in words.
CODE_OF: Mapping[int, Code] = {
    ErrorReason.ERROR_REASON_CERTIFICATE_MISSING: Code.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_CERTIFICATE_NOT_ACCEPTED: Code.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_CERTIFICATE_EXPIRED: Code.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_CERTIFICATE_REVOKED: Code.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE: Code.PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED: Code.PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_NOT_THE_MARKETPLACE: Code.PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_SESSION_MISSING: Code.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED: Code.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_LOGIN_FAILED: Code.UNAUTHENTICATED,
    ErrorReason.ERROR_REASON_LOGIN_LOCKED: Code.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_NO_CONTRACT: Code.PERMISSION_DENIED,
    ErrorReason.ERROR_REASON_PROVIDER_AMBIGUOUS: Code.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_METHOD_UNKNOWN: Code.UNIMPLEMENTED,
    ErrorReason.ERROR_REASON_ROUTES_STALE: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_REQUEST_MALFORMED: Code.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_REQUEST_INVALID: Code.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_REQUEST_COUNT: Code.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_METADATA_INVALID: Code.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_TOO_MANY_CALLS: Code.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_RATE_EXCEEDED: Code.RESOURCE_EXHAUSTED,
    ErrorReason.ERROR_REASON_DRAINING: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT: Code.DEADLINE_EXCEEDED,
    ErrorReason.ERROR_REASON_PROVIDER_REFUSED: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_ANSWER_INVALID: Code.INTERNAL,
    ErrorReason.ERROR_REASON_ANSWER_TOO_LARGE: Code.INTERNAL,
    ErrorReason.ERROR_REASON_PROVIDER_EJECTED: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_PROVIDER_NOT_GENUINE: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_BUDGET_EXCEEDED: Code.DEADLINE_EXCEEDED,
    ErrorReason.ERROR_REASON_CALL_CANCELLED: Code.CANCELLED,
    ErrorReason.ERROR_REASON_IN_DOUBT: Code.UNKNOWN,
    ErrorReason.ERROR_REASON_ENDPOINT_NOT_ALLOWED: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_NOT_FOUND: Code.NOT_FOUND,
    ErrorReason.ERROR_REASON_ALREADY_EXISTS: Code.ALREADY_EXISTS,
    ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED: Code.FAILED_PRECONDITION,
    ErrorReason.ERROR_REASON_REQUEST_ID_REUSED: Code.ALREADY_EXISTS,
    ErrorReason.ERROR_REASON_INTERFACE_INVALID: Code.INVALID_ARGUMENT,
    ErrorReason.ERROR_REASON_CONFLICT: Code.ABORTED,
    ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE: Code.UNAVAILABLE,
    ErrorReason.ERROR_REASON_INTERNAL: Code.INTERNAL,
}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule: the field's path, the rule's id and what it asks for, in our words."""

    field: str
    description: str
    rule: str = ""


@dataclass(slots=True)
class MarketError(Exception):
    """A refusal or failure with its reason; the code follows from the reason.

    `message` is our own text. `code` overrides the table only where the reason says so
    (PROVIDER_REFUSED). `details` are further messages for the status, already safe to show.
    """

    reason: int
    message: str
    violations: tuple[FieldViolation, ...] = ()
    retry_after_s: float | None = None
    resource: tuple[str, str] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    details: tuple[Message, ...] = ()
    code: Code | None = None

    def __post_init__(self) -> None:
        if self.code is None:
            self.code = CODE_OF[self.reason]
        Exception.__init__(self, self.message)


class SettingsError(ValueError):
    """The program refuses to start; `key` names the setting or file to mend, the text says how."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


def reason_name(reason: int) -> str:
    """Give the reason as ErrorInfo carries it, for instance `NO_CONTRACT`."""
    return ErrorReason.Name(reason).removeprefix(_PREFIX)  # type: ignore[arg-type]  # an enum value


def status_of(error: MarketError) -> status_pb2.Status:
    """Render an error as `google.rpc.Status` with the details that fit it."""
    info = error_details_pb2.ErrorInfo(reason=reason_name(error.reason), domain=DOMAIN)
    info.metadata.update(error.metadata)
    details: list[Message] = [info]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(
                field=violation.field, description=violation.description, reason=violation.rule
            )
        details.append(bad)
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration(nanos=int(error.retry_after_s % 1 * 1e9))
        delay.seconds = int(error.retry_after_s)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.resource is not None:
        kind, name = error.resource
        details.append(error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name))
    assert error.code is not None
    status = status_pb2.Status(code=int(error.code), message=error.message)
    for detail in (*details, *error.details):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
