"""Ids that sort by time, so that the transaction log's indexes grow at one end."""

from __future__ import annotations

from uuid import UUID

#: Bytes of randomness that `time_ordered_id` needs.
RANDOM_BYTES = 8

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_MASK = (1 << 62) - 1


def time_ordered_id(now_ns: int, random: bytes) -> UUID:
    """Make a UUID of version 7 (RFC 9562, 5.7).

    `now_ns` is wall-clock time in nanoseconds since 1970: 48 bits hold its milliseconds and 12
    bits the fraction of the millisecond (RFC 9562, 6.2, method 3). `random` is 8 bytes from
    `os.urandom`, of which 62 bits are used.
    """
    milliseconds, rest_ns = divmod(now_ns, 1_000_000)
    fraction = (rest_ns << 12) // 1_000_000
    tail = int.from_bytes(random, "big") & _RANDOM_MASK
    return UUID(int=(milliseconds << 80) | _VERSION_7 | (fraction << 64) | _VARIANT | tail)
