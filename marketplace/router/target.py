"""What a call is sent to, and what becomes of it: the values that the router's parts exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Price:
    """What one successful call costs under a contract; zero micros means free."""

    per_call_micros: int = 0
    currency_code: str = "EUR"


@dataclass(frozen=True, slots=True)
class Target:
    """One contracted provider of one interface: everything needed to ask it and to bill it."""

    contract_id: str
    provider_id: str
    service_id: str
    service_version: str
    #: `host:port` of the provider's endpoint.
    endpoint: str
    price: Price


@dataclass(slots=True)
class Answer:
    """How asking one target ended. `message` is set exactly when `status` is OK.

    `status` and `reason` are values of `gem.mesh.v1.AnswerStatus` and `ErrorReason`, `code` a gRPC
    status code. `answer_bytes` and `answer_digest` describe what came over the wire.
    """

    target: Target
    status: int
    reason: int = 0
    code: int = 0
    message: Any = None
    started_ns: int = 0
    latency_us: int = 0
    item_count: int = 0
    answer_bytes: int = 0
    answer_digest: bytes = b""
    #: What `message` serialises to, where that is known already; merging parses it.
    canonical: bytes = b""
    #: The columns that `plain_check` read from `canonical`, where it showed all that was to show.
    columns: Any = None


@dataclass(frozen=True, slots=True)
class TransactionEntry:
    """One provider asked in one call (use case 1491): the row of the transaction log.

    A digest is SHA-256 of the message's bytes; several messages of a stream are digested one after
    the other. No payload is kept.
    """

    transaction_id: UUID
    call_id: UUID
    requester_id: str
    provider_id: str
    contract_id: str
    service_id: str
    service_version: str
    method: str
    started_ns: int
    duration_us: int
    #: `gem.mesh.v1.AnswerStatus`; UNSPECIFIED marks an intent that is not resolved yet.
    status: int
    reason: int
    code: int
    request_bytes: int
    answer_bytes: int
    request_digest: bytes
    answer_digest: bytes
    item_count: int
    value_micros: int
    currency_code: str
