"""What a call is sent to, and what becomes of it: the values that the router's parts exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace.router.unit_price import UnitPrice

_OK = int(AnswerStatus.ANSWER_STATUS_OK)


@dataclass(frozen=True, slots=True)
class Price:
    """What one successful call costs under a contract; zero micros means free."""

    per_call_micros: int = 0
    currency_code: str = "EUR"
    #: What the contract costs instead; None where it is so much for each call.
    rated: UnitPrice | None = None

    @property
    def price_id(self) -> int | None:
        """Identifies the price where it is more than so much for each call."""
        return None if self.rated is None else self.rated.price_id


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
    """How asking one target ended. `message` is set when `status` is OK.

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
    #: What came over the wire and waits to be verified; until then the rest says how the ask would
    #: be recorded without it.
    raw: bytes | None = None
    #: Ends when what waits has been verified.
    span: AskSpan | None = None
    #: How many units the contract's price counts in the answer; None where it counts none.
    units: int | None = None

    def fail(self, status: int, reason: int, code: int) -> None:
        """Note how the ask failed."""
        self.status, self.reason, self.code = status, reason, code
        self.message = self.raw = None

    def succeed(self, message: Any, item_count: int, canonical: bytes = b"") -> None:
        """Note that the answer is verified, and counts."""
        self.status, self.reason, self.code = _OK, 0, 0
        self.message, self.canonical, self.item_count = message, canonical, item_count
        self.raw = None


class AskSpan(Protocol):
    """The trace of one ask."""

    #: Trace context for the provider; None where nothing records.
    traceparent: str | None

    def answered(self) -> None:
        """Note that the provider's part is over; `end` may come later."""

    def end(self, status: int) -> None:
        """Say how the ask ended: a value of `gem.mesh.v1.AnswerStatus`."""


class TransactionEntry(NamedTuple):
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
    #: Units that the price counts in the answer, and which price; None where it is per call.
    units: int | None = None
    price_id: int | None = None
