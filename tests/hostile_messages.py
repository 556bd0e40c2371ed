"""Requests that no honest program sends, made from the descriptor of any message type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]  # no stubs

_VARINT, _FIXED64, _SIZED, _GROUP, _GROUP_END, _FIXED32 = range(6)
_DEPTH_MAX = 4
#: Deeper than any parser goes.
_GROUPS = 500
_ELEMENTS = 60_000
_UNKNOWN_FIELD = 1999

#: Ways to reach a field from a message: the fields on the way and the field itself.
Path = tuple[FieldDescriptor, ...]


def paths_of(message: Descriptor, above: Path = ()) -> Iterator[Path]:
    """Give the way to every field of a message, and of the messages in it, to some depth."""
    for field in message.fields:
        yield (*above, field)
        if field.message_type is not None and len(above) < _DEPTH_MAX:
            yield from paths_of(field.message_type, (*above, field))


def malformed(message: Descriptor, random: Random) -> bytes:
    """Give bytes that do not parse as the message, or break a rule by their sheer number."""
    found = list(paths_of(message))
    texts = [path for path in found if path[-1].type == FieldDescriptor.TYPE_STRING]
    lists = [path for path in found if path[-1].is_repeated and path[-1].message_type is not None]
    ways: list[Callable[[], bytes]] = [
        lambda: _plausible(message, random) + _tag(_UNKNOWN_FIELD, _SIZED) + b"\x20cut",
        lambda: _tag(_UNKNOWN_FIELD, _GROUP) * _GROUPS + _tag(_UNKNOWN_FIELD, _GROUP_END) * _GROUPS,
        lambda: _tag(_UNKNOWN_FIELD, _GROUP) + _plausible(message, random),
        lambda: _plausible(message, random) + b"\x00",
        lambda: _plausible(message, random) + b"\xff" * 11,
    ]
    if texts:
        ways.append(lambda: _at(random.choice(texts), b"\xff\xfe"))
    if lists:
        path = random.choice(lists)
        ways.append(lambda: _at(path[:-1], (_tag(path[-1].number, _SIZED) + b"\x00") * _ELEMENTS))
    return random.choice(ways)()


def odd(message: Descriptor, random: Random) -> bytes:
    """Give bytes that may well parse: fields twice, of another type, unknown, or noise."""
    ways: list[Callable[[], bytes]] = [
        lambda: _plausible(message, random) + _plausible(message, random),
        lambda: b"".join(
            _tag(field.number, _VARINT) + _VarintBytes(random.getrandbits(64))
            for field in message.fields
        ),
        lambda: b"".join(
            _tag(field.number, _FIXED64) + random.randbytes(8) for field in message.fields
        ),
        lambda: _plausible(message, random) + _sized(_UNKNOWN_FIELD, random.randbytes(100)),
        lambda: random.randbytes(random.randrange(1, 60)),
        lambda: b"",
    ]
    return random.choice(ways)()


def _plausible(message: Descriptor, random: Random, depth: int = 0) -> bytes:
    """Give some fields of the right types with whatever values."""
    parts = []
    for field in message.fields:
        for _ in range(random.randrange(3)):
            if field.message_type is not None:
                inside = b""
                if depth < _DEPTH_MAX:
                    inside = _plausible(field.message_type, random, depth + 1)
                parts.append(_sized(field.number, inside))
            elif field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
                text = random.choice(["", "a", "DE*ABC*E1", "../etc", "\u202e\u0000", "x" * 300])
                parts.append(_sized(field.number, text.encode()))
            elif field.type in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}:
                continue
            else:
                number = random.choice([0, 1, 2**31, 2**63, 2**64 - 1])
                parts.append(_tag(field.number, _VARINT) + _VarintBytes(number))
    return b"".join(parts)


def _at(path: Path, inside: bytes) -> bytes:
    """Make bytes the value of a field, inside the messages on the way to it."""
    for field in reversed(path):
        inside = _sized(field.number, inside)
    return inside


def _sized(number: int, inside: bytes) -> bytes:
    length: bytes = _VarintBytes(len(inside))
    return _tag(number, _SIZED) + length + inside


def _tag(number: int, kind: int) -> bytes:
    tag: bytes = _VarintBytes(number << 3 | kind)
    return tag
