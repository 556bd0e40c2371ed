"""What the router asks of the transaction log, and the pure making of its entries.

Use case 1491: one Service Transaction entry for each provider asked, durable before the answer
leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from interceptors.call import Call
from marketplace.router.target import Answer, TransactionEntry

_OK = int(AnswerStatus.ANSWER_STATUS_OK)
_UNRESOLVED = int(AnswerStatus.ANSWER_STATUS_UNSPECIFIED)


class TransactionLog(Protocol):
    """Keeps entries durably. An intent and its final entry share `transaction_id` and `started_ns`.

    Both methods take over what they are given before they first suspend: cancelling the task that
    awaits them withdraws nothing, and the caller neither changes nor reuses the sequence
    afterwards. An entry given to `record` resolves the intent of the same key, if there is one.
    """

    async def intend(self, entries: Sequence[TransactionEntry]) -> None:
        """Return once the intents (status UNSPECIFIED) are durable; none may be asked before.

        Every intent is followed by exactly one final entry through `record`, also after a cancel.

        Raises:
            MarketError: STORAGE_UNAVAILABLE; then no intent of this call remains.
        """

    async def record(self, entries: Sequence[TransactionEntry]) -> None:
        """Return once the final entries are durable; the answer leaves only after that.

        Raises:
            MarketError: STORAGE_UNAVAILABLE; the answer must not leave.
        """


def transaction_id(call_id: UUID, ordinal: int) -> UUID:
    """Give the key of the `ordinal`-th provider, from 0, asked in a call; the first is its id."""
    return UUID(int=call_id.int ^ ordinal) if ordinal else call_id


def intent_of(
    call: Call, ordinal: int, answer: Answer, request_bytes: int, request_digest: bytes
) -> TransactionEntry:
    """Give the unresolved entry that is durable before the target of `answer` is asked."""
    return _entry(call, ordinal, answer, request_bytes, request_digest, _UNRESOLVED)


def entry_of(
    call: Call, ordinal: int, answer: Answer, request_bytes: int, request_digest: bytes
) -> TransactionEntry:
    """Give the final entry of one provider asked. Only an OK answer has the contract's value."""
    return _entry(call, ordinal, answer, request_bytes, request_digest, answer.status)


def _entry(
    call: Call,
    ordinal: int,
    answer: Answer,
    request_bytes: int,
    request_digest: bytes,
    status: int,
) -> TransactionEntry:
    assert call.caller is not None
    target = answer.target
    price = target.price
    rated = price.rated
    resolved = status != _UNRESOLVED
    value_micros, units = 0, None
    if status == _OK:
        units = answer.units
        value_micros = price.per_call_micros if rated is None else rated.value_micros(units)
    # By position: this is made for every call, and keywords cost a third more.
    return TransactionEntry(
        transaction_id(call.call_id, ordinal),
        call.call_id,
        call.caller.subject_id,
        target.provider_id,
        target.contract_id,
        target.service_id,
        target.service_version,
        call.method,
        answer.started_ns,
        answer.latency_us,
        status,
        answer.reason if resolved else 0,
        answer.code if resolved else 0,
        request_bytes,
        answer.answer_bytes,
        request_digest,
        answer.answer_digest,
        answer.item_count,
        value_micros,
        price.currency_code,
        units,
        None if rated is None else rated.price_id,
    )
