"""Merge rules of singular fields: many answers' values become one.

Every rule looks at the answers in contract order. A field without presence counts as set where it
is not zero, for no message can say more.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gem.options.v1.options_pb2 import MergeRule
from marketplace.router.paths import FLOATS, INTEGERS, FieldPath, instant_of, is_instant, reader

#: Writes one field of the merged answer from the messages in contract order.
Combine = Callable[[Any, Sequence[Any]], None]

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOAT_MAX: float = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
#: Room for the sum of more answers than there can be.
_HEADROOM_BITS = 64
_DOUBLE_MAX: float = struct.unpack("<d", b"\xff\xff\xff\xff\xff\xff\xef\x7f")[0]


def compile_singular(field: FieldDescriptor, rule: int, latest: FieldPath | None) -> Combine:
    """Give the function for one rule.

    `latest` is the path of the time inside the field, for LATEST of other messages than times.

    Raises:
        ValueError: with our own words, where the rule does not fit the field's type.
    """
    if rule == MergeRule.MERGE_RULE_FIRST:
        return _first(field)
    if rule == MergeRule.MERGE_RULE_SUM and field.cpp_type in INTEGERS:
        return _sum_of_integers(field)
    if rule == MergeRule.MERGE_RULE_SUM and field.cpp_type in FLOATS:
        return _sum_of_floats(field)
    if rule in {MergeRule.MERGE_RULE_MIN, MergeRule.MERGE_RULE_MAX} and _is_ordered(field):
        return _extreme(field, min if rule == MergeRule.MERGE_RULE_MIN else max)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if rule == MergeRule.MERGE_RULE_ANY:
            return _any_true(field)
        if rule == MergeRule.MERGE_RULE_ALL_TRUE:
            return _all_true(field)
    if rule == MergeRule.MERGE_RULE_LATEST and (latest is not None or is_instant(field)):
        return _latest(field, latest)
    raise ValueError("the merge rule does not fit the field's type")


def _is_ordered(field: FieldDescriptor) -> bool:
    return field.cpp_type in INTEGERS or field.cpp_type in FLOATS or is_instant(field)


def _values(field: FieldDescriptor) -> Callable[[Sequence[Any]], list[Any]]:
    """Give the function that lists the values that were set, in contract order."""
    name = field.name
    if field.has_presence:
        return lambda messages: [getattr(each, name) for each in messages if each.HasField(name)]
    return lambda messages: [value for each in messages if (value := getattr(each, name))]


def _write(field: FieldDescriptor) -> Callable[[Any, Any], None]:
    """Give the function that writes a value over whatever the field holds."""
    name = field.name
    if field.message_type is not None:

        def write_message(merged: Any, value: Any) -> None:
            getattr(merged, name).CopyFrom(value)

        return write_message
    return lambda merged, value: setattr(merged, name, value)


def _first(field: FieldDescriptor) -> Combine:
    values, write = _values(field), _write(field)

    def combine(merged: Any, messages: Sequence[Any]) -> None:
        for value in values(messages)[:1]:
            write(merged, value)

    return combine


def _sum_of_integers(field: FieldDescriptor) -> Combine:
    values, name = _values(field), field.name
    lowest, highest = _RANGES[field.cpp_type]

    def combine(merged: Any, messages: Sequence[Any]) -> None:
        found = values(messages)
        if found:
            setattr(merged, name, min(max(sum(found), lowest), highest))

    return combine


def _sum_of_floats(field: FieldDescriptor) -> Combine:
    values, name = _values(field), field.name
    highest = _FLOAT_MAX if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else _DOUBLE_MAX

    def combine(merged: Any, messages: Sequence[Any]) -> None:
        found = values(messages)
        if found:
            total = math.nan if any(map(math.isnan, found)) else _exact_sum(found)
            is_number = not math.isnan(total)
            setattr(merged, name, min(max(total, -highest), highest) if is_number else total)

    return combine


def _exact_sum(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except OverflowError:
        # A partial sum is too large for a float, though the whole need not be.
        scaled = math.fsum(math.ldexp(value, -_HEADROOM_BITS) for value in values)
        return scaled * 2.0**_HEADROOM_BITS
    except ValueError:
        return math.nan


def _extreme(field: FieldDescriptor, choose: Callable[..., Any]) -> Combine:
    values, write = _values(field), _write(field)
    key = instant_of if is_instant(field) else None
    is_float = field.cpp_type in FLOATS

    def combine(merged: Any, messages: Sequence[Any]) -> None:
        found = values(messages)
        if is_float:
            found = [value for value in found if not math.isnan(value)]
        if found:
            write(merged, choose(found, key=key))

    return combine


def _any_true(field: FieldDescriptor) -> Combine:
    values, name = _values(field), field.name

    def combine(merged: Any, messages: Sequence[Any]) -> None:
        found = values(messages)
        if found:
            setattr(merged, name, any(found))

    return combine


def _all_true(field: FieldDescriptor) -> Combine:
    name = field.name

    def combine(merged: Any, messages: Sequence[Any]) -> None:
        if messages:
            setattr(merged, name, all(getattr(each, name) for each in messages))

    return combine


def _latest(field: FieldDescriptor, path: FieldPath | None) -> Combine:
    values, write = _values(field), _write(field)
    time_of = reader(path) if path is not None else instant_of

    def combine(merged: Any, messages: Sequence[Any]) -> None:
        found = values(messages)
        if found:
            # Of equal times max gives the first; one without a time is older than all others.
            write(
                merged,
                max(
                    found, key=lambda value: (True, time) if (time := time_of(value)) else (False,)
                ),
            )

    return combine
