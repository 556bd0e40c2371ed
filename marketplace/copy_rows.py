"""Entries of the transaction log in the binary form of PostgreSQL's COPY, made in one go.

asyncpg writes such a row value by value, 9 microseconds for its 29 columns; a third of that is
enough where all that has a fixed length is packed at once, and the texts, which say who called whom
by which contract, come from memory. The form: PostgreSQL's documentation, COPY, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from uuid import UUID

from marketplace.chain_session import Placed

#: The columns in the order of the rows: first what has a fixed length.
COLUMNS = (
    *("transaction_id", "call_id", "worker_id", "chain_id"),
    *("started_at", "recorded_at", "duration_us", "request_bytes", "answer_bytes"),
    *("item_count", "value_micros", "sequence", "status", "reason", "code"),
    *("nonce", "record_hash", "chain_hash"),
    *("request_digest", "answer_digest", "units", "price_id"),
    *("requester_id", "provider_id", "contract_id", "service_id", "service_version", "method"),
    "currency_code",
)
#: Texts that belong together and are remembered.
_REMEMBERED = 4096
#: PostgreSQL counts microseconds from 2000.
_EPOCH_US = 946_684_800 * 10**6
_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_fixed = Struct(">h" + 4 * "i16s" + 8 * "iq" + 3 * "ih" + "i16s" + 2 * "i32s").pack
_length = Struct(">i").pack
_number = Struct(">iq").pack


def copied(placed: Iterable[Placed], worker_id: UUID) -> bytearray:
    """Give what COPY takes for these entries; `worker_id` is the worker that asked the providers.

    Raises struct.error, TypeError or UnicodeEncodeError for what cannot be an entry, and
    AttributeError where an id is no UUID.
    """
    worker, parts = worker_id.bytes, [_BEGIN]
    for entry, started_us, recorded_us, chain_id, sequence, nonce, hashed, head in placed:
        (
            transaction_id, call_id, requester_id, provider_id, contract_id, service_id,
            service_version, method, _, duration_us, status, reason, code, request_bytes,
            answer_bytes, request_digest, answer_digest, item_count, value_micros, currency_code,
            units, price_id,
        ) = entry  # fmt: skip
        parts += (
            _fixed(
                len(COLUMNS), 16, transaction_id.bytes, 16, call_id.bytes, 16, worker,
                16, chain_id.bytes, 8, started_us - _EPOCH_US, 8, recorded_us - _EPOCH_US,
                8, duration_us, 8, request_bytes, 8, answer_bytes, 8, item_count, 8, value_micros,
                8, sequence, 2, status, 2, reason, 2, code, 16, nonce, 32, hashed, 32, head,
            ),
            _length(len(request_digest)), request_digest,
            _length(len(answer_digest)), answer_digest,
            _NULL if units is None else _number(8, units),
            _NULL if price_id is None else _number(8, price_id),
            _texts(
                requester_id, provider_id, contract_id, service_id, service_version, method,
                currency_code,
            ),
        )  # fmt: skip
    parts.append(_END)
    # No bytes: asyncpg would take them for the path of a file.
    return bytearray().join(parts)


@lru_cache(maxsize=_REMEMBERED)
def _texts(*texts: str) -> bytes:
    # Not `text.encode()`: what is no text is to be a TypeError.
    raws = [str.encode(text) for text in texts]
    return b"".join(_length(len(raw)) + raw for raw in raws)
