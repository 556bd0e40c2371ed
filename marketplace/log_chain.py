"""The transaction log as hash chains: what is hashed, and how (docs/decisions/0011).

Every entry has a place in one chain. Its record hash is SHA-256 of a random nonce and of all its
columns, so that it says nothing to those who do not know the nonce; its chain hash is SHA-256 of
the chain hash before it, of its sequence number and of its record hash. No I/O here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from struct import Struct
from typing import Any, NamedTuple
from uuid import UUID

from marketplace.router.target import TransactionEntry

DAY_NS = 86_400 * 10**9
HASH_BYTES = 32
NONCE_BYTES = 16
#: The hash before the first record of the register.
REGISTER_START = sha256(b"gem transaction log register 1").digest()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_CHAIN_TAG = b"gem transaction log chain 1"
# version; which of units and price are there; transaction, call and worker id; start and time of
# recording in microseconds since 1970; duration; status, reason, code; sizes; items; value; units;
# price; lengths of the two digests.
_FIXED = Struct(">BB16s16s16sqqqhhhqqqqqqII")
_VERSION = 1
_TEXTS = 7
_sequence_bytes = Struct(">q").pack
_pack = _FIXED.pack


class ChainRecord(NamedTuple):
    """One entry as it is hashed; `started_ns` of the entry is cut to the microsecond."""

    entry: TransactionEntry
    worker_id: UUID
    recorded_us: int


def timestamp(since_epoch_ns: int) -> datetime:
    """Give the instant, cut to the microsecond that PostgreSQL keeps; the same every time."""
    return _EPOCH + timedelta(microseconds=since_epoch_ns // 1000)


def since_epoch_us(instant: datetime) -> int:
    """Give microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def day_of(since_epoch_ns: int) -> int:
    """Give the number of the day since 1970, in UTC."""
    return since_epoch_ns // DAY_NS


def date_of(day: int) -> date:
    """Give the date of a day's number; ValueError or OverflowError beyond the calendar."""
    return date.fromordinal(_EPOCH_ORDINAL + day)


def number_of(day: date) -> int:
    """Give the day's number since 1970."""
    return day.toordinal() - _EPOCH_ORDINAL


def record_bytes(entry: Sequence[Any], started_us: int, worker: bytes, recorded_us: int) -> bytes:
    """Write an entry in the one form that is hashed.

    `entry` has the fields of a TransactionEntry in order; its start is taken from `started_us`.
    The texts are separated by NUL, which no text of PostgreSQL holds. Raises struct.error,
    TypeError or AttributeError for what cannot be an entry.
    """
    (
        transaction_id, call_id, requester_id, provider_id, contract_id, service_id,
        service_version, method, _, duration_us, status, reason, code, request_bytes, answer_bytes,
        request_digest, answer_digest, item_count, value_micros, currency_code, units, price_id,
    ) = entry  # fmt: skip
    there = (units is not None) + 2 * (price_id is not None)
    fixed = _pack(
        _VERSION, there, transaction_id.int.to_bytes(16), call_id.int.to_bytes(16), worker,
        started_us, recorded_us, duration_us, status, reason, code, request_bytes, answer_bytes,
        item_count, value_micros, units or 0, price_id or 0, len(request_digest),
        len(answer_digest),
    )  # fmt: skip
    texts = (
        f"{requester_id}\0{provider_id}\0{contract_id}\0{service_id}\0{service_version}\0{method}"
        f"\0{currency_code}"
    )
    return b"".join((fixed, request_digest, answer_digest, texts.encode()))


def read_record(record: bytes) -> ChainRecord:
    """Read what `record_bytes` wrote; ValueError for anything else."""
    if len(record) < _FIXED.size:
        raise ValueError("a record is longer")
    (
        version, there, transaction_id, call_id, worker, started_us, recorded_us, duration_us,
        status, reason, code, request_bytes, answer_bytes, item_count, value_micros, units,
        price_id, first, second,
    ) = _FIXED.unpack_from(record)  # fmt: skip
    body = record[_FIXED.size :]
    texts = body[first + second :].decode().split("\0")
    if version != _VERSION or len(body) < first + second or len(texts) != _TEXTS:
        raise ValueError("this is no record of this version")
    if there > 3 or (units and not there & 1) or (price_id and not there & 2):
        raise ValueError("a number is said not to be there")
    requester_id, provider_id, contract_id, service_id, service_version, method, currency = texts
    entry = TransactionEntry(
        UUID(bytes=transaction_id), UUID(bytes=call_id), requester_id, provider_id, contract_id,
        service_id, service_version, method, started_us * 1000, duration_us, status, reason, code,
        request_bytes, answer_bytes, body[:first], body[first : first + second], item_count,
        value_micros, currency, units if there & 1 else None, price_id if there & 2 else None,
    )  # fmt: skip
    return ChainRecord(entry, UUID(bytes=worker), recorded_us)


def record_hash(nonce: bytes, record: bytes) -> bytes:
    """Give the blinded hash of a record."""
    return sha256(nonce + record).digest()


def link(previous: bytes, sequence: int, hashed: bytes) -> bytes:
    """Give the chain hash behind a record."""
    return sha256(previous + _sequence_bytes(sequence) + hashed).digest()


def chain_start(chain_id: UUID, day: int, worker_id: UUID, register_hash: bytes) -> bytes:
    """Give the hash before a chain's first record.

    It names, by the register's hash, all heads that were known when the chain began.
    """
    return sha256(
        _CHAIN_TAG + chain_id.bytes + _sequence_bytes(day) + worker_id.bytes + register_hash
    ).digest()


class Registration(NamedTuple):
    """A record of the register of chains: that one was opened, how far it came, how it ended."""

    number: int
    #: OPENED, HEAD or CLOSED.
    kind: str
    chain_id: UUID
    day: int
    worker_id: UUID
    #: Sequence number and chain hash of the chain's last entry; zero and the hash before the first.
    sequence: int
    head_hash: bytes
    recorded_us: int


def register_link(previous: bytes, record: Registration) -> bytes:
    """Give the register's hash behind a record."""
    number, kind, chain_id, day, worker_id, sequence, head_hash, recorded_us = record
    numbers = (number, day, sequence, recorded_us)
    return sha256(
        previous
        + b"".join(map(_sequence_bytes, numbers))
        + chain_id.bytes
        + worker_id.bytes
        + head_hash
        + kind.encode()
    ).digest()
