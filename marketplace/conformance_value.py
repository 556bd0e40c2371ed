"""Values that obey the rules of one field, and values that break them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from buf.validate import validate_pb2
from marketplace.conformance_pattern import text_for

#: Longest text that is made to break a rule of length.
_LONG_MAX = 100_000
_NS = 10**9
_FORMATS = {
    "email": "conformance@gem.example",
    "hostname": "conformance.gem.example",
    "ip": "192.0.2.1",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://gem.example/conformance",
    "uri_ref": "/conformance",
    "address": "conformance.gem.example",
    "host_and_port": "conformance.gem.example:443",
    "ip_with_prefixlen": "192.0.2.1/24",
    "ipv4_with_prefixlen": "192.0.2.1/24",
    "ip_prefix": "192.0.2.0/24",
    "ipv4_prefix": "192.0.2.0/24",
    "well_known_regex": "gem-conformance",
}
_ADDRESSES = {"ip": bytes([192, 0, 2, 1]), "ipv4": bytes([192, 0, 2, 1]), "ipv6": b"\x20\x01" * 8}
_INTEGER_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_Time = TypeVar("_Time", Timestamp, Duration)
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


class Values:
    """Makes values; the same seed and time make the same values."""

    def __init__(self, random: Random, now: datetime, *, plain: bool) -> None:
        """`plain` asks for the emptiest values: nearest to zero, and shortest."""
        self._random = random
        self._now = now
        self._plain = plain
        self._hours = 0

    def scalar(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Any:
        """Give a value of a scalar field or of one item of a list; None where none is known."""
        kind = rules.WhichOneof("type")
        said = getattr(rules, kind) if kind else None
        if said is not None:
            chosen = self._named(said)
            if chosen is not None:
                return chosen
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            return self._enum(field, said)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return not self._plain and self._random.random() < 0.5
        if field.cpp_type in _INTEGER_LIMITS:
            return self._integer(*_integer_bounds(field, said), said)
        if field.cpp_type in _FLOATS:
            return self._float(said)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._bytes(said)
        return self._text(said, needed=rules.required)

    def timestamp(self, rules: validate_pb2.FieldRules) -> Timestamp:
        """Give an instant, each later than the one before, so that begins come before ends."""
        said, made = rules.timestamp, Timestamp()
        self._hours += 1
        step = timedelta(minutes=self._hours)
        made.FromDatetime(self._now + (-timedelta(days=1) + step if said.lt_now else step))
        return _between(made, said, Timestamp)

    def duration(self, rules: validate_pb2.FieldRules) -> Duration:
        """Give a length of time."""
        made = Duration()
        made.FromSeconds(0 if self._plain else self._random.randint(0, 3600))
        return _between(made, rules.duration, Duration)

    def _named(self, said: Any) -> Any:
        """Give a value that the rules themselves name."""
        names = {each.name for each, _ in said.ListFields()}
        if "const" in names:
            return said.const
        for name in ("in", "example"):
            if name in names:
                return self._random.choice(list(getattr(said, name)))
        return None

    def _enum(self, field: FieldDescriptor, said: Any) -> int | None:
        refused = set(said.not_in) if said is not None else set()
        assert field.enum_type is not None
        numbers = [value.number for value in field.enum_type.values if value.number not in refused]
        if not numbers:
            return None
        return int(numbers[0] if self._plain else self._random.choice(numbers))

    def _integer(self, low: int, high: int, said: Any) -> int | None:
        if low > high:
            return None
        refused = set(said.not_in) if said is not None else set()
        value = min(max(0, low), high)
        if not self._plain:
            span = self._random.choice((10, 10**3, 10**6))
            chosen = self._random.randint(value, min(high, value + span))
            if chosen not in refused:
                return chosen
        while value in refused and value < high:
            value += 1
        return value

    def _float(self, said: Any) -> float:
        low = _first(said, "gte", "gt", default=0.0)
        high = _first(said, "lte", "lt", default=max(low, 0.0) + 2.0)
        if _first(said, "gte", "gt", default=None) is None and low > high:
            low = high - 2.0
        at_zero = low < 0 < high or (said is None and self._plain)
        return 0.0 if at_zero else float(low + (high - low) / 2)

    def _text(self, said: Any, *, needed: bool) -> str | None:
        if said is None:
            return "a" if needed else "" if self._plain else self._letters(self._between(1, 12))
        if said.pattern:
            return text_for(said.pattern, self._random, shortest=self._plain)
        name = said.WhichOneof("well_known")
        if name in ("uuid", "tuuid", "ulid"):
            number = UUID(int=self._random.getrandbits(128), version=4)
            return number.hex if name == "tuuid" else str(number)
        if name is not None and getattr(said, name):
            return _FORMATS.get(name)
        fixed = said.prefix + said.contains + said.suffix
        least, most = _lengths(said, needed=needed)
        wanted = least if self._plain else self._between(least, most)
        middle = self._letters(max(0, wanted - len(fixed)))
        return f"{said.prefix}{said.contains}{middle}{said.suffix}"

    def _bytes(self, said: Any) -> bytes | None:
        if said is None:
            return b"" if self._plain else self._random.randbytes(8)
        name = said.WhichOneof("well_known")
        if name is not None and getattr(said, name):
            return _ADDRESSES.get(name)
        if said.pattern:
            text = text_for(said.pattern, self._random, shortest=self._plain)
            return None if text is None else text.encode()
        least, most = _lengths(said, needed=False)
        fixed = said.prefix + said.contains + said.suffix
        size = least if self._plain else self._between(least, most)
        middle = self._random.randbytes(max(0, size - len(fixed)))
        return bytes(said.prefix + said.contains + middle + said.suffix)

    def _between(self, least: int, most: int) -> int:
        return self._random.randint(least, min(most, least + 12))

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices("abcdefghijklmnopqrstuvwxyz", k=count))


def broken(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Iterator[Any]:
    """Give values that may break the rules of a scalar field, the likeliest first."""
    kind = rules.WhichOneof("type")
    said: Any = getattr(rules, kind) if kind else None
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        yield from (said.not_in if said is not None else ())
        assert field.enum_type is not None
        yield max(value.number for value in field.enum_type.values) + 1000
    elif field.cpp_type in _INTEGER_LIMITS:
        low, high = _integer_bounds(field, said)
        least, most = _INTEGER_LIMITS[field.cpp_type]
        yield from (each for each in (low - 1, high + 1, 0) if least <= each <= most)
    elif field.cpp_type in _FLOATS:
        yield from (float("nan"), -1e30, 1e30)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        yield from (False, True)
    else:
        for text in _broken_texts(said):
            yield text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text


def _broken_texts(said: Any) -> Iterator[str]:
    for name in ("max_len", "max_bytes", "len", "len_bytes"):
        if said is not None and hasattr(said, name) and said.HasField(name):
            count = getattr(said, name) + 1
            if count <= _LONG_MAX:
                yield "a" * count
    yield from ("", "\x01", "~ no such value ~", "a" * 5000)


def _integer_bounds(field: FieldDescriptor, said: Any) -> tuple[int, int]:
    low, high = _INTEGER_LIMITS[field.cpp_type]
    if said is None:
        return low, high
    if said.HasField("gt") or said.HasField("gte"):
        low = said.gt + 1 if said.HasField("gt") else said.gte
    if said.HasField("lt") or said.HasField("lte"):
        high = said.lt - 1 if said.HasField("lt") else said.lte
    return low, high


def _lengths(said: Any, *, needed: bool) -> tuple[int, int]:
    for name in ("len", "len_bytes"):
        if hasattr(said, name) and said.HasField(name):
            return getattr(said, name), getattr(said, name)
    least = max(said.min_len, getattr(said, "min_bytes", 0), int(needed))
    most = [
        getattr(said, name)
        for name in ("max_len", "max_bytes")
        if hasattr(said, name) and said.HasField(name)
    ]
    return least, max(least, min(most, default=least + 12))


def _first(said: Any, *names: str, default: Any) -> Any:
    for name in names:
        if said is not None and said.HasField(name):
            return getattr(said, name)
    return default


def _between(made: _Time, said: Any, kind: type[_Time]) -> _Time:
    """Move an instant or a length of time to where its rules want it."""
    named = [said.const] if said.HasField("const") else list(getattr(said, "in", ()))
    if named:
        return kind.FromString(named[0].SerializeToString())
    low, high = _first(said, "gt", "gte", default=None), _first(said, "lt", "lte", default=None)
    value = made.ToNanoseconds()
    if low is not None and value <= low.ToNanoseconds():
        value = low.ToNanoseconds() + (_NS if said.HasField("gt") else 0)
    if high is not None and value >= high.ToNanoseconds():
        value = high.ToNanoseconds() - (_NS if said.HasField("lt") else 0)
    moved = kind()
    moved.FromNanoseconds(value)
    return moved
